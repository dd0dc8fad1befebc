"""What a decoder does that minds the encoder's verdict more than the equations say: `python data/keenness.py FOLDER` goes on from the run introvae-32-0 that `data/objectives.py FOLDER` made, and fills data/training/keenness.csv."""
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from msvae_nbdev.core import atomic_path
from msvae_nbdev.fast import Adam
from msvae_nbdev.introvae import IntroVAE
from msvae_nbdev.networks import add_linear, tf
from msvae_nbdev.quality import evaluate_run
from msvae_nbdev.settle import fit_linear
from msvae_nbdev.training import load_run, ordered_batches, training_batches
from objectives import KEPT, rows, summary

WEIGHTS, EPOCHS, RATE, SEED = (1, 8, 32), 4, 5e-4, 100
TABLE = KEPT / "keenness.csv"


class Keen(IntroVAE):
    "The KL of decoded images weighs `keenness` times as much in the decoder's step, and as usual in the encoder's."

    def __init__(self, encoder, decoder, keenness, **kwargs):
        super().__init__(encoder, decoder, **kwargs)
        self.keenness = keenness
        self.negative_weight /= keenness

    def judge(self, images, training=False):
        return [kl + (self.keenness - 1) * (kl - tf.stop_gradient(kl)) for kl in super().judge(images, training)]


def go_on(source: Path, path: Path, keenness: float) -> dict:
    "Some more epochs of a finished run, and what they made of it."
    shutil.copytree(source, path, dirs_exist_ok=True)
    (path / "quality.json").unlink(missing_ok=True)
    run, prepared = load_run(path), load_run(source).prepared
    train, held = (np.flatnonzero(run.split.split == part) for part in ("train", "validation"))
    level = run.history.kl_real.iloc[run.config["warmup_epochs"] - 1]
    model = Keen(run.encoder, run.decoder, keenness, margin=2 * level, seed=SEED)
    model.compile(Adam(RATE))
    model.begin_game()
    for epoch in range(EPOCHS):
        for optimizer in (model.optimizer, model.decoder_optimizer):
            optimizer.learning_rate = RATE * (1 - epoch / EPOCHS)
        model.fit(training_batches(prepared.volumes, train, run.config["batch_size"], SEED, epoch, epoch + 1, run.config["flip"]), verbose=2)
    scores = model.evaluate(ordered_batches(prepared.volumes, held), verbose=0, return_dict=True)
    run.encoder.save(path / "encoder.keras")
    weights, share = fit_linear(run.encoder, run.decoder, ordered_batches(prepared.volumes, train), ordered_batches(prepared.volumes, held))
    add_linear(run.decoder, share * weights).save(path / "decoder.keras")
    run = load_run(path)
    return summary(run, evaluate_run(run)) | {"keenness": keenness, "epochs": EPOCHS} | {f"val_{name}": value for name, value in scores.items()}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    table = [row | {"val_kl_real": row["val_kl"]} for row in rows() if (row["objective"], row["latent_dim"], row["seed"]) == ("vae", 32, 0)] # what they stand beside
    for keenness in WEIGHTS:
        table.append(go_on(folder / "introvae-32-0", folder / f"keen-{keenness}", keenness))
        with atomic_path(TABLE) as temporary:
            pd.DataFrame(table).drop(columns=["minutes", "objective", "seed", "val_kl"], errors="ignore").dropna(axis=1, how="all").to_csv(temporary, index=False)
