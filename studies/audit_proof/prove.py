"""The proof of the audit, again.

`python studies/audit_proof/prove.py` audits sixty cohorts of each setting and size, drawn from the
kept latents, and as many surrogates: `drawn.csv`, `surrogates.csv`, seeds 300 to 359.
The tables grow by ten cohorts of each at a time; called again, it goes on where it stopped.
`python studies/audit_proof/prove.py pool RUN FOLDER` simulates the pool into FOLDER, encodes it with
the run RUN, and replaces `pool.parquet` and `counterfactual.npz`. All tables are in data/audit.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import delayed
from pool import SETTINGS, audit_drawn, encode_pool, in_processes, plan_pool, simulate_pool
from surrogates import SCENARIOS, audit_surrogate
from threadpoolctl import threadpool_limits

from msvae_nbdev.confound.counterfactual import counterfactuals
from msvae_nbdev.core import atomic_path

KEPT = Path(__file__).parents[2] / "data" / "audit"
SEEDS = range(300, 360)  # the rules of the verdict were chosen on seeds below 300
SIZES = (230, 1000, 2000)  # participants of a drawn cohort
SCALES = (0.1, 1.0)  # of surrogate cohorts, as a share of table 1


def prove(
    pool: pd.DataFrame,  # from `encode_pool`
    seeds: Iterable[int] = SEEDS,  # one cohort of each setting and size per seed
    workers: int = 2,
) -> pd.DataFrame:  # one row per cohort
    "Audit cohorts of all settings and sizes, drawn from the pool."
    jobs = [
        delayed(audit_drawn)(pool, setting, participants, seed)
        for seed in seeds
        for participants in SIZES
        for setting in SETTINGS
    ]
    return pd.DataFrame(in_processes(jobs, workers, "auditing"))


def prove_surrogates(
    seeds: Iterable[int] = SEEDS,  # one cohort of each scenario and size per seed
    workers: int = 2,
) -> pd.DataFrame:  # one row per cohort
    "Audit surrogate cohorts of all scenarios and sizes."
    jobs = [
        delayed(audit_surrogate)(scenario, seed, scale)
        for seed in seeds
        for scale in SCALES
        for scenario in SCENARIOS
    ]
    return pd.DataFrame(in_processes(jobs, workers, "auditing"))


def make_pool(run: str, folder: str) -> None:
    "Simulate, encode, and decode the counterfactuals."
    from msvae_nbdev.model.trained_run import load_run

    plan, run = plan_pool(), load_run(run)
    simulate_pool(folder, plan)
    pool = encode_pool(folder, plan, run)
    pool.to_parquet(KEPT / "pool.parquet", index=False, compression="zstd")
    codes = counterfactuals(pool.assign(split="train")).codes
    volumes = run.decode(np.array(list(codes.values())))[..., 0]
    np.savez_compressed(
        KEPT / "counterfactual.npz",
        names=list(codes),
        volumes=np.round(volumes * 255).astype(np.uint8),
    )


def grow(path: Path, audit_seeds: Callable, first: int, cohorts: int) -> None:
    "Add to a table what it does not hold yet, ten seeds at a time."
    tables = [pd.read_csv(path)] if path.exists() else []
    missing = sorted(set(range(first, first + cohorts)) - set(tables[0].seed if tables else ()))
    for start in range(0, len(missing), 10):
        tables.append(audit_seeds(missing[start : start + 10]).round(4))
        table = pd.concat(tables, ignore_index=True)
        with atomic_path(path) as temporary:
            table.to_csv(temporary, index=False)


if __name__ == "__main__":
    threadpool_limits(1)
    if sys.argv[1:2] == ["pool"]:
        make_pool(*sys.argv[2:])
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument(
            "--first",
            type=int,
            default=SEEDS.start,
            help="the first seed; the rules were chosen on seeds below 300",
        )
        parser.add_argument("--cohorts", type=int, default=len(SEEDS))
        parser.add_argument("--workers", type=int, default=2)
        options = parser.parse_args()
        pool = pd.read_parquet(KEPT / "pool.parquet")
        grow(
            KEPT / "surrogates.csv",
            lambda seeds: prove_surrogates(seeds, options.workers),
            options.first,
            options.cohorts,
        )
        grow(
            KEPT / "drawn.csv",
            lambda seeds: prove(pool, seeds, options.workers),
            options.first,
            options.cohorts,
        )
