"""How often the quality control flags a spoiled scan, and how often a good one.

`python studies/preparation/flags.py WORK --seed 404` writes data/preparation/flags-404.csv. It
simulates good phantoms of every protocol, four fifths of them hard (old, in thick slices, of low
contrast, or all of it), spoils as many on purpose (spoil.py), prepares all of them, and keeps each
scan's measures and verdict; the table grows by a dozen phantoms at a time. `--flair FOLDER` adds
the real scans of a BIDS dataset. Run again, it goes on where it stopped; `--measure` only measures
again what is prepared already.
"""

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import spoil
from joblib import Parallel, delayed

from msvae_nbdev.phantom.imaging import plan_cohort, simulate_scan
from msvae_nbdev.phantom.scanner import PROTOCOLS
from msvae_nbdev.preparation.prepare import prepare

DATA = Path(__file__).parents[2] / "data" / "preparation"


def draw_plan(seed: int, each: int) -> pd.DataFrame:
    "`each` phantoms of every protocol, one scan each; a larger plan begins with the smaller one."
    plan = (
        plan_cohort(0.2, seed=seed, bias=0.0)
        .drop_duplicates("participant_id")
        .sample(frac=1, random_state=seed)
    )
    parts = [
        plan[plan.protocol == name].head(each).assign(turn=range(each)) for name in PROTOCOLS.index
    ]
    return (
        pd.concat(parts)
        .sort_values("turn", kind="stable")
        .drop(columns="turn")
        .reset_index(drop=True)
    )


def write(scan, path: Path) -> None:
    "A scan as scanners store it, 16 bit."
    path.parent.mkdir(parents=True, exist_ok=True)
    volume = scan.image * (2000 / np.percentile(scan.image, 99.9))
    image = nib.Nifti1Image(np.round(volume).astype(np.int16), scan.affine)
    nib.save(image, path.with_name(f"part-{path.name}"))
    path.with_name(f"part-{path.name}").rename(path)


def make(row: dict, position: int, seed: int, work: Path) -> list:
    "One good scan, and one spoiled; rows of the table of what was done."
    kind = list(spoil.SPOIL)[position % len(spoil.SPOIL)]
    member = spoil.MEMBERS[position % len(spoil.MEMBERS)]
    rng = np.random.default_rng([seed, position])
    names = [f"{name}-{position:03d}.nii" for name in ("good", "bad", "stripped")]
    good, bad, stripped = (work / "scans" / name for name in names)
    note = bad.with_suffix(".txt")
    if not note.exists():
        row, contrast = spoil.harden(row, member, rng)
        with contrast:
            scan = simulate_scan(row, seed)
        write(scan, good)
        if kind == "T1":
            with spoil.t1_contrast():
                spoiled, detail = simulate_scan(row, seed), "T1-weighted"
        else:
            spoiled, detail = spoil.SPOIL[kind](scan, rng)
        write(spoiled, bad)
        if kind == "strip":
            image = np.where(scan.brain, np.maximum(scan.image, 1e-3), 0)
            write(scan._replace(image=image), stripped)
        note.write_text(detail)
    rows = [
        {"path": good, "kind": "good", "detail": "", "method": "template"},
        {"path": bad, "kind": kind, "detail": note.read_text(), "method": "template"},
    ]
    if kind == "strip":
        rows[1]["method"] = "none"
        rows.append({"path": stripped, "kind": "good", "detail": "stripped", "method": "none"})
    about = {"member": member, "protocol": row["protocol"]}
    return [each | about | {"participant_id": _participant(each["path"])} for each in rows]


def _participant(path: Path) -> str:
    return f"sub-{path.stem.replace('-', '')}"


def real_scans(dataset: Path) -> list:
    "Rows for the real scans of a BIDS dataset."
    about = {"kind": "good", "detail": "real", "member": "real", "protocol": "real"}
    return [
        about | {"path": path, "method": "template", "participant_id": f"sub-real{number}"}
        for number, path in enumerate(sorted(dataset.glob("sub-*/**/*_FLAIR.nii.gz")), 1)
    ]


def score(table: pd.DataFrame, work: Path, workers: int) -> pd.DataFrame:
    "Prepare what is not prepared yet; every scan's measures and verdict."
    scores = []
    for method, part in table.groupby("method"):
        part.to_csv(work / f"{method}.csv", index=False)
        scans = prepare(
            work / f"{method}.csv", work / f"prepared-{method}", workers=workers, skull_strip=method
        )
        found = scans.loc[:, ["participant_id", *scans.loc[:, "status":"ghost"]]]
        scores.append(part.merge(found, on="participant_id"))
    scores = pd.concat(scores)
    scores["reason"] = scores.reason.str.replace(str(work), "WORK", regex=False)
    return scores.drop(columns=["path", "method"]).sort_values("participant_id")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seed", type=int, default=404)
    parser.add_argument("--each", type=int, default=14, help="phantoms of each protocol")
    parser.add_argument("--first", type=int, help="only so many phantoms")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--flair", type=Path, help="a BIDS dataset of real scans")
    options = parser.parse_args()
    work = options.work / str(options.seed)
    plan = draw_plan(options.seed, options.each).head(options.first or 1000).to_dict("records")
    table, together = real_scans(options.flair) if options.flair else [], 2 * len(PROTOCOLS)
    for first in range(0, len(plan), together):
        rows = Parallel(options.workers)(
            delayed(make)(row, position, options.seed, work)
            for position, row in enumerate(plan[first : first + together], first)
        )
        table += [row for group in rows for row in group]
        scores = score(pd.DataFrame(table), work, options.workers).assign(seed=options.seed)
        scores.to_csv(DATA / f"flags-{options.seed}.csv", index=False)
        flagged = scores.assign(flagged=scores.status != "ok").groupby("kind").flagged
        print(flagged.agg(["mean", "sum", "size"]), flush=True)
