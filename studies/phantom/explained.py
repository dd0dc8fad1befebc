"""What of the classes age, atrophy, lesion load, the places of lesions and the protocol each explain, in a cohort without acquisition bias.

    python studies/phantom/explained.py     write data/phantom/explained.csv (some 5 minutes on one core)

True quantities of phantoms, no image: what nobody can do better than who sees an image of the same people.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import balanced_accuracy_score, precision_score, recall_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer, StandardScaler

from msvae_nbdev.groups import merge_groups
from msvae_nbdev.phantom.head import load_head, world_axes
from msvae_nbdev.phantom.imaging import plan_cohort
from msvae_nbdev.phantom.participant import make_participant

KEPT = Path(__file__).parents[2] / "data" / "phantom" / "explained.csv"
SCALE, SEEDS, DISEASES = 0.4, (91, 92), (1.0, 0.0)
DISTANCES = (3, 8, 15)  # mm to the ventricles, between the zones of a lesion map
FEATURES = {
    "age": ["age"],
    "atrophy": ["log_ventricle", "sulci"],
    "load": ["log_lesion"],
    "place": ["zone_0", "zone_1", "zone_2", "infratentorial", "asymmetry", "pieces"],
    "protocol": ["field", "volumetric", "te", "ti"],
}
SETS = {
    **{name: [name] for name in FEATURES},
    "age and atrophy": ["age", "atrophy"],
    "age and load": ["age", "load"],
    "age, atrophy, load": ["age", "atrophy", "load"],
    "age, atrophy, load, place": ["age", "atrophy", "load", "place"],
    "all": list(FEATURES),
}


def places(lesion: np.ndarray) -> dict:
    "Where the lesions of a map on the 2 mm box lie: shares, and how many pieces there are."
    head, there = load_head(2), lesion > 0.5
    _, _, z = world_axes(lesion.shape, head.affine, head.start)
    total = max(there.sum(), 1)
    zone = np.digitize(head.ventricle_mm, DISTANCES)
    shares = {f"zone_{k}": (there & (zone == k)).sum() / total for k in range(len(DISTANCES))}
    left = np.count_nonzero(there[: len(there) // 2])
    return shares | {
        "infratentorial": (there & (z < -22)).sum() / total,
        "asymmetry": abs(2 * left - total) / total,
        "pieces": np.log1p(ndimage.label(there)[1]),
    }


def facts(row: dict, seed: int, disease: float) -> dict:
    "The true quantities of one participant at the first scan."
    person = make_participant(row, seed, disease)
    lesion_ml = (person.lesions.lesion > 0.5).sum() * 8 / 1000 * np.linalg.det(person.anatomy.size)
    return {
        "diagnosis": row["diagnosis"],
        "age": row["age"],
        "log_ventricle": np.log(person.anatomy.ventricle_ml),
        "sulci": person.anatomy.sulci,
        "log_lesion": np.log(lesion_ml + 0.1),
        "field": row["MagneticFieldStrength"],
        "volumetric": float(row["volumetric"]),
        "te": row["EchoTime"],
        "ti": row["InversionTime"],
        **places(person.lesions.lesion),
    }


def told(table: pd.DataFrame, columns: list, seed: int) -> dict:
    "Balanced accuracy of five classes and of three, and MS, in ten folds of people."
    model = make_pipeline(
        SplineTransformer(5, extrapolation="linear"),
        StandardScaler(),
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    )
    found = {}
    for name, labels in (("five", table.diagnosis), ("merged", merge_groups(table.diagnosis))):
        folds = StratifiedKFold(10, shuffle=True, random_state=seed)
        said = cross_val_predict(model, table[columns], np.asarray(labels, str), cv=folds)
        found[name] = balanced_accuracy_score(labels, said)
    truth = np.asarray(labels, str)
    found["ms_precision"] = precision_score(truth, said, labels=["ms"], average=None, zero_division=0)[0]  # fmt: skip
    found["ms_recall"] = recall_score(truth, said, labels=["ms"], average=None)[0]
    return found


if __name__ == "__main__":
    rows = []
    for seed in SEEDS:
        plan = plan_cohort(SCALE, seed, bias=0).query("session == 0")
        for disease in DISEASES:
            table = pd.DataFrame([facts(row, seed, disease) for row in plan.to_dict("records")])
            for name, parts in SETS.items():
                columns = [column for part in parts for column in FEATURES[part]]
                known = {"disease": disease, "seed": seed, "n": len(table), "known": name}
                rows.append(known | told(table, columns, seed))
            print(pd.DataFrame(rows).tail(len(SETS)).round(2).to_string(), flush=True)
    pd.DataFrame(rows).to_csv(KEPT, index=False, float_format="%.4g")
