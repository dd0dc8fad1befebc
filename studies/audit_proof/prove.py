"""The proof of the audit: every cell, sixty cohorts, three sets of features.

`python studies/audit_proof/prove.py` audits what data/audit/proof.csv does not hold yet, and goes on where it stopped:
first each cohort with one of the sets of features in turn, so that the table is whole early, then with the others.
The rules were frozen in the commit that `FROZEN` names, before the pool was drawn.
"""

import argparse
from pathlib import Path

import pandas as pd
from cells import CELLS, Pool
from joblib import delayed
from pool import KEPT, in_processes
from threadpoolctl import threadpool_limits

from msvae_nbdev.confound.audit import audit
from msvae_nbdev.core import atomic_path

FROZEN = "6fc76a8"
SIZES = (2000, 1000)
COHORTS = 60


def audit_cohort(pool: Pool, features: str, name: str, people: int, number: int) -> dict:
    "One row of the table."
    cell, blocks = CELLS[name], max(1, 5000 // people // 2)
    cohort = pool.cohort(cell, people, number // blocks, number % blocks, blocks)
    with threadpool_limits(1):
        found = audit(cohort, evaluation="folds", permutations=499, seed=number)
    confound, adjusted = found["confound"], found["adjusted"]
    low, high = adjusted.get("interval") or (None, None)
    return {
        "features": features,
        "cell": name,
        "people": people,
        "cohort": number,
        "patients": cohort.participant_id.nunique(),
        "scans": len(cohort),
        "verdict": confound["verdict"],
        "claim": confound["claim"],
        "right": confound["verdict"] in cell.due,
        "due": " or ".join(cell.due),
        "separation_p": confound["separation_p"],
        "full_p": confound["full_p"],
        "gone_p": confound["half_left_p"],
        "overlap": confound["overlap"],
        "latents": found["latent_only"]["balanced_accuracy"],
        "adjusted": adjusted.get("balanced_accuracy"),
        "adjusted_low": low,
        "adjusted_high": high,
    }


def prove(path: Path, workers: int) -> None:
    "Add what is missing, one cohort of every cell at a time."
    done = (
        pd.read_csv(path)
        if path.exists()
        else pd.DataFrame(columns=["features", "cell", "people", "cohort"])
    )
    have = set(zip(done.features, done.cell, done.people, done.cohort))
    scans = pd.read_parquet(KEPT / "pool-scans.parquet")
    cells = [name for name, cell in CELLS.items() if cell.possible(scans)]
    names = kept_features()
    turns = [
        (number, names[(number // 2 + turn) % len(names)])  # pairs of 1000 people share nobody
        for turn in range(len(names))
        for number in range(COHORTS)
    ]
    for number, features in turns:
        missing = [
            (name, people)
            for people in SIZES
            for name in cells
            if (features, name, people, number) not in have
        ]
        if missing:
            pool = Pool(scans, pd.read_parquet(KEPT / f"pool-{features}.parquet").astype("float32"))
            jobs = [delayed(audit_cohort)(pool, features, *each, number) for each in missing]
            rows = in_processes(jobs, workers, f"{features}, cohort {number}")
            done = pd.concat([done, pd.DataFrame(rows).round(4)], ignore_index=True)
            with atomic_path(path) as temporary:
                done.to_csv(temporary, index=False)


def kept_features() -> list:
    "The sets of features in data/audit."
    names = sorted(file.stem.removeprefix("pool-") for file in KEPT.glob("pool-*.parquet"))
    return [name for name in names if name != "scans"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    prove(KEPT / "proof.csv", parser.parse_args().workers)
