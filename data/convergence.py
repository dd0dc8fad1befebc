"""Models on as many phantoms as the paper had scans, beside a PCA of the same size: `python data/convergence.py FOLDER [NAME ...]` makes the runs of these names, or all, and fills data/training/convergence.csv; called again, it goes on where it stopped. Several may run at once, each with names of its own."""
import sys
from pathlib import Path

import pandas as pd

from msvae_nbdev.core import atomic_path
from msvae_nbdev.phantom import simulate
from msvae_nbdev.quality import evaluate_run
from msvae_nbdev.training import train
from objectives import KEPT, gain, summary

COHORT = {"scale": 1.0, "seed": 21}
PLAN = [*(f"vae-{latent_dim}-{seed}" for latent_dim, seed in ((8, 0), (8, 1), (32, 0), (64, 0), (256, 0))), "introvae-32-0"]
TABLE = KEPT / "convergence.csv"


def rows() -> list:
    "What is there."
    return pd.read_csv(TABLE).to_dict("records") if TABLE.exists() else []


if __name__ == "__main__":
    folder, names = Path(sys.argv[1]), sys.argv[2:] or PLAN
    if not (folder / "prepared" / "scans.tsv").exists():
        simulate(folder / "prepared", prepared=True, **COHORT)
    for name in [name for name in names if name not in {row["run"] for row in rows()}]:
        objective, latent_dim, seed = name.split("-")
        settings = {"objective": objective, "latent_dim": int(latent_dim), "seed": int(seed), "epochs": 12}
        run = train(folder / "prepared", folder / name, verbose=2, **settings)
        row = {"run": name, "flip": True, "beta": 1.0, "settled": True, "pooling": "mean", "linear": run.config["linear"], **settings, **summary(run, evaluate_run(run))}
        peer = folder / f"vae-{latent_dim}-{seed}"
        row |= gain(run.path, peer) if objective != "vae" and (peer / "quality.json").exists() else {}
        with atomic_path(TABLE) as temporary:
            pd.DataFrame([*rows(), row]).to_csv(temporary, index=False)
