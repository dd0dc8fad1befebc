"""The proof of the audit, again.

`python data/audit/prove.py` audits sixty cohorts of each setting and size, drawn from the kept latents, and as many surrogates: `drawn.csv`, `surrogates.csv`, seeds 300 to 359.
The tables grow by ten cohorts of each at a time; called again, it goes on where it stopped.
`python data/audit/prove.py pool RUN FOLDER` simulates the pool into FOLDER, encodes it with the run RUN, and replaces `pool.parquet` and `counterfactual.npz`.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from msvae_nbdev.audit_proof import (
    SEEDS,
    encode_pool,
    plan_pool,
    prove,
    prove_surrogates,
    simulate_pool,
)
from msvae_nbdev.confound.audit import counterfactuals
from msvae_nbdev.core import atomic_path

HERE = Path(__file__).parent


def make_pool(run: str, folder: str) -> None:
    "Simulate, encode, and decode the counterfactuals."
    from msvae_nbdev.model.training import load_run

    plan, run = plan_pool(), load_run(run)
    simulate_pool(folder, plan)
    pool = encode_pool(folder, plan, run)
    pool.to_parquet(HERE / "pool.parquet", index=False, compression="zstd")
    codes = counterfactuals(pool.assign(split="train"))["codes"]
    volumes = run.decode(np.array(list(codes.values())))[..., 0]
    np.savez_compressed(
        HERE / "counterfactual.npz",
        names=list(codes),
        volumes=np.round(volumes * 255).astype(np.uint8),
    )


def grow(path: Path, audit_seeds, first: int, cohorts: int) -> None:
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
        pool = pd.read_parquet(HERE / "pool.parquet")
        grow(
            HERE / "surrogates.csv",
            lambda seeds: prove_surrogates(seeds, options.workers),
            options.first,
            options.cohorts,
        )
        grow(
            HERE / "drawn.csv",
            lambda seeds: prove(pool, seeds, options.workers),
            options.first,
            options.cohorts,
        )
