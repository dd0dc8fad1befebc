"""Three seeds of each objective at two latent sizes: `python data/objectives.py FOLDER [NAME ...]` makes the runs of these names (such as vae-32-0), or all, and fills data/training; called again, it goes on where it stopped. Several may run at once, each with names of its own."""
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from msvae_nbdev.components import principal_components
from msvae_nbdev.core import MsvaeError, atomic_path, read_json, read_tsv
from msvae_nbdev.measures import patient_interval
from msvae_nbdev.phantom import simulate
from msvae_nbdev.quality import evaluate_run
from msvae_nbdev.training import train

COHORT = {"scale": 0.1, "seed": 8}
EPOCHS = 30
OBJECTIVES = ("vae", "introvae", "softintrovae")
PLAN = {f"{objective}-{latent_dim}-{seed}": {"objective": objective, "latent_dim": latent_dim, "seed": seed}
        for seed in range(3) for latent_dim in (32, 256) for objective in OBJECTIVES}
KEPT = Path(__file__).parent / "training"
QUALITY = {"test": ("mse", "ssim", "sharpness_ratio", "detail_correlation", "resolution_mm", "artefact"), "samples": ("sharpness_ratio", "diversity", "artefact", "frechet")}


def mirrored_pca_mse(run) -> float:
    "Test error of a PCA of the training scans and their mirror images: what linear ways begin with, for codes of no price."
    (train, _), (test, _) = run.scans("train"), run.scans("test")
    mean, directions, _ = principal_components(train, np.arange(len(train)), run.latent_dim, mirrored=True, seed=run.config["seed"])
    away = (test - mean).reshape(len(test), -1)
    rebuilt = np.clip(mean + (away @ directions.T @ directions).reshape(test.shape), 0, 1)
    return float(np.square(rebuilt - test).mean(dtype=np.float64))


def summary(run, quality: dict) -> dict:
    "One row of objectives.csv: the last epoch's validation numbers and the held-out patients' quality."
    last = run.history.iloc[-1].filter(like="val_").round(3)
    scores = {f"{part}_{name}": quality.get(part, {}).get(name) for part, names in QUALITY.items() for name in names}
    baselines = {f"{name}_mse": quality["baseline"][name]["mse"] for name in ("pca", "mean")}
    baselines["mirrored_pca_mse"] = mirrored_pca_mse(run)
    baselines |= dict(zip(("low", "high"), quality["baseline"]["pca"]["mse_difference_interval"]))
    share = read_json(run.path / "provenance.json")["linear_share"]
    return {"epochs": len(run.history), "linear_share": round(share, 3), "minutes": round(run.history.seconds.sum() / 60, 1), **last, **scores, **baselines, **quality["n"]}


def gain(path: Path, peer: Path) -> dict:
    "How much more detail the reconstructions of a run hold than those of another with the same patients: mean difference and 95 % interval by patient."
    ours, theirs = (read_tsv(run / "quality_scans.tsv") for run in (path, peer))
    differences = {"sharpness": ours.sharpness_ratio - theirs.sharpness_ratio, "detail": ours.detail_correlation - theirs.detail_correlation}
    found = {}
    for name, difference in differences.items():
        low, high = patient_interval(difference, ours.participant_id.to_numpy())
        found |= {f"{name}_gain": difference.mean(), f"{name}_low": low, f"{name}_high": high}
    return found


def rows() -> list:
    "What is there."
    return pd.read_csv(KEPT / "objectives.csv").to_dict("records") if (KEPT / "objectives.csv").exists() else []


def keep(row: dict, history: Path | None) -> None:
    "Add a row to objectives.csv, and copy the history."
    with atomic_path(KEPT / "objectives.csv") as temporary:
        pd.DataFrame([*rows(), row]).sort_values(["latent_dim", "objective", "seed"]).to_csv(temporary, index=False)
    if history is not None:
        shutil.copy(history, KEPT / "histories" / "{objective}-{latent_dim}-{seed}.csv".format(**row))


def one(folder: Path, row: dict) -> None:
    "Train, score and keep one run."
    path = folder / "{objective}-{latent_dim}-{seed}".format(**row)
    try:
        run = train(folder / "prepared", path, **row, epochs=EPOCHS, verbose=2)
    except MsvaeError as error: # diverged or collapsed: that is a result
        keep(row | {"failure": str(error).split(" (")[0]}, path / "history.csv" if (path / "history.csv").exists() else None)
        return
    peer = folder / "vae-{latent_dim}-{seed}".format(**row)
    beside = row["objective"] != "vae" and (peer / "quality.json").exists()
    keep(row | summary(run, evaluate_run(run)) | (gain(path, peer) if beside else {}), path / "history.csv")


if __name__ == "__main__":
    folder, names = Path(sys.argv[1]), sys.argv[2:] or list(PLAN)
    if not (folder / "prepared" / "scans.tsv").exists():
        simulate(folder / "prepared", prepared=True, **COHORT)
    (KEPT / "histories").mkdir(parents=True, exist_ok=True)
    settings = json.dumps({"cohort": COHORT, "epochs": EPOCHS}) + "\n"
    if rows() and (KEPT / "objectives.json").read_text() != settings:
        sys.exit(f"{KEPT} holds runs of other settings: delete them first")
    (KEPT / "objectives.json").write_text(settings)
    for row in (PLAN[name] for name in names):
        if not any(all(done[key] == value for key, value in row.items()) for done in rows()):
            one(folder, row)
