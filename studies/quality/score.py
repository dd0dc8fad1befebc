"""Score runs with 500 samples each and keep what studies/07_quality shows: `python studies/quality/score.py RUN RUN` fills data/quality."""

import shutil
import sys
import time
from pathlib import Path

import numpy as np

from msvae_nbdev.core import read_json, write_json
from msvae_nbdev.evaluation.evaluate import evaluate_run
from msvae_nbdev.evaluation.similarity import check_volumes
from msvae_nbdev.latent.classify_run import classify_run
from msvae_nbdev.model.trained_run import encode, load_run

SAMPLES = 500
SHOWN = ("healthy", "ms", "leuko1", "leuko3")
FIGURES = ("quality-3-samples", "quality-4-neighbours", "quality-5-resolution")
KEPT = Path(__file__).parents[2] / "data" / "quality"


def shown_scans(table) -> dict:  # diagnosis: row of the test scan
    "One test scan per class: the first with that diagnosis."
    return {
        name: int(np.flatnonzero(table.diagnosis == name)[0])
        for name in SHOWN
        if (table.diagnosis == name).any()
    }


def quantised(volumes) -> np.ndarray:  # uint8
    "8 bit are enough to look at."
    return np.round(255 * check_volumes(volumes)).astype(np.uint8)


def keep(path: str) -> Path:
    "Evaluate one run and keep its numbers, three figures and some volumes."
    run, started = load_run(path), time.perf_counter()
    evaluate_run(run, n_samples=SAMPLES)
    seconds = time.perf_counter() - started
    if not (run.path / "lda.json").exists():
        encode(run)
        classify_run(run.path)
    target = KEPT / f"{run.config['objective']}-{run.latent_dim}"
    target.mkdir(parents=True, exist_ok=True)
    for name in ("quality.json", "quality_scans.tsv", "history.csv", "lda_scans.tsv"):
        shutil.copy(run.path / name, target / name)
    for name in FIGURES:
        shutil.copy(run.path / "figures" / f"{name}.json", target / f"{name}.json")
    write_json({"merged": read_json(run.path / "lda.json")["merged"]}, target / "lda.json")
    provenance = read_json(run.path / "provenance.json")
    description = read_json(Path(run.config["prepared"]) / "dataset_description.json")
    cohort = next(
        each["Parameters"]
        for each in description["GeneratedBy"]
        if each["Name"] == "msvae simulate"
    )
    provenance["arguments"].pop("prepared", None)
    write_json(
        provenance | {"cohort": cohort, "evaluation_seconds": round(seconds, 1)},
        target / "provenance.json",
    )
    originals, table = run.scans("test")
    chosen = shown_scans(table)
    rows = list(chosen.values())
    np.savez_compressed(
        target / "volumes.npz",
        rows=rows,
        diagnosis=list(chosen),
        reconstructions=quantised(run.reconstruct(originals[rows])),
        samples=quantised(run.sample(4, seed=0)),
        **({"originals": quantised(originals[rows])} if run.config["objective"] == "vae" else {}),
    )
    return target


if __name__ == "__main__":
    for path in sys.argv[1:]:
        target = keep(path)
        print(f"{target}: {sum(file.stat().st_size for file in target.iterdir()) / 1000:.0f} kB")
