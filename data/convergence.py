"""A VAE on as many phantoms as the paper had scans, beside a PCA of the same size: `python data/convergence.py FOLDER` fills data/training/convergence.csv; called again, it goes on where it stopped."""
import sys
from pathlib import Path

import pandas as pd

from msvae_nbdev.core import atomic_path
from msvae_nbdev.phantom import simulate
from msvae_nbdev.quality import evaluate_run
from msvae_nbdev.training import train
from objectives import KEPT, summary

COHORT = {"scale": 1.0, "seed": 21}
EPOCHS = 12
PLAN = tuple({"latent_dim": size, "flip": flip, "beta": beta} for flip, beta in ((False, 1.0), (True, 0.3)) for size in (32, 8))

if __name__ == "__main__":
    folder, table = Path(sys.argv[1]), KEPT / "convergence.csv"
    if not (folder / "prepared" / "scans.tsv").exists():
        simulate(folder / "prepared", prepared=True, **COHORT)
    rows = pd.read_csv(table).to_dict("records") if table.exists() else []
    for settings in PLAN:
        if not any(settings.items() <= row.items() for row in rows):
            name = f"vae-{settings['latent_dim']}" + ("-flip" if settings["flip"] else "")
            run = train(folder / "prepared", folder / name, objective="vae", epochs=EPOCHS, seed=0, verbose=2, **settings)
            rows.append({"objective": "vae", "seed": 0, **settings, **summary(run, evaluate_run(run))})
            with atomic_path(table) as temporary:
                pd.DataFrame(rows).to_csv(temporary, index=False)
