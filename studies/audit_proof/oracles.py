"""What published programs say of fixed inputs, for the tests of the audit to be held against.

`python studies/audit_proof/oracles.py` writes data/audit/oracles.npz. It wants mlconfound 0.21 and neuroHarmonize 2.5, which
need NumPy 1 and cannot be installed beside this package: give them an environment of their own.
"""

from pathlib import Path

import numpy as np
import pandas as pd

KEPT = Path(__file__).parents[2] / "data" / "audit"
COHORTS, PEOPLE = 12, 200


def cohorts() -> dict:
    "Cohorts of two classes: a prediction that follows class, protocol, both or neither by degrees."
    rng = np.random.default_rng(5)
    label = rng.integers(2, size=(COHORTS, PEOPLE))
    mixed = np.array([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]])
    protocol = np.array([[rng.choice(3, p=mixed[one]) for one in row] for row in label])
    of_class = np.tile([0.0, 0.0, 0.15, 0.3], COHORTS // 4)[:, None]
    of_protocol = np.repeat([0.0, 0.15, 0.3], COHORTS // 3)[:, None]
    noise = rng.normal(size=(COHORTS, PEOPLE))
    score = of_class * (2 * label - 1) + of_protocol * (protocol - 1) * 1.5 + noise
    return {"label": label, "protocol": protocol, "probability": 1 / (1 + np.exp(-score))}


def confounder_tests(inputs: dict) -> dict:
    "P-values of mlconfound."
    from mlconfound.stats import full_confound_test, partial_confound_test

    options = dict(num_perms=400, cat_y=True, cat_c=True, random_state=0, progress=False, n_jobs=1)
    found = {"full": [], "partial": []}
    for y, c, p in zip(inputs["label"], inputs["protocol"], inputs["probability"]):
        found["full"].append(full_confound_test(y, p, c, **options).p)
        found["partial"].append(partial_confound_test(y, p, c, **options).p)
    return {f"mlconfound_{name}": np.array(p) for name, p in found.items()}


def harmonised() -> dict:
    "ComBat of neuroHarmonize, learned on 200 scans and applied to 100 others."
    from neuroHarmonize import harmonizationApply, harmonizationLearn

    rng = np.random.default_rng(6)
    protocol = rng.integers(3, size=300)
    shift, stretch = rng.normal(size=(3, 12)), rng.uniform(0.6, 1.6, size=(3, 12))
    values = rng.normal(size=(300, 12)) * stretch[protocol] + shift[protocol]
    table = pd.DataFrame({"SITE": protocol.astype(str)})
    model, _ = harmonizationLearn(values[:200], table[:200])
    applied = harmonizationApply(values[200:], table[200:], model)
    return {"values": values, "site": protocol, "neuroharmonize": applied}


if __name__ == "__main__":
    inputs = cohorts()
    np.savez_compressed(KEPT / "oracles.npz", **inputs, **confounder_tests(inputs), **harmonised())
