"""Does it help to give the decoder the acquisition?

`python studies/audit_proof/harmonise.py COHORT` trains a VAE as it is and one whose decoder is
given the acquisition, on the same split of a prepared cohort and from the same seed, and adds a
row for each to data/audit/harmonise.csv. A second call makes what is missing.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import balanced_accuracy_score

from msvae_nbdev.cohort.split import split_patients
from msvae_nbdev.confound.acquisition import Protocols, usable_columns
from msvae_nbdev.confound.audit import audit
from msvae_nbdev.confound.design import NuisanceDesign
from msvae_nbdev.latent.discriminant import LatentLDA
from msvae_nbdev.model.networks import build_decoder, build_encoder, keras, tf
from msvae_nbdev.model.training import use_cores
from msvae_nbdev.model.vae import VAE
from msvae_nbdev.model.volumes import open_prepared

KEPT = Path(__file__).parents[2] / "data" / "audit" / "harmonise.csv"


class ToldVAE(VAE):
    "A VAE whose decoder gets the latent and the acquisition; without columns the plain VAE."

    def train_step(self, batch):
        volumes, told = batch
        with tf.GradientTape() as tape:
            mean, log_variance = self.encoder(volumes, training=True)
            latent = mean + tf.exp(0.5 * log_variance) * self.noise(mean)
            made = self.decoder(tf.concat([latent, told], -1), training=True)
            reconstruction = tf.reduce_mean(tf.reduce_sum(tf.square(volumes - made), (1, 2, 3, 4)))
            kl = 0.5 * tf.reduce_mean(
                tf.reduce_sum(tf.square(mean) + tf.exp(log_variance) - 1 - log_variance, -1)
            )
            loss = reconstruction + self.beta * kl
        self.optimizer.apply(
            tape.gradient(loss, self.trainable_variables), self.trainable_variables
        )
        self.step.assign_add(1)
        return self.track(loss=loss, reconstruction=reconstruction, kl=kl)


def batches(volumes, told, rows, size: int, epochs: int, seed: int):
    "Shuffled batches of scans with what the decoder is told."

    def draw():
        for epoch in range(epochs):
            order = np.random.default_rng((seed, epoch)).permutation(rows)
            for start in range(0, len(rows) - size + 1, size):
                chosen = np.sort(order[start : start + size])
                yield np.asarray(volumes[chosen]), told[chosen]

    signature = (
        tf.TensorSpec((size, *volumes.shape[1:]), tf.float32),
        tf.TensorSpec((size, told.shape[1]), tf.float32),
    )
    return tf.data.Dataset.from_generator(draw, output_signature=signature).prefetch(2)


def run(
    data,
    split,
    told,
    columns: tuple,
    name: str,
    epochs: int,
    seed: int,
    latent_dim: int,
    beta: float,
    size: int = 16,
) -> dict:
    "Train one model and measure it on the patients that it has not seen."
    train, test = np.flatnonzero(split == "train"), np.flatnonzero(split != "train")
    keras.utils.set_random_seed(seed)
    encoder, decoder = build_encoder(latent_dim), build_decoder(latent_dim + told.shape[1])
    model = ToldVAE(encoder, decoder, beta=beta, seed=seed)
    steps = len(train) // size
    model.latent_dim = latent_dim
    model.compile(
        optimizer=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(2e-3, epochs * steps, alpha=0.05)
        )
    )
    model.fit(
        batches(data.volumes, told, train, size, epochs, seed),
        epochs=epochs,
        steps_per_epoch=steps,
        verbose=2,
    )
    z = np.concatenate(
        [
            encoder(np.asarray(data.volumes[start : start + 64]), training=False)[0].numpy()
            for start in range(0, len(split), 64)
        ]
    )
    errors = np.concatenate(
        [
            np.square(
                decoder(np.concatenate([z[part], told[part]], 1), training=False).numpy()
                - np.asarray(data.volumes[part])
            ).mean((1, 2, 3, 4))
            for part in np.array_split(test, -(-len(test) // 64))
        ]
    )
    table = data.table.assign(split=split, **{f"z_{i}": z[:, i] for i in range(latent_dim)})
    protocol = Protocols(columns).fit(table[split == "train"]).transform(table)
    seen = LatentLDA(priors="uniform").fit(z[train], protocol[train]).predict(z[test])
    found = audit(table, evaluation="folds", permutations=199, seed=seed)
    low, high = found["latent_only"]["interval"]
    kept = {
        "verdict": found["confound"]["verdict"],
        "latent_only": found["latent_only"]["balanced_accuracy"],
        "latent_only low": low,
        "latent_only high": high,
        "adjusted": found["adjusted"]["balanced_accuracy"],
        "partial_p": found["confound"]["acquisition"]["partial_p"],
        "full_p": found["confound"]["full_p"],
    }
    return {
        "decoder": name,
        "latent_dim": latent_dim,
        "beta": beta,
        "epochs": epochs,
        "seed": seed,
        "train_scans": len(train),
        "held_out_scans": len(test),
        "mse": float(errors.mean()),
        "protocol_accuracy": balanced_accuracy_score(protocol[test], seen),
        "protocols": len(set(protocol[test])),
        **kept,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latent-dim", type=int, default=32)
    parser.add_argument(
        "--beta",
        type=float,
        default=1.0,
        help="weight of the KL beside the squared error (default 1)",
    )
    options = parser.parse_args()
    use_cores()
    data = open_prepared(options.cohort)
    split = np.asarray(split_patients(data.table, test=0.15, validation=0.15, seed=options.seed))
    known = data.table[split == "train"]
    columns = tuple(
        name for name, found in usable_columns(known).items() if found["status"] == "ok"
    )
    features = NuisanceDesign(columns).fit(known).transform(data.table)
    features = (features - features[split == "train"].mean(0)) / np.maximum(
        features[split == "train"].std(0), 1e-6
    )
    rows = pd.read_csv(KEPT).to_dict("records") if KEPT.exists() else []
    for name, told in (
        ("as it is", features[:, :0]),
        ("told the acquisition", features.astype(np.float32)),
    ):
        asked = {
            "decoder": name,
            "latent_dim": options.latent_dim,
            "beta": options.beta,
            "epochs": options.epochs,
            "seed": options.seed,
        }
        if not any(asked.items() <= row.items() for row in rows):
            rows.append(
                run(
                    data,
                    split,
                    told,
                    columns,
                    name,
                    options.epochs,
                    options.seed,
                    options.latent_dim,
                    options.beta,
                )
            )
            pd.DataFrame(rows).round(5).to_csv(KEPT, index=False)
            print(rows[-1])
