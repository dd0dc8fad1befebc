"""How linear are the codes of runs, and what can be told from them? `python data/codes.py RUN ...` adds rows to data/training/codes.csv: how each latent dimension of the test scans correlates with its linear part (runs with linear ways), how much of the codes is linear in the scans' principal components, and LDA's balanced accuracy on test patients."""
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from msvae_nbdev.components import principal_components
from msvae_nbdev.core import atomic_path
from msvae_nbdev.latent import classify_run
from msvae_nbdev.training import encode, load_run

TABLE = Path(__file__).parent / "training" / "codes.csv"


def compare(run, linear) -> tuple: # codes, what the linear ways say of them, correlation of each dimension
    "The codes of a run's test scans beside what the linear ways of another run, of the same seed and size, say of these scans."
    volumes, _ = run.scans("test")
    way, codes = linear.encoder.get_layer("linear"), run.encode(volumes)
    told = volumes.reshape(len(volumes), -1) @ np.asarray(way.kernel) + np.asarray(way.bias)
    return codes, told, [np.corrcoef(told[:, number], codes[:, number])[0, 1] for number in range(codes.shape[1])]


def linearity(run) -> dict:
    "Correlation of the code with its linear part, dimension by dimension, and the share of its variance that comes from the convolutions."
    codes, told, correlations = compare(run, run)
    return {"median_correlation": np.median(correlations), "least_correlation": min(correlations), "curved_share": (codes - told).var(0).sum() / codes.var(0).sum()}


def explained(run, count: int) -> float:
    "Share of the variance of the test scans' codes that a linear map from the scans' first components gives, components and map found on training scans."
    (train, _), (test, _) = run.scans("train"), run.scans("test")
    found = principal_components(train, np.arange(len(train)), count, mirrored=run.config["flip"], seed=run.config["seed"])
    scores = [np.c_[np.ones(len(scans)), (scans - found.mean).reshape(len(scans), -1) @ found.directions.T] for scans in (train, test)]
    codes = run.encode(test)
    rest = codes - scores[1] @ np.linalg.lstsq(scores[0], run.encode(train), rcond=None)[0]
    return float(1 - rest.var(0).sum() / codes.var(0).sum())


def measure(path: str) -> dict:
    "One row."
    run = load_run(path)
    encode(run)
    found = classify_run(run.path)
    row = {"run": run.path.name, "objective": run.config["objective"], "latent_dim": run.latent_dim, "seed": run.config["seed"], "linear": run.config["linear"],
           "test_scans": int((run.split.split == "test").sum())}
    for name, part in (("five", found), ("merged", found["merged"])):
        low, high = part["balanced_accuracy_interval"]
        row |= {f"{name}_accuracy": part["balanced_accuracy"], f"{name}_low": low, f"{name}_high": high}
    row |= {f"explained_{times}": explained(run, times * run.latent_dim) for times in (1, 2) if times * run.latent_dim <= 128} # more could be fitted to anything by a few hundred scans
    return row | (linearity(run) if run.config["linear"] else {})


if __name__ == "__main__":
    rows = [measure(path) for path in sys.argv[1:]]
    before = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame()
    with atomic_path(TABLE) as temporary:
        pd.concat([before, pd.DataFrame(rows)]).drop_duplicates("run", keep="last").to_csv(temporary, index=False)
