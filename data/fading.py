"""Could the convolutions do without the linear ways they learnt beside? `python data/fading.py FOLDER KIND NAME ...`, with the folder of data/objectives.py, trains runs (such as vae-32-0) whose linear ways fade out over the first third of the epochs, those of the encoder (KIND encoder) or of both networks (both), and adds rows to data/training/fading.csv; called again, it goes on where it stopped."""
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from msvae_nbdev import training
from msvae_nbdev.core import atomic_path, read_json
from msvae_nbdev.quality import evaluate_run

from codes import compare
from objectives import EPOCHS, PLAN

TABLE = Path(__file__).parent / "training" / "fading.csv"
GONE = EPOCHS // 3 # epochs after which nothing is left


def share(epoch: int) -> float:
    "How much of a way is left, from one to none along a smooth step."
    left = max(0.0, 1 - epoch / GONE)
    return left * left * (3 - 2 * left)


class Fading(training.Recorder):
    "Lets the linear ways of `networks` fade; the best epoch is looked for among those without."
    networks = ("encoder",)

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        if epoch >= GONE:
            self.best = min((row["val_loss"] for row in self.history[GONE:]), default=np.inf)
        if 0 < epoch <= GONE:
            for name in self.networks:
                way = getattr(self.model, name).get_layer("linear")
                way.set_weights([weights * share(epoch) / share(epoch - 1) for weights in way.get_weights()])


def row(folder: Path, kind: str, name: str) -> dict:
    "Train and score one run."
    run = training.train(folder / "prepared", folder / f"{kind}-faded-{name}", **PLAN[name], epochs=EPOCHS, verbose=2)
    assert not np.any(run.encoder.get_layer("linear").kernel)
    found = read_json(run.path / "quality.json") if (run.path / "quality.json").exists() else evaluate_run(run)
    _, _, correlations = compare(run, training.load_run(folder / name))
    last, test, pca = run.history.tail(5).mean(), found["test"], found["baseline"]["pca"]
    return {"faded": kind, **PLAN[name], **found["n"], "val_reconstruction": run.history.val_reconstruction.iloc[-1], "test_mse": test["mse"], "pca_mse": pca["mse"],
            "sharpness": test["sharpness_ratio"], "detail_correlation": test["detail_correlation"], "resolution_mm": test["resolution_mm"],
            "kl_samples_over_scans": last.val_kl_sample / last.val_kl_real if "val_kl_sample" in last else np.nan, "samples_frechet": found["samples"]["frechet"],
            "linear_share": read_json(run.path / "provenance.json")["linear_share"], "median_correlation": np.median(correlations), "least_correlation": min(correlations)}


if __name__ == "__main__":
    folder, kind, names = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    Fading.networks = {"encoder": ("encoder",), "both": ("encoder", "decoder")}[kind]
    training.Recorder = Fading
    for name in names:
        found = row(folder, kind, name)
        before = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame()
        with atomic_path(TABLE) as temporary:
            pd.concat([before, pd.DataFrame([found])]).drop_duplicates(["faded", "objective", "latent_dim", "seed"], keep="last").to_csv(temporary, index=False)
