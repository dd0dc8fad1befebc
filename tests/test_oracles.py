"""The audit held against published programs, on inputs whose answers were kept (studies/audit_proof/oracles.py)."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from msvae_nbdev.confound.adjustment import ComBat, class_given
from msvae_nbdev.confound.tests import full_confounder_test, partial_confounder_test


@pytest.fixture(scope="module")
def kept():
    return np.load(Path(__file__).parents[1] / "data" / "audit" / "oracles.npz")


def ours(kept, test):
    "P-values of our test on the cohorts of the oracle."
    found = []
    for label, protocol, p in zip(kept["label"], kept["protocol"], kept["probability"]):
        rng, indicators = np.random.default_rng(0), np.eye(3)[protocol]
        predicted = np.column_stack([1 - p, p])
        if test == "full":
            known = class_given(indicators, label, indicators)
            found.append(full_confounder_test(predicted, label, known, 999, rng))
        else:
            found.append(partial_confounder_test(predicted, label, indicators, 999, rng))
    return np.array(found)


def test_full_confounder_test_agrees_with_mlconfound(kept):
    theirs, found = kept["mlconfound_full"], ours(kept, "full")
    # ours asks whether a prediction goes *with* the class, theirs whether they go together at all
    asked = found < 0.5
    assert asked.sum() >= 7 and (theirs[asked] < 0.05).sum() >= 3
    assert np.abs(theirs - found)[asked].max() < 0.05


def test_partial_confounder_test_agrees_with_mlconfound(kept):
    theirs, found = kept["mlconfound_partial"], ours(kept, "partial")
    clear = (theirs < 0.01) | (
        theirs > 0.1
    )  # theirs permutes by an estimated density, ours within classes
    assert (theirs < 0.01).sum() >= 5 and (theirs > 0.1).sum() >= 3
    assert ((theirs < 0.05) == (found < 0.05))[clear].all()
    assert stats.spearmanr(theirs, found).statistic > 0.9


def test_combat_agrees_with_neuroharmonize(kept):
    values, site = kept["values"], kept["site"]
    model = ComBat().fit(values[:200], protocol=site[:200])
    applied = model.transform(values[200:], site[200:])
    assert np.abs(applied - kept["neuroharmonize"]).max() < 1e-3
