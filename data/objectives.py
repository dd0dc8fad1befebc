"""Three seeds of each objective at two latent sizes: `python data/objectives.py FOLDER [SEED ...]` fills data/training; called again, it goes on where it stopped. Several may run at once, each with seeds of its own."""
import json
import shutil
import sys
from pathlib import Path

import pandas as pd

from msvae_nbdev.core import MsvaeError, atomic_path
from msvae_nbdev.phantom import simulate
from msvae_nbdev.quality import evaluate_run
from msvae_nbdev.training import train

COHORT = {"scale": 0.1, "seed": 8}
EPOCHS = 30
OBJECTIVES = ("vae", "introvae", "softintrovae")
PLAN = [(objective, latent_dim, seed) for seed in range(3) for latent_dim in (32, 256) for objective in OBJECTIVES]
KEPT = Path(__file__).parent / "training"
QUALITY = {"test": ("mse", "ssim", "sharpness_ratio", "detail_correlation", "resolution_mm", "artefact"), "samples": ("sharpness_ratio", "diversity")}


def summary(run, quality: dict) -> dict:
    "One row of objectives.csv: the last epoch's validation numbers and the held-out patients' quality."
    last = run.history.iloc[-1].filter(like="val_").round(3)
    scores = {f"{part}_{name}": quality.get(part, {}).get(name) for part, names in QUALITY.items() for name in names}
    baselines = {f"{name}_mse": quality["baseline"][name]["mse"] for name in ("pca", "mean")}
    return {"epochs": len(run.history), "minutes": round(run.history.seconds.sum() / 60, 1), **last, **scores, **baselines, **quality["n"]}


def keep(row: dict, history: Path | None) -> None:
    "Add or replace a row of objectives.csv, and copy the history."
    path, name = KEPT / "objectives.csv", "{objective}-{latent_dim}-{seed}".format(**row)
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    rows = [one for one in rows if (one["objective"], one["latent_dim"], one["seed"]) != (row["objective"], row["latent_dim"], row["seed"])]
    with atomic_path(path) as temporary:
        pd.DataFrame([*rows, row]).sort_values(["latent_dim", "objective", "seed"]).to_csv(temporary, index=False)
    if history is not None:
        shutil.copy(history, KEPT / "histories" / f"{name}.csv")


def one(folder: Path, objective: str, latent_dim: int, seed: int) -> None:
    "Train, score and keep one run."
    row, path = {"objective": objective, "latent_dim": latent_dim, "seed": seed}, folder / f"{objective}-{latent_dim}-seed{seed}"
    try:
        run = train(folder / "prepared", path, objective=objective, latent_dim=latent_dim, epochs=EPOCHS, seed=seed, verbose=2)
    except MsvaeError as error: # diverged or collapsed: that is a result
        keep(row | {"failure": str(error).split(" (")[0]}, path / "history.csv" if (path / "history.csv").exists() else None)
        return
    keep(row | summary(run, evaluate_run(run)), path / "history.csv")


if __name__ == "__main__":
    folder, seeds, done = Path(sys.argv[1]), {int(seed) for seed in sys.argv[2:]} or {0, 1, 2}, set()
    if not (folder / "prepared" / "scans.tsv").exists():
        simulate(folder / "prepared", prepared=True, **COHORT)
    if (KEPT / "objectives.csv").exists():
        done = {(row.objective, row.latent_dim, row.seed) for row in pd.read_csv(KEPT / "objectives.csv").itertuples()}
    (KEPT / "histories").mkdir(parents=True, exist_ok=True)
    settings = json.dumps({"cohort": COHORT, "epochs": EPOCHS}) + "\n"
    if done and (KEPT / "objectives.json").read_text() != settings:
        sys.exit(f"{KEPT} holds runs of other settings: delete them first")
    (KEPT / "objectives.json").write_text(settings)
    for objective, latent_dim, seed in PLAN:
        if seed in seeds and (objective, latent_dim, seed) not in done:
            one(folder, objective, latent_dim, seed)
