"""Our registration and skull stripping beside their peers, on the same phantoms in the same run.

`python studies/preparation/peers.py WORK` adds to registration.csv, stripping.csv and chain.csv of
data/preparation what they do not hold yet, and writes throughput.json there. It needs the extra
`bench` (itk-elastix, antspyx, deepbet, PyMaxflow, torch).

Each measurement is a process of its own with one thread, so that processor seconds (user and
system) and peak memory are its own. `--flair FOLDER` adds the reference masks of real scans to
stripping.csv.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.affines import apply_affine, from_matvec

DATA = Path(__file__).parents[2] / "data" / "preparation"
REGISTRATION = ("msvae", "elastix", "ants")
STRIPPING = ("template", "level_set", "graph_cut", "network", "threshold", "deepbet")
LPS = np.diag([-1.0, -1, 1, 1])
ONE_THREAD = {
    name: "1"
    for name in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    )
}


def simulate(row: dict, seed: int, variation: float, path: Path) -> None:
    "A phantom and its truth, once."
    from msvae_nbdev.phantom.imaging import simulate_scan

    if not path.exists():
        scan = simulate_scan(row, seed, variation=variation)
        np.savez(path, picture=scan.image, brain=scan.brain, affine=scan.affine, truth=scan.to_mni)


def thick_slices(seed: int) -> list:
    "Two rows of a plan with slices of 8 mm, thicker than any protocol of the simulator has."
    from msvae_nbdev.phantom.imaging import plan_cohort

    rows = (
        plan_cohort(0.05, seed=seed)
        .query("protocol == '1.5T-2D-thick'")
        .drop_duplicates("participant_id")
        .head(2)
    )
    return [
        row | {"protocol": "8-mm-slices", "voxel": (0.94, 0.94, 8.0), "SliceThickness": 8.0}
        for row in rows.to_dict("records")
    ]


def load(path: str) -> tuple:
    "(head, affine, brain mask, truth or None): axes turned as `read_scan` does."
    if path.endswith(".npz"):
        held = np.load(path)
        images = [
            nib.as_closest_canonical(nib.Nifti1Image(held[name].astype(np.float32), held["affine"]))
            for name in ("picture", "brain")
        ]
        return (
            np.ascontiguousarray(images[0].dataobj, dtype=np.float32),
            images[0].affine,
            np.asarray(images[1].dataobj) > 0.5,
            held["truth"],
        )
    scan, mask = path.split(",")
    image, mask = (nib.as_closest_canonical(nib.load(each)) for each in (scan, mask))
    return (
        np.ascontiguousarray(image.get_fdata(dtype=np.float32)),
        image.affine,
        mask.get_fdata() > 0,
        None,
    )


def error_mm(scan_to_mni: np.ndarray, truth: np.ndarray) -> float:
    "Mean distance over the brain between where two affines put it."
    from msvae_nbdev.space import load_template

    template = load_template()
    brain = apply_affine(template.affine, np.argwhere(template.mask)[::500])
    return float(
        np.linalg.norm(
            apply_affine(scan_to_mni @ np.linalg.inv(truth), brain) - brain, axis=1
        ).mean()
    )


# --- registration: each takes a stripped brain and gives the affine from the scan to MNI ---


def msvae(brain, affine, mask):
    from msvae_nbdev.preparation.registration import _brain_template, register

    _brain_template()
    start = used()
    found = register(brain, affine, mask).scan_to_mni
    return found, start


def elastix(brain, affine, mask):
    import itk

    from msvae_nbdev.space import load_template

    template = load_template()
    fixed, moving = (
        _itk_image(itk, volume, grid)
        for volume, grid in ((template.t1, template.affine), (brain, affine))
    )
    parameters = itk.ParameterObject.New()
    parameters.AddParameterMap(itk.ParameterObject.GetDefaultParameterMap("affine"))
    start = used()
    _, result = itk.elastix_registration_method(
        fixed, moving, parameter_object=parameters, log_to_console=False
    )
    found = result.GetParameterMap(0)
    numbers, centre = (
        np.array(found["TransformParameters"], float),
        np.array(found["CenterOfRotationPoint"], float),
    )
    return _from_lps(numbers[:9].reshape(3, 3), numbers[9:], centre), start


def ants(brain, affine, mask):
    import ants as package

    from msvae_nbdev.space import load_template

    template = load_template()
    fixed, moving = (
        _ants_image(package, volume, grid)
        for volume, grid in ((template.t1, template.affine), (brain, affine))
    )
    start = used()
    result = package.registration(fixed, moving, type_of_transform="Affine")
    found = package.read_transform(result["fwdtransforms"][0])
    numbers = np.array(found.parameters)
    return _from_lps(
        numbers[:9].reshape(3, 3), numbers[9:], np.array(found.fixed_parameters)
    ), start


def _from_lps(matrix, shift, centre):
    "Scan to MNI in RAS from ITK's transform of MNI points (LPS) to scan points."
    return np.linalg.inv(LPS @ from_matvec(matrix, shift + centre - matrix @ centre) @ LPS)


def _frame(affine):
    lps = LPS @ affine
    zooms = np.linalg.norm(lps[:3, :3], axis=0)
    return zooms, lps[:3, :3] / zooms, lps[:3, 3]


def _itk_image(itk, volume, affine):
    zooms, direction, origin = _frame(affine)
    image = itk.GetImageFromArray(np.ascontiguousarray(volume.T, dtype=np.float32))
    image.SetSpacing(zooms.tolist())
    image.SetOrigin(origin.tolist())
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(direction)))
    return image


def _ants_image(package, volume, affine):
    zooms, direction, origin = _frame(affine)
    return package.from_numpy(
        np.ascontiguousarray(volume, dtype=np.float32), origin.tolist(), zooms.tolist(), direction
    )


# --- skull stripping: each takes a head and gives the brain mask ---


def template(head, affine):
    from msvae_nbdev.preparation.initial_alignment import load_head_template
    from msvae_nbdev.preparation.quality_control import _prepared_template
    from msvae_nbdev.preparation.registration import _brain_template
    from msvae_nbdev.preparation.skull_strip import _template_depth, skull_strip

    load_head_template(4), _brain_template(), _prepared_template(), _template_depth()
    start = used()
    return skull_strip(head, affine).mask, start


def deepbet(head, affine):
    from msvae_nbdev.preparation.skull_strip import skull_strip

    start = used()
    return skull_strip(head, affine, "deepbet").mask, start


def threshold(head, affine):
    "Otsu's threshold, opening by 4 mm, the largest piece, closing by 6 mm, holes filled."
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    from msvae_nbdev.preparation.skull_strip import _distance, _largest

    start = used()
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    bright = head > threshold_otsu(head)
    core = _largest(_distance(bright, zooms) > 4)
    opened = bright & (_distance(~core, zooms) <= 4)
    closed = opened | (_distance(_distance(~opened, zooms) <= 6, zooms) > 6)
    return ndimage.binary_fill_holes(closed), start


def other(method: str):
    "A method of methods.py, which begins where the template method begins."

    def strip(head, affine):
        import methods

        from msvae_nbdev.preparation.initial_alignment import load_head_template
        from msvae_nbdev.preparation.skull_strip import _template_depth

        load_head_template(4), _template_depth()
        if method == "network":
            methods.load_network()
        start = used()
        return getattr(methods, method)(head, affine), start

    return strip


level_set, graph_cut, network = map(other, ("level_set", "graph_cut", "network"))


# --- measuring ---


def used() -> tuple:
    "(processor seconds of this process and its children, seconds of the clock)."
    own, children = (
        resource.getrusage(resource.RUSAGE_SELF),
        resource.getrusage(resource.RUSAGE_CHILDREN),
    )
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime, time.perf_counter()


def measure(task: str, path: str) -> dict:
    "One method on one scan, in a process of its own."
    if task == "whole":
        return whole(path)
    head, affine, mask, truth = load(path)
    if task in ("msvae", "elastix", "ants"):
        found, start = globals()[task](np.where(mask, head, 0), affine, mask)
        end = used()
        result = {"error_mm": round(error_mm(found, truth), 3)}
    else:
        found, start = globals()[task](head, affine)
        end = used()
        result = {"dice": round(float(2 * (found & mask).sum() / (found.sum() + mask.sum())), 4)}
    return result | spent(start, end) | {"peak_mb": peak_mb()}


def spent(start: tuple, end: tuple) -> dict:
    return {"cpu_s": round(end[0] - start[0], 2), "wall_s": round(end[1] - start[1], 2)}


def peak_mb() -> int:
    "The most memory this process has had, as the kernel counts it."
    return round(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1000)


def ask(task: str, path: str) -> dict:
    done = subprocess.run(
        [sys.executable, __file__, "--task", task, path],
        capture_output=True,
        text=True,
        env={**os.environ, **ONE_THREAD},
    )
    if done.returncode:
        raise SystemExit(f"{task} on {path}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def ask_all(cases: list, methods: list, seed: int, table: Path) -> None:
    "Measure what the table does not hold yet; one row more after each."
    rows = pd.read_csv(table, keep_default_na=False).to_dict("records") if table.exists() else []
    done = {(row["scan"], row["method"], row["seed"]) for row in rows}
    for path, what in cases:
        for method in methods:
            is_reference = (what.get("kind"), method) == ("real", "deepbet")
            if (what["scan"], method, seed) not in done and not is_reference:
                rows.append({**what, "method": method, **ask(method, path), "seed": seed})
                print(rows[-1], flush=True)
                pd.DataFrame(rows).to_csv(table, index=False)


def whole(path: str) -> dict:
    "The whole chain on a head scan, as a file: error, Dice, processor seconds and memory."
    from msvae_nbdev.preparation.initial_alignment import load_head_template
    from msvae_nbdev.preparation.prepare_scan import prepare_scan
    from msvae_nbdev.preparation.quality_control import _prepared_template
    from msvae_nbdev.preparation.registration import _brain_template
    from msvae_nbdev.preparation.skull_strip import _template_depth

    held = np.load(path)
    with tempfile.TemporaryDirectory() as folder:
        file = save_scan(held, Path(folder) / "scan.nii.gz")
        load_head_template(4), _brain_template(), _prepared_template(), _template_depth()
        start = used()
        record = prepare_scan(file, Path(folder) / "out")
        end = used()
        peak = peak_mb()
        mask = nib.load(Path(folder) / "out_desc-brain_mask.nii.gz").get_fdata() > 0
        found = np.loadtxt(Path(folder) / "out_from-scan_to-MNI_affine.txt")
    dice = float(2 * (mask & held["brain"]).sum() / (mask.sum() + held["brain"].sum()))
    return {
        "status": record["status"],
        "error_mm": round(error_mm(found, held["truth"]), 3),
        "dice": round(dice, 4),
        **spent(start, end),
        "peak_mb": peak,
    }


def save_scan(held, path: Path) -> Path:
    "A phantom as scanners store it, 16 bit."
    nib.save(
        nib.Nifti1Image(
            np.round(held["picture"] * (2000 / np.percentile(held["picture"], 99.9))).astype(
                np.int16
            ),
            held["affine"],
        ),
        path,
    )
    return path


def throughput(files: list, work: Path, seed: int) -> dict:
    "Wall-clock seconds per scan of a cohort, each phantom three times, with the start of two workers."
    from msvae_nbdev.preparation.prepare import prepare

    names = [
        save_scan(np.load(path), work / f"{path.stem}_{copy}.nii.gz").name
        for copy in range(3)
        for path in files
    ]
    (work / "cohort.csv").write_text(
        "path,participant_id\n"
        + "".join(f"{name},{number % len(files)}\n" for number, name in enumerate(names))
    )
    shutil.rmtree(work / "prepared", ignore_errors=True)
    start, load = time.perf_counter(), os.getloadavg()[0]
    scans = prepare(work / "cohort.csv", work / "prepared", workers=2)
    return {
        "scans": len(scans),
        "workers": 2,
        "cores": os.cpu_count(),
        "seconds_per_scan": round((time.perf_counter() - start) / len(scans), 2),
        "load_before": round(load, 1),
        "seed": seed,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", help="a folder for the phantoms; with --task: the scan")
    parser.add_argument("--task")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--each",
        type=int,
        default=2,
        help="phantoms of each protocol; every second one without anatomical variation",
    )
    parser.add_argument(
        "--flair", type=Path, help="a BIDS dataset of real scans with derivatives/reference"
    )
    parser.add_argument("--only", default="registration,stripping,chain,throughput")
    parser.add_argument("--methods", default=",".join(REGISTRATION + STRIPPING))
    options = parser.parse_args()
    if options.task:
        print(json.dumps(measure(options.task, options.work)))
        raise SystemExit
    from flags import draw_plan

    from msvae_nbdev.phantom.scanner import PROTOCOLS

    work = Path(options.work)
    work.mkdir(parents=True, exist_ok=True)
    files = []
    plan = draw_plan(options.seed, options.each).sort_values(
        "protocol", key=lambda names: names.map(list(PROTOCOLS.index).index), kind="stable"
    )
    plan = plan.sample(frac=1, random_state=options.seed).reset_index(drop=True)
    varied = plan.groupby("protocol").cumcount() % 2
    for position in varied.sort_values(kind="stable").index:
        row = plan.loc[position].to_dict()
        files.append(work / f"{row['protocol']}_{varied[position]}_{position}.npz")
        simulate(row, options.seed, float(varied[position]), files[-1])
    for number, row in enumerate(thick_slices(options.seed)):
        files.append(work / f"{row['protocol']}_{number}_{len(plan) + number}.npz")
        simulate(row, options.seed, float(number), files[-1])
    varied_cases = [
        (
            str(path),
            {
                "scan": path.stem,
                "protocol": path.stem.split("_")[0],
                "variation": int(path.stem.split("_")[1]),
            },
        )
        for path in files
    ]
    if "registration" in options.only:
        ask_all(
            varied_cases,
            [each for each in REGISTRATION if each in options.methods.split(",")],
            options.seed,
            DATA / "registration.csv",
        )
    if "stripping" in options.only:
        cases = [
            (str(path), {"scan": path.stem, "protocol": path.stem.split("_")[0], "kind": "phantom"})
            for path in files
        ]
        for path in sorted(options.flair.glob("sub-*/**/*_FLAIR.nii.gz")) if options.flair else ():
            (reference,) = (options.flair / "derivatives" / "reference").rglob(
                path.name.replace("_FLAIR", "_desc-brain_mask")
            )
            cases.append(
                (
                    f"{path},{reference}",
                    {"scan": path.name.split("_FLAIR")[0], "protocol": "", "kind": "real"},
                )
            )
        ask_all(
            cases,
            [each for each in STRIPPING if each in options.methods.split(",")],
            options.seed,
            DATA / "stripping.csv",
        )
    if "chain" in options.only:
        ask_all(varied_cases, ["whole"], options.seed, DATA / "chain.csv")
    if "throughput" in options.only:
        (DATA / "throughput.json").write_text(
            json.dumps(throughput(files[: len(plan)], work, options.seed), indent=2) + "\n"
        )
