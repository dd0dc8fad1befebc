"""The proof of the audit, again.

`python data/audit/prove.py` audits sixty cohorts of each setting, drawn from the kept latents, and as many surrogates: `drawn.csv`, `surrogates.csv`.
`python data/audit/prove.py pool RUN FOLDER` simulates the pool into FOLDER, encodes it with the run RUN, and replaces `pool.parquet` and `counterfactual.npz`.
"""
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from msvae_nbdev.audit_proof import encode_pool, plan_pool, prove, prove_surrogates, simulate_pool
from msvae_nbdev.bias import counterfactuals

HERE = Path(__file__).parent


def make_pool(run: str, folder: str) -> None:
    "Simulate, encode, and decode the counterfactuals."
    from msvae_nbdev.training import load_run

    plan, run = plan_pool(), load_run(run)
    simulate_pool(folder, plan)
    pool = encode_pool(folder, plan, run)
    pool.to_parquet(HERE / "pool.parquet", index=False)
    codes = counterfactuals(pool.assign(split="train"))["codes"]
    volumes = run.decode(np.array(list(codes.values())))[..., 0]
    np.savez_compressed(HERE / "counterfactual.npz", names=list(codes), volumes=np.round(volumes * 255).astype(np.uint8))


if __name__ == "__main__":
    threadpool_limits(1)
    if sys.argv[1:2] == ["pool"]:
        make_pool(*sys.argv[2:])
    else:
        cohorts = int(sys.argv[1]) if len(sys.argv) > 1 else 60
        prove(pd.read_parquet(HERE / "pool.parquet"), cohorts).round(4).to_csv(HERE / "drawn.csv", index=False)
        prove_surrogates(cohorts).round(4).to_csv(HERE / "surrogates.csv", index=False)
