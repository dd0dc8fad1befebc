"""A pool of phantoms scanned under several protocols each, and what three encoders make of them.

`python studies/audit_proof/pool.py FOLDER` simulates the pool into FOLDER and trains what is missing there: a VAE of 32
and an IntroVAE of 256 dimensions, on other phantoms. It writes data/audit/pool-*.parquet: who was scanned how, and the
features, and data/audit/counterfactual.npz: the mean healthy brain under another acquisition, and with a disease. A
second call goes on where the first one stopped.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from nilearn import datasets, image, maskers

from msvae_nbdev.cohort.columns import ACQUISITION
from msvae_nbdev.confound.counterfactual import counterfactuals
from msvae_nbdev.core import atomic_path, track
from msvae_nbdev.evaluation.lesion_contrast import ventricle_region
from msvae_nbdev.groups import TABLE1
from msvae_nbdev.phantom.anatomy import rng_for
from msvae_nbdev.phantom.imaging import rescan
from msvae_nbdev.phantom.scanner import PROTOCOLS, make_acquisition
from msvae_nbdev.phantom.simulate import simulate
from msvae_nbdev.space import AFFINE, SHAPE

KEPT = Path(__file__).parents[2] / "data" / "audit"
SEED = 60  # of everybody in the pool
PEOPLE = {"healthy": 3600, "ms": 1500, "leuko1": 500, "leuko2": 200, "leuko3": 400}
AGES = {"healthy": (18, 90), "ms": (20, 80)}  # uniform; the others as in table 1
SCANS = 3  # of each participant, under as many protocols
ENCODERS = {
    "vae-32": {"objective": "vae", "latent_dim": 32, "epochs": 25},
    "introvae-256": {"objective": "introvae", "latent_dim": 256, "epochs": 25},
}
TRAINED_ON = {"scale": 0.25, "seed": 31, "bias": 1.0}  # another cohort


def in_processes(jobs: list, workers: int, what: str) -> list:
    "Run the jobs in worker processes."
    try:
        return list(track(Parallel(workers, return_as="generator")(jobs), what, total=len(jobs)))
    finally:
        get_reusable_executor().shutdown()


def plan_pool(people: dict = PEOPLE, seed: int = SEED) -> list:
    "Of each participant: the row of `plan_cohort`, and the acquisitions."
    plan = [
        _planned(diagnosis, number, seed)
        for diagnosis, count in people.items()
        for number in range(count)
    ]
    return sorted(plan, key=lambda job: job[0]["number"] / people[job[0]["diagnosis"]])


def _planned(diagnosis: str, number: int, seed: int) -> tuple:
    "One participant: three of the six protocols by lot."
    rng = rng_for(seed, diagnosis, number, "pool")
    row = {
        "participant_id": f"sub-{diagnosis}{number:04d}",
        "diagnosis": diagnosis,
        "number": number,
        "session": 0,
        "age": round(_age(diagnosis, rng), 1),
        "sex": str(rng.choice(["F", "M"])),
        "years": 0.0,
    }
    wanted, found, draw = set(rng.choice(PROTOCOLS.index, SCANS, replace=False)), {}, 0
    while len(found) < SCANS:
        acquisition = make_acquisition(seed, diagnosis, number, draw, bias=0)
        draw += 1
        if acquisition["protocol"] in wanted:
            found.setdefault(acquisition["protocol"], acquisition)
    return row, list(found.values())


def _age(diagnosis: str, rng: np.random.Generator) -> float:
    "An age in years."
    if diagnosis in AGES:
        return rng.uniform(*AGES[diagnosis])
    facts = TABLE1.loc[diagnosis]
    return float(np.clip(rng.normal(facts.age_mean, facts.age_sd), 40, 95))


def simulate_pool(folder: Path, plan: list, workers: int = 2) -> None:
    "Simulate whoever is missing."
    folder.mkdir(parents=True, exist_ok=True)
    missing = [job for job in plan if not _volumes(folder, job[0]).exists()]
    in_processes([delayed(_simulate)(folder, *job) for job in missing], workers, "simulating")


def _simulate(folder: Path, row: dict, acquisitions: list) -> None:
    "The scans of one participant; of MS also those in 2D without lesions."
    volumes = rescan(row, acquisitions, SEED)
    if row["diagnosis"] == "ms":
        flat = [one for one in acquisitions if not PROTOCOLS.volumetric[one["protocol"]]]
        if flat:
            volumes = np.concatenate([volumes, rescan(row, flat, SEED, disease=0.0)])
    with atomic_path(_volumes(folder, row)) as temporary:
        with open(temporary, "wb") as file:
            np.save(file, volumes.astype(np.float16))


def _volumes(folder: Path, row: dict) -> Path:
    "The file of a participant's volumes."
    return folder / f"{row['participant_id']}.npy"


def scan_table(plan: list) -> pd.DataFrame:
    "One row per scan, in the order of the volumes; `variant` says which kind of scan."
    rows = []
    for person, acquisitions in plan:
        known = {name: person[name] for name in ("participant_id", "diagnosis", "age", "sex")}
        kinds = [(one, "plain") for one in acquisitions]
        if person["diagnosis"] == "ms":
            flat = [one for one in acquisitions if not PROTOCOLS.volumetric[one["protocol"]]]
            kinds += [(one, "no lesions") for one in flat]
        volumetric = [one for one in acquisitions if PROTOCOLS.volumetric[one["protocol"]]]
        if person["diagnosis"] in ("healthy", "ms"):
            kinds += [(one, "bright ventricles") for one in volumetric]
        for acquisition, variant in kinds:
            kept = [name for name in (*ACQUISITION, "protocol") if name in acquisition]
            rows.append(known | {name: acquisition[name] for name in kept} | {"variant": variant})
    return pd.DataFrame(rows)


def volumes_of(folder: Path, person: dict, acquisitions: list) -> np.ndarray:
    "All volumes of a participant in the order of `scan_table`, float32 (scans, 40, 48, 40, 1)."
    stored = np.load(_volumes(folder, person)).astype(np.float32)
    volumetric = [PROTOCOLS.volumetric[one["protocol"]] for one in acquisitions]
    extra = stored[: len(acquisitions)][volumetric]
    if person["diagnosis"] in ("healthy", "ms"):
        stored = np.concatenate([stored, brightened(extra)])
    return stored[..., None]


def brightened(volumes: np.ndarray, gain: float = 0.25) -> np.ndarray:
    "The surroundings of the ventricles brighter by a quarter, as bands of lesions would be."
    distance = image.math_img("a", a=_distance()).get_fdata()
    rim = np.exp(-(((distance - 6) / 5) ** 2)) * (distance > 0)
    return np.clip(volumes * (1 + gain * rim), 0, 1).astype(np.float32)


def _distance():
    "Millimetres to the ventricles, an image in the prepared space."
    import nibabel as nib
    from scipy.ndimage import distance_transform_edt

    return nib.Nifti1Image(distance_transform_edt(~ventricle_region(), sampling=4.0), AFFINE)


def regions() -> maskers.NiftiLabelsMasker:
    "Blocks of grey matter, white matter and the rest, as a masker of nilearn."
    grey = image.resample_img(
        datasets.load_mni152_gm_template(4), AFFINE, SHAPE, force_resample=True, copy_header=True
    )
    white = image.resample_img(
        datasets.load_mni152_wm_template(4), AFFINE, SHAPE, force_resample=True, copy_header=True
    )
    brain = image.resample_img(
        datasets.load_mni152_brain_mask(4),
        AFFINE,
        SHAPE,
        interpolation="nearest",
        force_resample=True,
        copy_header=True,
    )
    kinds = np.stack([grey.get_fdata(), white.get_fdata(), 0.3 * np.ones(SHAPE)]).argmax(0)
    blocks = np.indices(SHAPE)
    block = (blocks[0] // 14) * 16 + (blocks[1] // 14) * 4 + blocks[2] // 14
    labels = np.where(brain.get_fdata() > 0, 1 + kinds + 3 * block, 0)
    known, count = np.unique(labels, return_counts=True)
    labels[np.isin(labels, known[count < 30])] = 0
    labels = np.unique(labels, return_inverse=True)[1].reshape(SHAPE)
    return maskers.NiftiLabelsMasker(image.new_img_like(grey, labels.astype(np.int32)))


def train_encoders(folder: Path) -> dict:
    "The two runs, trained on phantoms of another cohort where they are missing."
    from msvae_nbdev.model.trained_run import is_finished, load_run
    from msvae_nbdev.model.training import train

    cohort = folder / "cohort"
    simulate(cohort, prepared=True, **TRAINED_ON)
    runs = {}
    for name, options in ENCODERS.items():
        run = folder / name
        if not is_finished(run):
            train(cohort, run, **options)
        runs[name] = load_run(run)
    return runs


def encode_pool(folder: Path, plan: list, runs: dict) -> None:
    "Write the table of scans and the features of each encoder, in steps of 1/32."
    import nibabel as nib

    masker, found = regions().fit(), {name: [] for name in (*runs, "regions")}
    for person, acquisitions in track(plan, "encoding the pool"):
        volumes = volumes_of(folder, person, acquisitions)
        for name, run in runs.items():
            found[name].append(run.encode(volumes))
        images = nib.Nifti1Image(np.moveaxis(volumes[..., 0], 0, -1), AFFINE)
        found["regions"].append(masker.transform(images))
    table = scan_table(plan)
    table.to_parquet(KEPT / "pool-scans.parquet", index=False, compression="zstd")
    for name, parts in found.items():
        z = np.concatenate(parts)
        assert len(z) == len(table)
        steps = 32 if name != "regions" else 500
        z = (np.round(steps * z) / steps).astype(np.float16)
        columns = [f"z_{i}" for i in range(z.shape[1])]
        frame = pd.DataFrame(z, columns=columns)
        frame.to_parquet(KEPT / f"pool-{name}.parquet", index=False, compression="zstd")


def decode_counterfactuals(run) -> None:
    "Write the brains that `counterfactuals` finds in the pool, healthy people and MS, in grey levels of a byte."
    scans = pd.read_parquet(KEPT / "pool-scans.parquet")
    table = scans.join(pd.read_parquet(KEPT / f"pool-{run.path.name}.parquet").astype("float32"))
    table = table[(table.variant == "plain") & table.diagnosis.isin(["healthy", "ms"])]
    codes = counterfactuals(table.assign(split="train")).codes
    volumes = np.concatenate([run.decode(code[None]) for code in codes.values()])
    np.savez_compressed(
        KEPT / "counterfactual.npz",
        volumes=np.round(255 * volumes[..., 0].clip(0, 1)).astype(np.uint8),
        names=list(codes),
    )


if __name__ == "__main__":
    to = Path(sys.argv[1])
    planned = plan_pool()
    simulate_pool(to / "volumes", planned)
    encoders = train_encoders(to)
    encode_pool(to / "volumes", planned, encoders)
    decode_counterfactuals(encoders["introvae-256"])
