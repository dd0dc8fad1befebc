"""What the paper leaves open, tried on the plain networks.

    python studies/objectives/choices.py FOLDER [NAME ...]   train and score the runs of these names, or all
    python studies/objectives/choices.py FOLDER --table      write data/objectives: one table, and the histories of the default runs

Runs that choices.csv holds are not made again. A call that was stopped goes on where it was; several may run at once, each with names of its own.
Runs that differ only in their adversarial phase share one warm-up.
"""

import functools
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import RidgeCV
from sklearn.metrics import balanced_accuracy_score, precision_score, recall_score

from msvae_nbdev.core import MsvaeError, read_tsv, write_json
from msvae_nbdev.evaluation.evaluate import evaluate_run
from msvae_nbdev.groups import merge_groups
from msvae_nbdev.model import learning_rate, training
from msvae_nbdev.model.introvae import Introspective
from msvae_nbdev.model.networks import build_decoder, build_encoder, layers
from msvae_nbdev.model.volumes import open_prepared
from msvae_nbdev.phantom.simulate import simulate

KEPT = Path(__file__).parents[2] / "data" / "objectives"
COHORTS = {
    "train": {"scale": 0.25, "seed": 31},
    "other": {"scale": 0.25, "seed": 32},
    "large": {"scale": 1.0, "seed": 41},
}
EPOCHS = {"train": (15, 25), "large": (6, 12)}  # of the warm-up; in all
POOLING = {"mean": layers.AveragePooling3D, "max": layers.MaxPooling3D}
BASE = {
    "latent_dim": 256,
    "pooling": "mean",
    "dropout": 0.05,
    "kl_weight": 1.0,
    "negative_weight": 1.25,
    "rate": 2e-4,
    "decoder_variance": "fixed",
}
ADVERSARIAL = ("negative_weight", "rate")  # what a warm-up does not depend on
CHANGES = {
    "introvae": [{}, {"rate": 1e-4}, {"rate": 1e-4, "kl_weight": 0.25}, {"rate": 1e-4, "negative_weight": 2.0}, {"rate": 1e-4, "negative_weight": 1.0},
                 {"rate": 1e-4, "pooling": "max"}, {"dropout": 0.3}, {"latent_dim": 32}, {"decoder_variance": "calibrated"}],
    "vae": [{}, {"kl_weight": 0.25}, {"pooling": "max"}, {"dropout": 0.3}, {"latent_dim": 32},
            {"decoder_variance": "calibrated"}],
    "softintrovae": [{}],
}  # fmt: skip


def plan() -> dict:
    "Name of each run: its objective, seed and settings. Defaults with three seeds and once on a large cohort, changes with two seeds."
    runs = {}
    for seed in (0, 1, 2):
        for objective, changes in CHANGES.items():
            for change in changes if seed < 2 else [{}]:
                name = "-".join(
                    [objective, *(f"{key}={value}" for key, value in change.items()), str(seed)]
                )
                runs[name] = {
                    "objective": objective,
                    "seed": seed,
                    "cohort": "train",
                    **BASE,
                    **change,
                }
    for objective in ("vae", "introvae"):
        runs[f"{objective}-large-0"] = {
            "objective": objective,
            "seed": 0,
            "cohort": "large",
            **BASE,
        }
    return runs


def build(settings: dict) -> None:
    "Let `train` build the networks of these settings."
    dropout = {"dropout": settings["dropout"]}
    training.build_encoder = functools.partial(
        build_encoder, pooling=POOLING[settings["pooling"]], **dropout
    )
    training.build_decoder = functools.partial(build_decoder, **dropout)
    learning_rate.ADVERSARIAL_RATE = settings["rate"]


def share_warmup(folder: Path, run: Path, settings: dict) -> None:
    "Begin at the end of a warm-up that another run has made, or leave one for others."
    key = "-".join(str(value) for name, value in settings.items() if name not in ADVERSARIAL)
    state, warmup = run / "checkpoints" / "last.npz", folder / "warmups" / f"{key}.npz"
    if warmup.exists() and not state.exists():
        state.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(warmup, state)
    start = Introspective.start_adversarial

    def keep_and_start(model):
        if not warmup.exists():
            warmup.parent.mkdir(exist_ok=True)
            shutil.copy(state, warmup.with_suffix(".part"))
            warmup.with_suffix(".part").rename(warmup)
        Introspective.start_adversarial = start
        model.start_adversarial()

    Introspective.start_adversarial = keep_and_start


def knows(train, train_table, other, other_table) -> dict:
    "What latent vectors tell of people of another cohort: LDA of the classes, and R2 of what is known of a phantom."
    found = {}
    for name, labels in (
        ("five", lambda table: table.diagnosis),
        ("merged", lambda table: merge_groups(table.diagnosis)),
    ):
        lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(
            train, labels(train_table)
        )
        truth, said = labels(other_table), lda.predict(other)
        found[f"lda_{name}"] = balanced_accuracy_score(truth, said)
    found["ms_precision"] = precision_score(truth, said, labels=["ms"], average=None)[0]
    found["ms_recall"] = recall_score(truth, said, labels=["ms"], average=None)[0]
    for name in ("lesion_ml", "ventricle_ml", "age"):
        target = [
            np.log(table[name] + 0.1) if name != "age" else table[name]
            for table in (train_table, other_table)
        ]
        known = [values.notna().to_numpy() for values in target]
        ridge = RidgeCV(np.logspace(-2, 6, 17)).fit(train[known[0]], target[0][known[0]])
        found[f"r2_{name}"] = ridge.score(other[known[1]], target[1][known[1]])
    return found


def with_truth(prepared) -> pd.DataFrame:
    "The table of a simulated cohort with what is known of each phantom."
    truth = read_tsv(prepared.path / "derivatives" / "truth" / "scans.tsv")
    return prepared.table.merge(
        truth[["participant_id", "session_id", "lesion_ml", "ventricle_ml"]], how="left"
    )


def score(folder: Path, run, settings: dict) -> dict:
    "Numbers of one run: held-out patients of its cohort, and all people of another."
    quality, last = (
        evaluate_run(run),
        run.history.tail(5).mean(numeric_only=True).filter(like="val_"),
    )
    cohorts = [open_prepared(folder / name) for name in (settings["cohort"], "other")]
    tables = [with_truth(cohort) for cohort in cohorts]
    latents = [run.encode(cohort.volumes) for cohort in cohorts]
    rows = np.flatnonzero(run.split.split == "train")
    parts = {"mse": ("test", "mse"), "sharpness": ("test", "sharpness_ratio"), "resolution_mm": ("test", "resolution_mm"), "lesion_fidelity": ("test", "lesion_fidelity"),
             "diversity": ("test", "diversity"), "samples_sharpness": ("samples", "sharpness_ratio"), "samples_artefact": ("samples", "artefact"),
             "samples_diversity": ("samples", "diversity"), "samples_frechet": ("samples", "frechet")}  # fmt: skip
    measured = {name: quality[part].get(key) for name, (part, key) in parts.items()}
    pca = quality["baseline"]["pca"]
    return {**settings, **measured, "pca_mse": pca["mse"], "pca_sharpness": pca["sharpness_ratio"], **last,
            "active": int((latents[0].var(0) > 0.1).sum()), **knows(latents[0][rows], tables[0].iloc[rows], latents[1], tables[1]),
            **quality["n"], "minutes": run.history.seconds.sum() / 60}  # fmt: skip


def one(folder: Path, name: str) -> None:
    "Train and score one run."
    settings, run = plan()[name], folder / name
    build(settings)
    (warmup, epochs), weight = EPOCHS[settings["cohort"]], settings["kl_weight"]
    options = {
        "vae": {"beta": weight},
        "introvae": {
            "warmup_epochs": warmup,
            "kl_weight": weight,
            "negative_weight": settings["negative_weight"],
        },
        "softintrovae": {"warmup_epochs": warmup, "beta_kl": weight},
    }[settings["objective"]]
    if settings["decoder_variance"] != BASE["decoder_variance"]:
        options["decoder_variance"] = settings["decoder_variance"]
    common = {name: settings[name] for name in ("objective", "latent_dim", "seed")}
    if settings["objective"] != "vae":
        share_warmup(folder, run, settings)
    try:
        trained = training.train(
            folder / settings["cohort"],
            run,
            **common,
            **options,
            epochs=epochs,
            verbose=2,
            save_every=300,
        )
        result = score(folder, trained, settings)
    except MsvaeError as error:  # diverged or collapsed: that is a result
        result = {**settings, "failure": str(error).split(" (")[0]}
    write_json(result, folder / f"{name}.json")


def pca_rows(folder: Path) -> list:
    "What principal components of as many dimensions tell, fitted to the same training scans and their mirror images."
    cohorts = [open_prepared(folder / name) for name in ("train", "other")]
    tables, found = [with_truth(cohort) for cohort in cohorts], []
    for seed in (0, 1):
        rows = np.flatnonzero(read_tsv(folder / f"vae-{seed}" / "split.tsv").split == "train")
        scans = cohorts[0].volumes[rows]
        pca = PCA(BASE["latent_dim"], svd_solver="randomized", random_state=seed)
        pca.fit(np.concatenate([scans, scans[:, ::-1]]).reshape(2 * len(scans), -1))
        scores = [pca.transform(cohort.volumes.reshape(len(cohort), -1)) for cohort in cohorts]
        known = knows(scores[0][rows], tables[0].iloc[rows], scores[1], tables[1])
        found.append(
            {
                "name": f"pca-{seed}",
                "objective": "pca",
                "seed": seed,
                "cohort": "train",
                "latent_dim": BASE["latent_dim"],
                **known,
            }
        )
    return found


def kept_rows() -> dict:
    "The rows of choices.csv, by name."
    path = KEPT / "choices.csv"
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    settings = {row["name"]: plan().get(row["name"], {}) for row in rows}
    return {row["name"]: row | settings[row["name"]] for row in rows}


def table(folder: Path) -> None:
    "Add what FOLDER holds to choices.csv, and the histories of the default runs."
    found = {
        name: json.loads((folder / f"{name}.json").read_text())
        for name in plan()
        if (folder / f"{name}.json").exists()
    }
    found = {name: {"name": name, **plan()[name], **result} for name, result in found.items()}
    rows = kept_rows() | found
    if "pca-0" not in rows:
        rows |= {row["name"]: row for row in pca_rows(folder)}
    order = [name for name in (*plan(), "pca-0", "pca-1") if name in rows]
    (KEPT / "histories").mkdir(parents=True, exist_ok=True)
    pd.DataFrame([rows[name] for name in order]).to_csv(
        KEPT / "choices.csv", index=False, float_format="%.5g"
    )
    for name in found:
        if "=" not in name and (folder / name / "history.csv").exists():
            shutil.copy(folder / name / "history.csv", KEPT / "histories" / f"{name}.csv")


if __name__ == "__main__":
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    for cohort, settings in COHORTS.items():  # "large" only where it is used
        if cohort == "large" and names and not any("large" in name for name in names):
            continue
        if not (folder / cohort / "scans.tsv").exists():
            simulate(folder / cohort, prepared=True, **settings)
    if names == ["--table"]:
        table(folder)
    else:
        for name in names or plan():
            if name not in kept_rows() and not (folder / f"{name}.json").exists():
                one(folder, name)
