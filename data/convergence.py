"""Models on as many phantoms as the paper had scans, beside a PCA of the same size: `python data/convergence.py FOLDER [NAME ...]` makes the runs of these names, or all, and fills data/training/convergence.csv; called again, it goes on where it stopped. Several may run at once, each with names of its own."""
import sys
from pathlib import Path

import pandas as pd

from msvae_nbdev.core import atomic_path
from msvae_nbdev.phantom import simulate
from msvae_nbdev.quality import evaluate_run
from msvae_nbdev.training import train
from objectives import KEPT, summary

COHORTS = {"prepared": {"scale": 1.0, "seed": 21}, "prepared-3": {"scale": 3.0, "seed": 22}}
PLAIN, MIRRORED = {"flip": False}, {"flip": True, "beta": 0.3}
PLAN = {"vae-32": PLAIN, "vae-8": PLAIN, "vae-32-flip": MIRRORED, "vae-8-flip": MIRRORED, "vae-8-flip-24": MIRRORED | {"epochs": 24}, "vae-64-flip": MIRRORED, "vae-256-flip": MIRRORED,
        **{f"vae-8-flip-3-{epochs}": MIRRORED | {"epochs": epochs, "cohort": "prepared-3"} for epochs in (6, 8)},
        "vae-8-default": {}, "vae-32-default": {}, "vae-8-default-1": {"seed": 1}}
TABLE = KEPT / "convergence.csv"


def rows() -> list:
    "What is there."
    return pd.read_csv(TABLE).to_dict("records") if TABLE.exists() else []


if __name__ == "__main__":
    folder, names = Path(sys.argv[1]), sys.argv[2:] or list(PLAN)
    for name in [name for name in names if name not in {row["run"] for row in rows()}]:
        settings = {"objective": name.split("-")[0], "latent_dim": int(name.split("-")[1]), "seed": 0, "epochs": 12, **PLAN[name]}
        cohort = settings.pop("cohort", "prepared")
        if not (folder / cohort / "scans.tsv").exists():
            simulate(folder / cohort, prepared=True, **COHORTS[cohort])
        run = train(folder / cohort, folder / name, verbose=2, **settings)
        row = {"run": name, "flip": True, "beta": 1.0, "settled": True, **settings, **summary(run, evaluate_run(run))}
        with atomic_path(TABLE) as temporary:
            pd.DataFrame([*rows(), row]).to_csv(temporary, index=False)
