"""A VAE on as many phantoms as the paper had scans, beside a PCA of the same size: `python data/convergence.py FOLDER [LATENT ...]` fills data/training/convergence.csv; called again, it goes on where it stopped. Several may run at once, each with latent sizes of its own."""
import sys
from pathlib import Path

import pandas as pd

from msvae_nbdev.core import atomic_path
from msvae_nbdev.phantom import simulate
from msvae_nbdev.quality import evaluate_run
from msvae_nbdev.training import train
from objectives import KEPT, summary

COHORT = {"scale": 1.0, "seed": 21}
DEFAULTS, MIRRORED = {"flip": False, "beta": 1.0}, {"flip": True, "beta": 0.3}
PLAN = [{"latent_dim": size, "epochs": epochs, **settings}
        for settings, epochs, sizes in ((DEFAULTS, 12, (32, 8)), (MIRRORED, 12, (32, 8, 64)), (MIRRORED, 24, (8,))) for size in sizes]
TABLE = KEPT / "convergence.csv"


def rows() -> list:
    "What is there."
    return pd.read_csv(TABLE).to_dict("records") if TABLE.exists() else []


if __name__ == "__main__":
    folder, sizes = Path(sys.argv[1]), {int(size) for size in sys.argv[2:]} or {settings["latent_dim"] for settings in PLAN}
    if not (folder / "prepared" / "scans.tsv").exists():
        simulate(folder / "prepared", prepared=True, **COHORT)
    for settings in PLAN:
        if settings["latent_dim"] in sizes and not any(settings.items() <= row.items() for row in rows()):
            name = f"vae-{settings['latent_dim']}" + ("-flip" if settings["flip"] else "") + (f"-{settings['epochs']}" if settings["epochs"] != 12 else "")
            run = train(folder / "prepared", folder / name, objective="vae", seed=0, verbose=2, **settings)
            row = {"objective": "vae", "seed": 0, **settings, **summary(run, evaluate_run(run))}
            with atomic_path(TABLE) as temporary:
                pd.DataFrame([*rows(), row]).to_csv(temporary, index=False)
