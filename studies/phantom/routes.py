"""Whether the two routes of the simulator agree.

`python studies/phantom/routes.py --seed 77 --participants 20` draws participants at random from a
cohort. Each is simulated as a raw scan and prepared by `prepare_scan` (the raw route), and
simulated straight into the prepared layout (the prepared route). Each adds a row to
data/phantom/routes.csv. Run again, it goes on where it stopped.
"""

import argparse
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from msvae_nbdev.core import MsvaeError, atomic_path
from msvae_nbdev.phantom.anatomy import rng_for
from msvae_nbdev.phantom.imaging import plan_cohort, simulate_prepared
from msvae_nbdev.phantom.participant import make_participant
from msvae_nbdev.phantom.pose import make_pose, registered_affine
from msvae_nbdev.phantom.simulate import write_raw
from msvae_nbdev.preparation.prepare_scan import SUFFIX, prepare_scan
from msvae_nbdev.space import TRIM_AFFINE, TRIM_SHAPE, block_mean, load_template, resample

KEPT = Path(__file__).parents[2] / "data" / "phantom" / "routes.csv"


def compare(row: dict, seed: int, mask: np.ndarray, places: np.ndarray) -> dict:
    "One scan by both routes: correlation and histogram overlap inside `mask`, and the affines."
    try:
        status, raw, found = by_raw_route(row, seed)
    except MsvaeError as error:
        return {"status": f"failed: {str(error).split(': ')[-1]}"}
    difference = expected_affine(row, seed) @ np.linalg.inv(found)
    apart = nib.affines.apply_affine(difference, places) - places
    result = {"status": status, "apart_mm": np.linalg.norm(apart, axis=1).mean()}
    for name, affine in (("expected", None), ("found", found)):
        prepared = simulate_prepared(row, seed, affine=affine)[0]
        result |= {
            f"correlation_{name}": np.corrcoef(raw[mask], prepared[mask])[0, 1],
            f"overlap_{name}": histogram_overlap(raw[mask], prepared[mask]),
        }
    return result


def by_raw_route(row: dict, seed: int) -> tuple:
    "(status, prepared volume, affine found) of a raw scan that `prepare_scan` has prepared."
    with tempfile.TemporaryDirectory() as folder:
        write_raw(row, folder, seed)
        (scan,) = Path(folder).glob("sub-*/**/*_FLAIR.nii.gz")
        status = prepare_scan(scan, f"{folder}/out")["status"]
        volume = nib.load(f"{folder}/out{SUFFIX}.nii.gz").get_fdata(dtype=np.float32)
        return status, volume, np.loadtxt(f"{folder}/out_from-scan_to-MNI_affine.txt")


def expected_affine(row: dict, seed: int) -> np.ndarray:
    "The affine from the scan to MNI that the prepared route assumes a registration to find."
    anatomy = make_participant(row, seed).anatomy
    name = seed, row["diagnosis"], row["number"], row["session"], "pose"
    pose = make_pose(rng_for(*name), anatomy.size)
    return registered_affine(pose, anatomy.displacement)


def histogram_overlap(first: np.ndarray, second: np.ndarray) -> float:
    "The area that two histograms of intensities in [0, 1] share: 1 if they are the same."
    bins = np.linspace(0, 1, 51)
    shares = [np.histogram(values, bins)[0] / len(values) for values in (first, second)]
    return np.minimum(*shares).sum()


def main(seed: int, participants: int) -> None:
    "Add a row for each participant that the table does not hold yet."
    threadpool_limits(1)
    template = load_template()
    brain = template.mask.astype(np.float32)
    mask = block_mean(resample(brain, template.affine, TRIM_SHAPE, TRIM_AFFINE)) > 0.5
    places = nib.affines.apply_affine(template.affine, np.argwhere(template.mask)[::500])
    plan = plan_cohort(0.2, seed=seed, bias=0.0).drop_duplicates("participant_id")
    rows = pd.read_csv(KEPT).to_dict("records") if KEPT.exists() else []
    done = {(each["seed"], each["participant_id"]) for each in rows}
    for row in plan.sample(participants, random_state=seed).to_dict("records"):
        if (seed, row["participant_id"]) not in done:
            facts = {"seed": seed, **{name: row[name] for name in ("participant_id", "protocol")}}
            rows.append(facts | compare(row, seed, mask, places))
            with atomic_path(KEPT) as temporary:
                pd.DataFrame(rows).round(4).to_csv(temporary, index=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=77, help="seed of the cohort")
    parser.add_argument("--participants", type=int, default=20, help="how many are drawn")
    options = parser.parse_args()
    main(options.seed, options.participants)
