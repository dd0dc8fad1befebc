"""How intensities are bounded and scaled, and what latent vectors then know of disease and of scanner.

    python studies/objectives/intensities.py FOLDER pca [NAME ...]  principal components of these scalings, or all; bias 0, 1; two seeds
    python studies/objectives/intensities.py FOLDER vae [NAME ...]  VAEs of these names (scaling_bias_seed[_objective]), or all
    python studies/objectives/intensities.py FOLDER supervised NAME ...  classifiers that are told the classes (scaling_bias_seed)
    python studies/objectives/intensities.py FOLDER --table         add to data/objectives/intensities.csv

Each scan is simulated once without any bound; each scaling is made from that. What there is already is not made again.
"""

import functools
import json
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from choices import knows
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import SplineTransformer

from msvae_nbdev.cohort.split import split_patients
from msvae_nbdev.confound.audit import audit
from msvae_nbdev.core import write_json
from msvae_nbdev.evaluation.lesion_contrast import lesion_contrast
from msvae_nbdev.evaluation.supervised import train_classifier
from msvae_nbdev.groups import merge_groups
from msvae_nbdev.intensity import NORMAL, SHARE, lesion_scale
from msvae_nbdev.model import training
from msvae_nbdev.model.batches import training_batches
from msvae_nbdev.model.config import TrainingConfig
from msvae_nbdev.model.cpu_kernels import fuse
from msvae_nbdev.model.learning_rate import rate_schedule
from msvae_nbdev.model.networks import build_decoder, build_encoder, keras, tf
from msvae_nbdev.model.vae import VAE, kl_divergence
from msvae_nbdev.phantom import imaging
from msvae_nbdev.phantom.imaging import plan_cohort, simulate_prepared
from msvae_nbdev.space import block_mean

KEPT = Path(__file__).parents[2] / "data" / "objectives" / "intensities.csv"
SCALE, SEEDS, BIASES = 0.25, (0, 1), (0, 1)
COHORTS = ("train", "other")  # people that the models are fitted to, and others
EPOCHS, LATENT_DIM = 25, 256
QUIETEST = 1e-3  # the least variance of a voxel, where nothing ever changes
CHANNELS = {"channels-1": 1.0, "channels-4": 2.0}  # weight of the second channel's error: factor
PLACES = 150  # 5x6x5: codes that have a place, where some of the 256 have one


def cohort_seed(seed: int, cohort: str) -> int:
    "The seed of a cohort: none is used twice, nor by another study."
    return 71 + 2 * seed + COHORTS.index(cohort)


class Cohort(NamedTuple):
    "Scans in several intensities, float16 (n, 40, 48, 40), and what is known of them."

    volumes: np.ndarray  # divided by the median of the brain
    bright: np.ndarray  # mean of what is brighter than normal tissue at 2 mm, of the median
    lesions: np.ndarray  # on the scale `lesions` of the package
    table: pd.DataFrame  # the plan and the truth


def unbounded(row: dict, seed: int) -> tuple:
    "(volume, bright, lesions, truth) of one scan, as `Cohort` holds them."
    kept = {}

    def keep(image, scale):
        kept["fine"] = image

    to_volume, imaging.to_volume = imaging.to_volume, keep
    try:
        _, truth = simulate_prepared(row, seed)
    finally:
        imaging.to_volume = to_volume
    fine = kept["fine"]
    relative = fine / np.median(fine[fine > 0])
    bright = block_mean(np.maximum(relative - NORMAL, 0), 2)
    volumes = block_mean(relative, 2), bright, lesion_scale(fine)
    return *(volume.astype(np.float16) for volume in volumes), truth


def cohort(folder: Path, bias: int, seed: int, name: str) -> Cohort:
    "A cohort, simulated where it is not there."
    path = folder / f"{name}-{bias}-{seed}.npz"
    plan = plan_cohort(SCALE, cohort_seed(seed, name), bias)
    if not path.exists():
        make = functools.partial(unbounded, seed=cohort_seed(seed, name))
        with ProcessPoolExecutor(2) as pool:
            found = list(pool.map(make, plan.to_dict("records"), chunksize=8))
        *volumes, truth = zip(*found)
        pd.DataFrame(truth).to_csv(path.with_suffix(".csv"), index=False)
        np.savez(path, **dict(zip(Cohort._fields, map(np.array, volumes))))
    held, truth = np.load(path), pd.read_csv(path.with_suffix(".csv"))
    table = pd.concat([plan.assign(age=plan.age + plan.years), truth], axis=1)
    return Cohort(*(held[name] for name in Cohort._fields[:3]), table)


def bounded(volumes: np.ndarray, percentile: float) -> np.ndarray:
    "Section 4.2.3 of the paper, with its percentile or another."
    tops = np.percentile(volumes.reshape(len(volumes), -1).astype(np.float32), percentile, axis=1)
    return np.minimum(volumes.astype(np.float32) / tops[:, None, None, None], 1)


def nyul(volumes: np.ndarray, reference: np.ndarray) -> np.ndarray:
    "Deciles of the brain moved to the mean deciles of the reference, on straight lines; the last line goes on (Nyul 2000)."
    shares = np.arange(10, 91, 10)

    def landmarks(volume):
        return np.percentile(volume[volume > 0.2], shares)

    wanted = np.mean([landmarks(volume) for volume in reference[:300].astype(np.float32)], 0)
    result = np.empty(volumes.shape, np.float32)
    for volume, target in zip(volumes.astype(np.float32), result):
        found = landmarks(volume)
        last = (wanted[-1] - wanted[-2]) / (found[-1] - found[-2])
        xs = np.concatenate([[0], found, [found[-1] + 3]])
        target[:] = np.interp(volume, xs, np.concatenate([[0], wanted, [wanted[-1] + 3 * last]]))
    return np.clip(result / 2.2, 0, 1)


def composite(part: Cohort) -> np.ndarray:
    "The scale `lesions` in its first form: of the median of the whole brain, and not smoothed."
    normal = np.minimum(part.volumes.astype(np.float32), NORMAL) / NORMAL
    return SHARE * normal + (1 - SHARE) * np.clip(2 * part.bright.astype(np.float32), 0, 1)


SCALINGS = {  # name: cohort and training cohort to intensities in [0, 1]
    "paper": lambda part, train: bounded(part.volumes, 99.5),
    "bound-99.9": lambda part, train: bounded(part.volumes, 99.9),
    "none": lambda part, train: bounded(part.volumes, 100),
    "median-1.6": lambda part, train: np.clip(part.volumes.astype(np.float32) / 1.6, 0, 1),
    "median-2.2": lambda part, train: np.clip(part.volumes.astype(np.float32) / 2.2, 0, 1),
    "nyul": lambda part, train: nyul(part.volumes, train.volumes),
    "bright": lambda part, train: composite(part),
    "lesions": lambda part, train: part.lesions.astype(np.float32),
}


def tells(train, train_table, other, other_table) -> dict:
    "What vectors know, as in the table of choices; MS with little load, and the protocol."
    found = knows(train, train_table, other, other_table)
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    lda.fit(train, merge_groups(train_table.diagnosis))
    few = (other_table.diagnosis == "ms") & (other_table.lesion_ml < 6)
    found["recall_under_6_ml"] = float((lda.predict(other[few]) == "ms").mean())
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    lda.fit(train, train_table.protocol)
    found["protocol"] = float((lda.predict(other) == other_table.protocol).mean())
    return found


def audited(vectors: np.ndarray, table: pd.DataFrame) -> dict:
    "What the audit says of vectors, ten folds by person; the truth is a disease, at bias 1 beside the scanner."
    latents = pd.DataFrame(vectors, columns=[f"z_{i}" for i in range(vectors.shape[1])])
    known = table.drop(columns=["voxel", "axes"])  # lists
    found = audit(pd.concat([known, latents], axis=1), evaluation="folds", permutations=199)
    accuracy = found["adjusted"]["balanced_accuracy"]
    return {"verdict": found["confound"]["verdict"], "adjusted": accuracy}


def references(folder: Path) -> None:
    "What age, true volumes and the protocol tell, by LDA on splines."
    for bias in BIASES:
        for seed in SEEDS:
            tables = [cohort(folder, bias, seed, name).table for name in COHORTS]
            for name, columns in {"age": ["age"], "volumes and age": ["age", "log_lesion", "log_ventricle"]}.items():  # fmt: skip
                path = folder / f"{name}-{bias}-{seed}.json"
                known = [
                    table.assign(
                        log_lesion=np.log(table.lesion_ml + 0.1),
                        log_ventricle=np.log(table.ventricle_ml),
                    )[columns]
                    for table in tables
                ]
                spline = SplineTransformer(5, extrapolation="linear").fit(known[0])
                vectors = [spline.transform(each) for each in known]
                found = tells(vectors[0], tables[0], vectors[1], tables[1])
                write_json({"scaling": name, "features": "truth", "bias": bias, "seed": seed, **found}, path)  # fmt: skip


def components(folder: Path, names: list) -> None:
    "Principal components of some scalings, fitted to the training cohort and its mirror images; and the shade alone."
    references(folder)
    for bias in BIASES:
        for seed in SEEDS:
            train, other = (cohort(folder, bias, seed, name) for name in COHORTS)
            for name in names:
                path, scaling = folder / f"pca-{name}-{bias}-{seed}.json", SCALINGS[name]
                if path.exists():
                    continue
                scans, others = (scaling(each, train) for each in (train, other))
                facts = {"scaling": name, "bias": bias, "seed": seed}
                shades = [
                    np.array([each[each > 0.05].mean() for each in part])[:, None]
                    for part in (scans, others)
                ]
                rows = [facts | {"features": "mean intensity"} | tells(shades[0], train.table, shades[1], other.table)]  # fmt: skip
                flat = np.concatenate([scans, scans[:, ::-1]]).reshape(2 * len(scans), -1)
                pca = PCA(256, svd_solver="randomized", random_state=seed).fit(flat)
                vectors = [pca.transform(part.reshape(len(part), -1)) for part in (scans, others)]
                for size in (32, 256):
                    known = tells(
                        vectors[0][:, :size], train.table, vectors[1][:, :size], other.table
                    )
                    rows.append(facts | {"features": f"pca-{size}"} | known)
                rebuilt = pca.inverse_transform(vectors[1]).reshape(others.shape)
                kept = contrast_kept(others[..., None], rebuilt[..., None], other.bright)
                rows[-1] |= {"lesion_contrast_kept": kept} | audited(vectors[1], other.table)
                write_json(rows, path)


class OwnErrorVAE(VAE):
    "A VAE whose squared error is weighed in another way; `error` says how."

    def error(self, volumes, rebuilt):
        "The reconstruction term of a batch: summed over voxels, mean over scans."
        raise NotImplementedError

    def train_step(self, volumes):
        "One step on one batch."
        with tf.GradientTape() as tape:
            mean, log_variance = self.encode(volumes, training=True)
            latent = mean + tf.exp(0.5 * log_variance) * self.noise(mean)
            reconstruction = self.error(volumes, self.decode(latent, training=True))
            kl = tf.reduce_mean(kl_divergence(mean, log_variance))
            loss = reconstruction + kl
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        self.step.assign_add(1)
        return self.track(loss=loss, reconstruction=reconstruction, kl=kl)


class VoxelwiseVAE(OwnErrorVAE):
    "The variance of each voxel is what the model leaves of it, in closed form: variable places cost less, quiet tissue more."

    def __init__(self, encoder, decoder, **options):
        super().__init__(encoder, decoder, **options)
        half = {"initializer": keras.initializers.Constant(0.5), "trainable": False}
        self.spread = self.add_weight(name="spread", shape=decoder.output_shape[1:], **half)

    def error(self, volumes, rebuilt):
        "Squared errors over twice the variance of each voxel, which follows those of the batch."
        squared = tf.square(volumes - rebuilt)
        found = tf.stop_gradient(tf.reduce_mean(squared, 0))
        self.spread.assign(0.95 * self.spread + 0.05 * found)
        weighed = squared / (2 * tf.maximum(self.spread, QUIETEST))
        return tf.reduce_mean(tf.reduce_sum(weighed, (1, 2, 3, 4)))


class MultiscaleVAE(OwnErrorVAE):
    "Squared errors at 4, 8 and 16 mm, each weighed so that a uniform error counts the same at every scale."

    def error(self, volumes, rebuilt):
        "The sum over scales."
        scales = [tf.nn.avg_pool3d(volumes - rebuilt, side, side, "VALID") for side in (1, 2, 4)]
        parts = [8**power * tf.reduce_sum(tf.square(each)) for power, each in enumerate(scales)]
        return tf.add_n(parts) / tf.cast(tf.shape(volumes)[0], tf.float32)


CALIBRATED = functools.partial(VAE, decoder_variance="calibrated")
OBJECTIVES = {  # name: model
    "": VAE,
    "calibrated": CALIBRATED,
    "spatial": VAE,
    "calibrated-spatial": CALIBRATED,
    "voxelwise": VoxelwiseVAE,
    "multiscale": MultiscaleVAE,
}


def with_places(encoder: keras.Model, decoder: keras.Model) -> tuple:  # of networks
    "Networks with further codes, each of one place of 32 mm, that pass the dense layers by."
    layers = keras.layers
    maps = next(layer for layer in encoder.layers if isinstance(layer, layers.Flatten)).input
    first = {"mean": {}, "log_variance": {
        "kernel_initializer": keras.initializers.RandomNormal(stddev=1e-3),
        "bias_initializer": keras.initializers.Constant(-2.0)}}  # as of the other codes  # fmt: skip
    heads = [
        layers.Concatenate()([head, layers.Flatten()(layers.Conv3D(1, 1, **options)(maps))])
        for head, options in zip(encoder.outputs, first.values())
    ]
    vector = decoder.input_shape[1]
    codes = keras.Input((vector + PLACES,))
    column = layers.Reshape((vector + PLACES, 1))(codes)
    features = layers.Flatten()(layers.Cropping1D((0, PLACES))(column))
    for layer in decoder.layers[1:]:
        features = type(layer).from_config(layer.get_config())(features)
        if isinstance(layer, layers.Reshape):  # the vector became maps: those of places join them
            placed = layers.Cropping1D((vector, 0))(column)
            placed = layers.Reshape((*maps.shape[1:-1], 1))(placed)
            features = layers.Concatenate()([features, placed])
    return keras.Model(encoder.input, heads), keras.Model(codes, features)


def side_by_side(volumes: np.ndarray, bright: np.ndarray, factor: float) -> np.ndarray:
    "The paper's intensities, and behind them along the last axis what is brighter than normal tissue, (n, 40, 48, 80)."
    second = np.clip(factor * bright.astype(np.float32), 0, 0.5 * factor)
    return np.concatenate([bounded(volumes, 99.5), second], axis=3)


def scaled(scaling: str, part: Cohort, train: Cohort) -> np.ndarray:  # (n, 40, 48, 40 or 80, 1)
    "The intensities of a cohort; with a channel for what is bright, volumes are twice as deep."
    if scaling in CHANNELS:
        return side_by_side(part.volumes, part.bright, CHANNELS[scaling])[..., None]
    return SCALINGS[scaling](part, train)[..., None]


def fit(scans: np.ndarray, rows: np.ndarray, seed: int, objective: str) -> tuple:  # its networks
    "Train the usual networks as `train` does, on volumes of any depth."
    shape = scans.shape[1:4]
    keras.utils.set_random_seed(seed)
    places = PLACES if "spatial" in objective else 0
    networks = build_encoder(LATENT_DIM - places, shape), build_decoder(LATENT_DIM - places, shape)
    networks = with_places(*networks) if places else networks
    config = TrainingConfig(latent_dim=LATENT_DIM, epochs=EPOCHS, seed=seed)
    steps = len(rows) // config.batch_size
    model = OBJECTIVES[objective](*networks, seed=seed)
    model.compile(optimizer=keras.optimizers.Adam(rate_schedule(config, steps)))
    order = scans, rows, config.batch_size, seed
    batches = training_batches(*order, 0, EPOCHS, flip=True)
    model.fit(batches, epochs=EPOCHS, steps_per_epoch=steps, verbose=2, shuffle=False)
    again = training_batches(*order, EPOCHS, EPOCHS + 1, flip=True)
    training.recalibrate(*map(fuse, networks), again, seed)
    return networks


def through(network, inputs: np.ndarray) -> np.ndarray:
    "What a network makes of many volumes or vectors; of an encoder the means."
    found = []
    for first in range(0, len(inputs), 32):
        part = network(inputs[first : first + 32], training=False)
        found.append(np.asarray(part[0] if isinstance(part, list | tuple) else part))
    return np.concatenate(found)


def contrast_kept(originals: np.ndarray, rebuilt: np.ndarray, bright: np.ndarray) -> float:
    "Contrast of what is brighter than normal tissue, of reconstructions over originals, scans with some of it."
    mask = (originals[..., 0] > 0.05).mean(0) > 0.5
    lesions = (bright > 0.1).astype(np.float32)
    found = lesion_contrast(originals[..., 0], rebuilt[..., 0], lesions, mask).dropna()
    return float(found.lesion_contrast_reconstruction.sum() / found.lesion_contrast.sum())


def autoencoder(folder: Path, name: str) -> None:
    "Train and score one VAE."
    path, (scaling, bias, seed, *rest) = folder / f"vae-{name}.json", name.split("_")
    if path.exists():
        return
    bias, seed, objective = int(bias), int(seed), "".join(rest)
    train, other = (cohort(folder, bias, seed, part) for part in COHORTS)
    scans, others = (scaled(scaling, part, train) for part in (train, other))
    parts = split_patients(train.table, test=0.1, validation=0.1, seed=seed)
    rows = np.flatnonzero(parts == "train")
    encoder, decoder = fit(scans, rows, seed, objective)
    latents = through(encoder, scans[rows]), through(encoder, others)
    rebuilt, first = through(decoder, latents[1])[:, :, :, :40], others[:, :, :, :40]
    facts = {"scaling": scaling, "bias": bias, "seed": seed}
    facts |= {"features": f"vae-{LATENT_DIM}" + (objective and f", {objective}")}
    facts |= {"mse": float(np.square(rebuilt - first).mean())}
    facts |= {"lesion_contrast_kept": contrast_kept(first, rebuilt, other.bright)}
    facts |= {"active": int((latents[0].var(0) > 0.1).sum())}
    known = tells(latents[0], train.table.iloc[rows], latents[1], other.table)
    known |= audited(latents[1], other.table)
    write_json([facts | known], path)


def supervised(folder: Path, name: str) -> None:
    "Train and score a classifier that is told the classes: what these volumes hold of them."
    path, (scaling, bias, seed) = folder / f"supervised-{name}.json", name.split("_")
    if path.exists():
        return
    bias, seed = int(bias), int(seed)
    train, other = (cohort(folder, bias, seed, part) for part in COHORTS)
    scans, others = (scaled(scaling, part, train) for part in (train, other))
    parts = split_patients(train.table, test=0.1, validation=0.1, seed=seed)
    rows = [np.flatnonzero(parts == part) for part in ("train", "validation")]
    labels, truth = (merge_groups(part.table.diagnosis).to_numpy() for part in (train, other))
    network = train_classifier(scans, labels, *rows, seed=seed)
    frequencies = np.array([(labels[rows[0]] == name).mean() for name in network.classes])
    known = network.predict_proba(others)
    facts = {"scaling": scaling, "bias": bias, "seed": seed}
    ms, few, found = truth == "ms", other.table.lesion_ml.to_numpy() < 6, []
    for features, priors in (
        ("supervised", frequencies),  # as the LDA has them
        ("supervised, classes equally frequent", np.ones(len(frequencies))),  # as it was trained
    ):
        said = np.array(network.classes)[(known * priors).argmax(1)]
        called = said == "ms"
        scores = {"lda_merged": balanced_accuracy_score(truth, said), "ms_precision": ms[called].mean(),
                  "ms_recall": called[ms].mean(), "recall_under_6_ml": called[ms & few].mean()}  # fmt: skip
        found.append(facts | {"features": features} | {key: float(x) for key, x in scores.items()})
    write_json(found, path)


def all_names() -> list:
    "VAEs in the order in which they say most."
    names = [f"{scaling}_0_0" for scaling in (*SCALINGS, *CHANNELS)]
    names += [f"paper_0_0_{objective}" for objective in OBJECTIVES if objective]
    names += [f"{scaling}_0_0_calibrated" for scaling in ("median-2.2", "bright", "lesions")]
    names += ["lesions_0_0_calibrated-spatial"]
    names += [re.sub("_0_0", "_0_1", name) for name in names]
    return names + [f"{scaling}_1_{seed}" for seed in SEEDS for scaling in (*SCALINGS, *CHANNELS)]


def table(folder: Path) -> None:
    "Add all rows that FOLDER holds to the table."
    rows = []
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text())
        rows += found if isinstance(found, list) else [found]
    first = ["scaling", "features", "bias", "seed"]
    found = pd.concat([pd.read_csv(KEPT), pd.DataFrame(rows)])
    found = found.drop_duplicates(first, keep="last").sort_values(first)
    found[[*first, *(name for name in found if name not in first)]].to_csv(
        KEPT, index=False, float_format="%.4g"
    )


if __name__ == "__main__":
    folder, task, names = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    folder.mkdir(parents=True, exist_ok=True)
    if task == "pca":
        components(folder, names or list(SCALINGS))
    elif task == "vae":
        for name in names or all_names():
            autoencoder(folder, name)
    elif task == "supervised":
        for name in names:
            supervised(folder, name)
    else:
        table(folder)
