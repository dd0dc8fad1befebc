"""Does it help to give the decoder the acquisition?

`python studies/audit_proof/harmonise.py COHORT` trains a VAE as it is and one whose decoder is
given the acquisition, on the same split of a prepared cohort and from the same seed, and adds a
row for each to data/audit/harmonise.csv. A second call makes what is missing.
"""

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import balanced_accuracy_score

from msvae_nbdev.cohort.split import split_patients
from msvae_nbdev.confound.acquisition import Protocols, usable_columns
from msvae_nbdev.confound.audit import audit
from msvae_nbdev.confound.design import NuisanceDesign
from msvae_nbdev.core import atomic_path
from msvae_nbdev.latent.discriminant import LatentLDA
from msvae_nbdev.model.networks import build_decoder, build_encoder, keras, tf
from msvae_nbdev.model.training import use_cores
from msvae_nbdev.model.vae import VAE, kl_divergence, squared_error
from msvae_nbdev.model.volumes import open_prepared

KEPT = Path(__file__).parents[2] / "data" / "audit" / "harmonise.csv"


@dataclass(frozen=True)
class Setting:
    "One model of the comparison."

    decoder: str  # 'as it is' or 'told the acquisition'
    latent_dim: int
    beta: float  # weight of the KL beside the squared error
    epochs: int
    seed: int


class ToldVAE(VAE):
    "A VAE whose decoder gets the latent and the acquisition; without columns the plain VAE."

    def train_step(self, batch):
        "One step on volumes and what the decoder is told."
        volumes, told = batch
        with tf.GradientTape() as tape:
            mean, log_variance = self.encode(volumes, training=True)
            latent = mean + tf.exp(0.5 * log_variance) * self.noise(mean)
            made = self.decode(tf.concat([latent, told], -1), training=True)
            reconstruction = tf.reduce_mean(squared_error(volumes, made))
            kl = tf.reduce_mean(kl_divergence(mean, log_variance))
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


def train(setting: Setting, volumes, told, rows, size: int = 16) -> ToldVAE:
    "A model that has seen the volumes of `rows` and what the decoder is told of them."
    keras.utils.set_random_seed(setting.seed)
    encoder = build_encoder(setting.latent_dim)
    decoder = build_decoder(setting.latent_dim + told.shape[1])
    model = ToldVAE(encoder, decoder, beta=setting.beta, seed=setting.seed)
    steps = len(rows) // size
    decay = keras.optimizers.schedules.CosineDecay(2e-3, setting.epochs * steps, alpha=0.05)
    model.compile(optimizer=keras.optimizers.Adam(decay))
    model.fit(
        batches(volumes, told, rows, size, setting.epochs, setting.seed),
        epochs=setting.epochs,
        steps_per_epoch=steps,
        verbose=2,
    )
    return model


def encode_all(model: ToldVAE, volumes) -> np.ndarray:  # (n, latent_dim)
    "The latent means of all scans."
    starts = range(0, len(volumes), 64)
    parts = [np.asarray(volumes[start : start + 64]) for start in starts]
    return np.concatenate([model.encode(part, training=False)[0].numpy() for part in parts])


def error_of(model: ToldVAE, volumes, z, told, rows) -> float:
    "Mean squared error of the reconstructions of `rows`."
    errors = []
    for part in np.array_split(rows, -(-len(rows) // 64)):
        made = model.decode(np.concatenate([z[part], told[part]], 1), training=False).numpy()
        errors.append(np.square(made - np.asarray(volumes[part])).mean((1, 2, 3, 4)))
    return float(np.concatenate(errors).mean())


def measure(setting: Setting, data, split, told, columns: tuple) -> dict:
    "Train one model, and measure it on the patients that it has not seen."
    seen, held_out = np.flatnonzero(split == "train"), np.flatnonzero(split != "train")
    model = train(setting, data.volumes, told, seen)
    z = encode_all(model, data.volumes)
    table = data.table.assign(split=split)
    table = table.join(pd.DataFrame(z, table.index).add_prefix("z_"))
    protocol = Protocols(columns).fit(table.iloc[seen]).transform(table)
    guessed = LatentLDA(priors="uniform").fit(z[seen], protocol[seen]).predict(z[held_out])
    found = audit(table, evaluation="folds", permutations=199, seed=setting.seed)
    low, high = found["latent_only"]["interval"]
    return asdict(setting) | {
        "train_scans": len(seen),
        "held_out_scans": len(held_out),
        "mse": error_of(model, data.volumes, z, told, held_out),
        "protocol_accuracy": balanced_accuracy_score(protocol[held_out], guessed),
        "protocols": len(set(protocol[held_out])),
        "verdict": found["confound"]["verdict"],
        "latent_only": found["latent_only"]["balanced_accuracy"],
        "latent_only low": low,
        "latent_only high": high,
        "adjusted": found["adjusted"]["balanced_accuracy"],
        "partial_p": found["confound"]["acquisition"]["partial_p"],
        "full_p": found["confound"]["full_p"],
    }


def acquisition_numbers(table: pd.DataFrame, rows, columns: tuple) -> np.ndarray:  # float32
    "What the decoder is told: the recorded acquisition, standardised on `rows`."
    numbers = NuisanceDesign(columns).fit(table.iloc[rows]).transform(table)
    mean, spread = numbers[rows].mean(0), numbers[rows].std(0)
    return ((numbers - mean) / np.maximum(spread, 1e-6)).astype(np.float32)


def compare(cohort: Path, epochs: int, seed: int, latent_dim: int, beta: float) -> None:
    "Add the rows that are missing."
    use_cores()
    data = open_prepared(cohort)
    split = np.asarray(split_patients(data.table, test=0.15, validation=0.15, seed=seed))
    rows = np.flatnonzero(split == "train")
    facts = usable_columns(data.table.iloc[rows])
    columns = tuple(name for name, found in facts.items() if found["status"] == "ok")
    numbers = acquisition_numbers(data.table, rows, columns)
    done = pd.read_csv(KEPT).to_dict("records") if KEPT.exists() else []
    for name, told in (("as it is", numbers[:, :0]), ("told the acquisition", numbers)):
        setting = Setting(name, latent_dim, beta, epochs, seed)
        if not any(asdict(setting).items() <= row.items() for row in done):
            done.append(measure(setting, data, split, told, columns))
            with atomic_path(KEPT) as temporary:
                pd.DataFrame(done).round(5).to_csv(temporary, index=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latent-dim", type=int, default=32)
    parser.add_argument("--beta", type=float, default=1.0, help="weight of the KL (default 1)")
    compare(**vars(parser.parse_args()))
