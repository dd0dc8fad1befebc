"""What models make of a disease: `python studies/objectives/pictures.py NAME=RUN ...` adds to data/objectives/pictures.{npz,csv}.

RUN is a run folder or a model of the package. It is asked of 120 phantoms with multiple sclerosis that no model has seen: what changes on its way
from healthy to MS, how it rebuilds a scan with many lesions and one with few, and how much of the lesions' contrast is left.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

import msvae_nbdev as ms
from msvae_nbdev.evaluation.lesion_contrast import lesion_contrast, phantom_lesions
from msvae_nbdev.latent.discriminant import LatentLDA
from msvae_nbdev.latent.latent_space import open_space
from msvae_nbdev.latent.latents import latent_matrix
from msvae_nbdev.latent.traversal import axis_pattern, traverse
from msvae_nbdev.phantom.imaging import plan_cohort, simulate_prepared

KEPT = Path(__file__).parents[2] / "data" / "objectives" / "pictures.npz"
SEED, PEOPLE = 12345, 120
MANY, FEW = 35, 3  # ml of lesions of the two that are shown
LOADS = {"all": (0, np.inf), "under 6 ml": (0, 6), "6 to 20 ml": (6, 20), "above": (20, np.inf)}


def people() -> list:
    "Rows of the plan: MS, the first scan of each, scanners as those of everyone."
    plan = plan_cohort(0.15, SEED, bias=0)
    return plan[(plan.diagnosis == "ms") & (plan.session == 0)].head(PEOPLE).to_dict("records")


def to_ms(space) -> tuple:
    "The code of a healthy brain on the way to MS, and the step that leads to MS."
    two = space.train[space.train.diagnosis.isin(["healthy", "ms"])]
    codes, labels = latent_matrix(two), two.diagnosis.to_numpy()
    lda = LatentLDA().fit(codes, labels)
    pattern, places = axis_pattern(lda, codes, labels), (codes - lda.xbar_) @ lda.scalings_[:, 0]
    healthy, sick = (places[labels == name].mean() for name in ("healthy", "ms"))
    return lda.xbar_ + healthy * pattern, (sick - healthy) * pattern


def as_bytes(images: np.ndarray) -> np.ndarray:
    "Values in [0, 1] as eight bits."
    return np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8)


def asked(run, rows: list, lesions: np.ndarray, brain: np.ndarray) -> tuple:  # (images, numbers)
    "What one model makes of these people, and of the way to MS."
    found = [simulate_prepared(row, SEED, intensity_scale=run.intensity_scale) for row in rows]
    volumes = np.array([volume for volume, _ in found])
    load = np.array([truth["lesion_ml"] for _, truth in found])
    rebuilt = run.reconstruct(volumes[..., None])[..., 0]
    space = open_space(run.path)
    start, step = to_ms(space)
    healthy, sick = traverse(space.decode, step, [0, 1], start)
    change = sick - healthy
    often = lesions.mean(0)
    shade = change[brain].mean()
    facts = {"shade": shade, "map": np.corrcoef(change[brain], often[brain])[0, 1]}
    for part, (low, high) in LOADS.items():
        of = (load >= low) & (load < high)
        kept = lesion_contrast(volumes[of], rebuilt[of], lesions[of], brain).dropna()
        facts[part] = kept.lesion_contrast_reconstruction.sum() / kept.lesion_contrast.sum()
        facts[f"n {part}"] = len(kept)
    images = {"healthy": healthy, "change": np.where(brain, 0.5 + 2.5 * (change - shade), 0)}
    for name, wanted in (("many", MANY), ("few", FEW)):
        number = int(np.abs(load - wanted).argmin())
        images |= {name: volumes[number], f"{name}, rebuilt": rebuilt[number]}
        facts[f"ml, {name}"] = load[number]
    return {name: as_bytes(image) for name, image in images.items()}, facts


def main(models: dict) -> None:
    "Ask each model, and keep what it says."
    rows = people()
    lesions, brains = map(np.array, zip(*(phantom_lesions(row, SEED) for row in rows)))
    brain = brains.mean(0) > 0.5
    kept = dict(np.load(KEPT)) if KEPT.exists() else {}
    kept |= {"brain": brain, "often": as_bytes(lesions.mean(0) / lesions.mean(0).max())}
    kept |= {"most": lesions.mean(0).max()}
    table = KEPT.with_suffix(".csv")
    facts = pd.read_csv(table, index_col=0).T.to_dict() if table.exists() else {}
    for name, place in models.items():
        images, facts[name] = asked(ms.load_run(place), rows, lesions, brain)
        kept |= {f"{name}: {part}": image for part, image in images.items()}
    np.savez_compressed(KEPT, **kept)
    pd.DataFrame(facts).T.round(4).to_csv(table, index_label="model")


if __name__ == "__main__":
    main(dict(argument.split("=", 1) for argument in sys.argv[1:]))
