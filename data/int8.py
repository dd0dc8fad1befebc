"""What eight bits do to the latents of finished runs: `python data/int8.py RUN [RUN ...]` fills data/training/int8.csv. Needs the extra `int8`."""
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from msvae_nbdev.core import atomic_path
from msvae_nbdev.int8 import LARGEST_DEVIATION
from msvae_nbdev.training import load_run

TABLE = Path(__file__).parent / "training" / "int8.csv"


def compare(path: str) -> dict:
    "Held-out scans in 32 and in eight bits."
    run = load_run(path)
    volumes, _ = run.scans("test")
    exact, found = (run.encode(volumes, precision=precision) for precision in ("float32", "int8"))
    correlation = [np.corrcoef(one, other)[0, 1] for one, other in zip(exact.T, found.T)]
    return {"run": run.path.name, "test_scans": len(volumes), "deviation": np.sqrt(np.mean((found - exact) ** 2) / exact.var(0).mean()),
            "median_correlation": np.median(correlation), "least_correlation": np.min(correlation), "limit": LARGEST_DEVIATION}


if __name__ == "__main__":
    with atomic_path(TABLE) as temporary:
        pd.DataFrame([compare(path) for path in sys.argv[1:]]).round(5).to_csv(temporary, index=False)
