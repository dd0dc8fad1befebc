"""Paper's way and the preset for lesions at the paper's size, asked about other people; beside components, age, true volumes and a ceiling.

msvae simulate COHORT --prepared --scale 1 --bias 0 --seed 75 [--intensity-scale lesions]
msvae simulate OTHERS --prepared --scale .25 --bias 0 --seed 76 [--intensity-scale lesions]
msvae train COHORT RUN --latent-dim 256 --epochs 25 [--preset lesions]
msvae encode RUN COHORT; msvae evaluate RUN; msvae bias RUN
python studies/objectives/at_size.py RUN OTHERS      adds to data/objectives/at_size.csv
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from intensities import tells
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import SplineTransformer

from msvae_nbdev.core import read_json, read_tsv
from msvae_nbdev.evaluation.supervised import train_classifier
from msvae_nbdev.groups import merge_groups
from msvae_nbdev.latent.classification_table import score
from msvae_nbdev.latent.latents import latent_matrix
from msvae_nbdev.model.trained_run import load_run
from msvae_nbdev.model.volumes import PreparedDataset, open_prepared

KEPT = Path(__file__).parents[2] / "data" / "objectives" / "at_size.csv"
SEED = 0


def with_truth(table: pd.DataFrame, prepared: Path) -> pd.DataFrame:
    "A table of scans beside the truth of their phantoms, in its order."
    truth = read_tsv(prepared / "derivatives" / "truth" / "scans.tsv")
    both = ["participant_id", "session_id"]
    return table.drop(columns="brain_ml").merge(truth, on=both, how="left", validate="one_to_one")


def interval(said: np.ndarray, others: pd.DataFrame) -> dict:
    "The interval of a balanced accuracy, by patient."
    truth = merge_groups(others.diagnosis).to_numpy()
    found = score(truth, said, others.participant_id, sorted(set(truth)))
    return dict(zip(("lower", "upper"), found["balanced_accuracy_interval"]))


def told(train: np.ndarray, known: pd.DataFrame, test: np.ndarray, others: pd.DataFrame) -> dict:
    "What vectors tell, and the interval of the balanced accuracy of three classes."
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    said = lda.fit(train, merge_groups(known.diagnosis)).predict(test)
    return tells(train, known, test, others) | interval(said, others)


def from_truth(train: pd.DataFrame, test: pd.DataFrame) -> dict:
    "What age, and true volumes with age, tell."
    found = {}
    for name, columns in {
        "age": ["age"],
        "volumes and age": ["age", "lesion", "ventricle"],
    }.items():
        known = [
            part.assign(
                lesion=np.log(part.lesion_ml + 0.1), ventricle=np.log(part.ventricle_ml)
            )[columns]
            for part in (train, test)
        ]  # fmt: skip
        spline = SplineTransformer(5, extrapolation="linear").fit(known[0])
        vectors = [spline.transform(each) for each in known]
        found[name] = told(vectors[0], train, vectors[1], test)
    return found


def components(volumes: np.ndarray, rows: np.ndarray, others: np.ndarray) -> tuple:
    "Principal components of the training scans and their mirror images: scores of both cohorts."
    train = np.asarray(volumes[rows])[..., 0]
    flat = np.concatenate([train, train[:, ::-1]]).reshape(2 * len(train), -1)
    pca = PCA(256, svd_solver="randomized", random_state=SEED).fit(flat)
    return tuple(pca.transform(np.asarray(part).reshape(len(part), -1)) for part in (train, others))


def ceiling(volumes: np.ndarray, table: pd.DataFrame, rows: dict, others, test) -> dict:
    "A classifier that is told the classes, asked with the LDA's priors and with equal ones."
    labels, truth = (merge_groups(part.diagnosis).to_numpy() for part in (table, test))
    network = train_classifier(volumes, labels, rows["train"], rows["validation"], seed=SEED)
    frequencies = np.array([(labels[rows["train"]] == name).mean() for name in network.classes])
    known, few, found = network.predict_proba(others), test.lesion_ml.to_numpy() < 6, {}
    for name, priors in (
        ("supervised", frequencies),
        ("supervised, classes equally frequent", np.ones(len(frequencies))),
    ):
        said = np.array(network.classes)[(known * priors).argmax(1)]
        called, ms = said == "ms", truth == "ms"
        found[name] = interval(said, test) | {
            "lda_merged": balanced_accuracy_score(truth, said),
            "ms_precision": ms[called].mean(),
            "ms_recall": called[ms].mean(),
            "recall_under_6_ml": called[ms & few].mean(),
        }
    return found


def of_evaluation(run) -> dict:
    "Images and audit of a run, as its files have them, and its training."
    quality, bias = read_json(run.path / "quality.json"), read_json(run.path / "bias.json")
    test, samples, last = quality["test"], quality["samples"], run.history.iloc[-1]
    return {
        "mse": test["mse"],
        "sharpness": test["sharpness_ratio"],
        "lesion_contrast_kept": test.get("lesion_fidelity"),
        "samples_sharpness": samples["sharpness_ratio"],
        "samples_frechet": samples["frechet"],
        "frechet_floor": samples["frechet_floor"],
        "samples_diversity": samples["diversity"],
        "kl": last.kl,
        "decoder_variance": last.get("decoder_variance"),
        "minutes": run.history.seconds.sum() / 60,
        "verdict": bias["confound"]["verdict"],
    }


def asked(run, others: PreparedDataset) -> pd.DataFrame:
    "Rows of the table for one run and its volumes."
    table, volumes = with_truth(run.latents, run.prepared.path), run.prepared.volumes
    rows = {part: np.flatnonzero(table.split == part) for part in ("train", "validation")}
    train, test = table.iloc[rows["train"]], with_truth(others.table, others.path)
    found = from_truth(train, test)
    scores = components(volumes, rows["train"], others.volumes)
    found["pca-256"] = told(scores[0], train, scores[1], test)
    name, codes = f"{run.config['objective']}-{run.latent_dim}", latent_matrix(train)
    found[name] = told(codes, train, run.encode(others.volumes), test) | of_evaluation(run)
    found[name] |= {"active": int((codes.var(0) > 0.1).sum())}
    found |= ceiling(volumes, table, rows, others.volumes, test)
    facts = {"scale": run.intensity_scale, "train_scans": len(train), "scans": len(test)}
    facts |= {"patients": test.participant_id.nunique()}
    return pd.DataFrame([facts | {"features": name} | row for name, row in found.items()])


if __name__ == "__main__":
    tables = [pd.read_csv(KEPT)] if KEPT.exists() else []
    tables.append(asked(load_run(sys.argv[1]), open_prepared(sys.argv[2])))
    found = pd.concat(tables).drop_duplicates(["scale", "features"], keep="last")
    found.to_csv(KEPT, index=False, float_format="%.4g")
