"""Do the two doors of the simulator agree? `python data/phantom/doors.py --seed 77 --people 20` takes people at random from a cohort, simulates each as a raw scan and brings it through `prepare_scan`,
simulates the same scan straight into the prepared layout, and adds a row for each to doors.csv. Called again, it goes on where it stopped."""

import argparse
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from msvae_nbdev.core import MsvaeError, atomic_path
from msvae_nbdev.phantom.simulate import (
    make_anatomy,
    make_pose,
    plan_cohort,
    registered_affine,
    simulate_prepared,
    stream,
    write_raw,
)
from msvae_nbdev.preparation.prepare import SUFFIX, prepare_scan
from msvae_nbdev.space import TRIM_AFFINE, TRIM_SHAPE, block_mean, load_template, resample

KEPT = Path(__file__).parent / "doors.csv"


def compare(row: dict, seed: int, mask: np.ndarray, places: np.ndarray) -> dict:
    "One person through both doors."
    with tempfile.TemporaryDirectory() as folder:
        write_raw(row, folder, seed)
        (scan,) = Path(folder).glob("sub-*/**/*_FLAIR.nii.gz")
        try:
            status = prepare_scan(scan, f"{folder}/out")["status"]
        except MsvaeError as error:
            return {"status": f"failed: {str(error).split(': ')[-1]}"}
        through = nib.load(f"{folder}/out{SUFFIX}.nii.gz").get_fdata(dtype=np.float32)[mask]
        found = np.loadtxt(f"{folder}/out_from-scan_to-MNI_affine.txt")
    anatomy = make_anatomy(
        seed, row["diagnosis"], row["number"], row["sex"], row["age"] + row["years"]
    )
    expected = registered_affine(
        make_pose(
            stream(seed, row["diagnosis"], row["number"], row["session"], "pose"), anatomy.size
        ),
        anatomy.displacement,
    )
    apart = nib.affines.apply_affine(expected @ np.linalg.inv(found), places) - places
    result = {"status": status, "apart_mm": np.linalg.norm(apart, axis=1).mean()}
    for name, affine in (("expected", None), ("found", found)):
        straight = simulate_prepared(row, seed, affine=affine)[0][mask]
        shares = [
            np.histogram(values, np.linspace(0, 1, 51))[0] / len(values)
            for values in (through, straight)
        ]
        result |= {
            f"correlation_{name}": np.corrcoef(through, straight)[0, 1],
            f"overlap_{name}": np.minimum(*shares).sum(),
        }
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--people", type=int, default=20)
    options = parser.parse_args()
    threadpool_limits(1)
    template = load_template()
    mask = (
        block_mean(
            resample(
                template.mask.astype(np.float32),
                template.affine,
                TRIM_SHAPE,
                TRIM_AFFINE,
                np.eye(4),
            ),
            4,
        )
        > 0.5
    )
    places = nib.affines.apply_affine(template.affine, np.argwhere(template.mask)[::500])
    plan = (
        plan_cohort(0.2, seed=options.seed, bias=0.0)
        .drop_duplicates("participant_id")
        .sample(options.people, random_state=options.seed)
    )
    rows = pd.read_csv(KEPT).to_dict("records") if KEPT.exists() else []
    done = {(each["seed"], each["participant_id"]) for each in rows}
    for row in plan.to_dict("records"):
        if (options.seed, row["participant_id"]) in done:
            continue
        rows.append(
            {
                "seed": options.seed,
                "participant_id": row["participant_id"],
                "protocol": row["protocol"],
                **compare(row, options.seed, mask, places),
            }
        )
        with atomic_path(KEPT) as temporary:
            pd.DataFrame(rows).round(4).to_csv(temporary, index=False)
