"""Is it the code or the decoder that loses detail? `python data/detail.py RUN` adds to data/training/detail.csv: reconstructions of the run's test scans by the convolutions of its decoder alone, by a linear decoder fitted to the same codes of the training scans, by the run's decoder with both ways, and by a PCA."""
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from msvae_nbdev.core import atomic_path
from msvae_nbdev.measures import brain_mask, resolution_mm, soft_window, spectral_scores
from msvae_nbdev.networks import keras
from msvae_nbdev.quality import fit_pca
from msvae_nbdev.training import load_run

TABLE = Path(__file__).parent / "training" / "detail.csv"


def linear_map(codes: np.ndarray, volumes: np.ndarray, ridge: float = 1e-2) -> np.ndarray: # (1 + k, voxels)
    "Least squares from codes and a constant to volumes."
    basis = np.column_stack([np.ones(len(codes)), codes])
    products = np.zeros((basis.shape[1], int(np.prod(volumes.shape[1:]))))
    for start in range(0, len(codes), 256):
        chunk = slice(start, start + 256)
        products += basis[chunk].T @ volumes[chunk].reshape(-1, products.shape[1])
    return np.linalg.solve(basis.T @ basis + ridge * np.eye(basis.shape[1]), products)


def measure(run) -> list:
    "Four rows: the run, linear from its codes, both, PCA."
    train, test = run.scans("train")[0], run.scans("test")[0]
    codes, held = run.encode(train), run.encode(test)
    convolutions = keras.Model(run.decoder.input, run.decoder.get_layer("intensity").output)
    ways = {"convolutions": convolutions.predict(held, verbose=0),
            "linear from the same codes": (np.column_stack([np.ones(len(held)), held]) @ linear_map(codes, train)).reshape(test.shape),
            "both": run.decode(held),
            "PCA": fit_pca(train, run.latent_dim).reconstruct(test)[..., None]}
    window, rows = soft_window(brain_mask(test)), []
    for name, volumes in ways.items():
        volumes = np.clip(volumes, 0, 1).astype(np.float32)
        scores = spectral_scores(test, volumes, window)
        rows.append({"way": name, "mse": float(np.square(test - volumes).mean(dtype=np.float64)), "sharpness_ratio": scores.sharpness_ratio.mean(),
                     "detail_correlation": scores.detail_correlation.mean(), "resolution_mm": resolution_mm(scores.frequencies, scores.shell_correlation), "artefact": scores.artefact})
    return rows


if __name__ == "__main__":
    run = load_run(sys.argv[1])
    rows = [{"run": run.path.name, "linear": run.config.get("linear", False), "latent_dim": run.latent_dim, "train_scans": int((run.split.split == "train").sum()), **row} for row in measure(run)]
    before = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame()
    with atomic_path(TABLE) as temporary:
        pd.concat([before, pd.DataFrame(rows)]).to_csv(temporary, index=False)
