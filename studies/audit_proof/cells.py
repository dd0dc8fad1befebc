"""Cohorts of known truth, drawn from the pool: what was done to each, and which answer is due."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from msvae_nbdev.cohort.columns import ACQUISITION
from msvae_nbdev.groups import TABLE1
from msvae_nbdev.phantom.scanner import PROTOCOL_PROBABILITIES, PROTOCOLS

APART = np.array([0.33, 0.33, 0.33, 0.003, 0.003, 0.004])  # next to nothing in common
NEAR = np.array([0.32, 0.32, 0.325, 0.011, 0.012, 0.012])  # an overlap near the threshold
AGES = {  # of (controls, patients): mean and spread in years; None: as in the pool, 20 to 80
    "equal": (None, None),
    "apart": ((46, 12), (65, 12)),
    "disjoint": ((35, 6), (70, 6)),
}


@dataclass(frozen=True)
class Cell:
    "One kind of cohort."

    disease: str  # 'none', 'lesions', or 'seen in 3D only'
    scanner: str  # 'same', 'mild', 'figure 11', 'near', 'disjoint'
    ages: str  # a key of `AGES`, or 'table 1'
    due: tuple  # the answers that are right; nothing: what was done cannot be known
    recorded: str = "all"  # or 'field strength'
    effect: str = "plain"  # or 'bright ventricles': another effect of the scanners in 3D
    classes: int = 2

    def possible(self, scans: pd.DataFrame) -> bool:
        "Whether a pool holds the people and the scans that the cell needs."
        kinds = {"seen in 3D only": "no lesions"}
        wanted = {kinds.get(self.disease, "plain"), self.effect}
        return wanted <= set(scans.variant) and scans.diagnosis.nunique() >= self.classes


def _due(disease: str, scanner: str, ages: str) -> tuple:
    "The right answers where everything is recorded."
    if scanner == "disjoint" or ages == "disjoint":
        return ()
    if disease != "none":
        return ("disease",) if scanner == "same" else ("both",)
    causes = ("acquisition",) * (scanner != "same") + ("age",) * (ages != "equal")
    return causes


CELLS = {
    f"{disease}, {scanner}, {ages}": Cell(disease, scanner, ages, _due(disease, scanner, ages))
    for disease in ("none", "lesions")
    for scanner in ("same", "mild", "figure 11", "disjoint")
    for ages in ("equal", "apart", "disjoint")
}
CELLS |= {
    f"{disease}, near, equal": Cell(disease, "near", "equal", _due(disease, "near", "equal"))
    for disease in ("none", "lesions")
}
CELLS |= {
    f"{disease}, {scanner}, equal, only field strength recorded": Cell(
        disease, scanner, "equal", (), recorded="field strength"
    )
    for disease, scanner in (("none", "figure 11"), ("lesions", "figure 11"), ("lesions", "same"))
}
CELLS |= {
    f"{disease}, figure 11, equal, bright ventricles": Cell(
        disease,
        "figure 11",
        "equal",
        _due(disease, "figure 11", "equal"),
        effect="bright ventricles",
    )
    for disease in ("none", "lesions")
}
CELLS |= {
    f"seen in 3D only, {scanner}, equal": Cell(
        "seen in 3D only", scanner, "equal", ("disease", "both") if scanner == "same" else ("both",)
    )
    for scanner in ("same", "figure 11")
}
CELLS |= {
    f"{disease}, {scanner}, table 1": Cell(
        disease, scanner, "table 1", _due(disease, scanner, "table 1"), classes=5
    )
    for disease in ("none", "lesions")
    for scanner in ("same", "figure 11")
}


def odds(scanner: str, patients: bool) -> np.ndarray:
    "The odds of the six protocols for patients or controls."
    if scanner in ("near", "disjoint"):
        apart = NEAR if scanner == "near" else APART
        return apart[::-1] if patients else apart
    bias = {"same": 0.0, "mild": 0.6, "figure 11": 1.0}[scanner]
    usual = PROTOCOL_PROBABILITIES["any"]
    return (1 - bias) * usual + bias * PROTOCOL_PROBABILITIES["ms" if patients else "rest"]


class Pool:
    "The scans of the pool with the features of one encoder."

    def __init__(self, scans: pd.DataFrame, features: pd.DataFrame):
        self.scans, self.features = scans, features
        place = {name: number for number, name in enumerate(PROTOCOLS.index)}
        protocol = scans.protocol.map(place)
        self.rows = {}  # participant: {(variant, protocol): row}
        for row, (name, variant, which) in enumerate(
            zip(scans.participant_id, scans.variant, protocol)
        ):
            self.rows.setdefault(name, {})[variant, which] = row
        self.people = scans.drop_duplicates("participant_id").set_index("participant_id")

    def cohort(
        self, cell: Cell, people: int, seed: int, block: int = 0, blocks: int = 1
    ) -> pd.DataFrame:
        "A cohort of a cell; those of one seed and different blocks share nobody."
        rng = np.random.default_rng([seed, block])
        deck = np.random.default_rng(seed).permutation(self.people.index.to_numpy())
        deck = deck[block::blocks]
        rows, used = [], set()
        for label, number in _sizes(cell, people).items():
            rows += self._class_rows(cell, label, number, deck, used, rng)
        found = pd.concat([self.scans, self.features], axis=1).iloc[[row for row, _ in rows]]
        found = found.reset_index(drop=True).assign(diagnosis=[label for _, label in rows])
        found = found.drop(columns=["protocol", "variant"])
        if cell.recorded == "field strength":
            found = found.drop(
                columns=[c for c in ACQUISITION if c in found and c != "MagneticFieldStrength"]
            )
        return found

    def _class_rows(self, cell: Cell, label: str, number: int, deck, used: set, rng) -> list:
        "Rows of one class, with its name."
        source = label if cell.disease != "none" else "healthy"
        patients, odd = label != "healthy", odds(cell.scanner, label == "ms")
        names = [
            name for name in deck if self.people.diagnosis[name] == source and name not in used
        ]
        names = _by_age(names, self.people.age[names].to_numpy(), cell, label, patients, rng)
        waiting = {which: iter(self._holders(names, which)) for which in range(6)}
        rows = []
        for first in rng.choice(6, number, p=odd / odd.sum()):
            name = next((name for name in waiting[first] if name not in used), None)
            if name is None:
                continue
            used.add(name)
            rows.append((self._row(cell, name, first), label))
            again = [which for which in range(6) if which != first]
            again = [which for which in again if ("plain", which) in self.rows[name]]
            share = odd[again] / odd.sum()
            if rng.random() < 0.5 * share.sum():
                second = int(rng.choice(again, p=share / share.sum()))
                rows.append((self._row(cell, name, second), label))
        return rows

    def _holders(self, names: list, protocol: int) -> list:
        "Those who were scanned under a protocol, in the same order."
        return [name for name in names if ("plain", protocol) in self.rows[name]]

    def _row(self, cell: Cell, name: str, protocol: int) -> int:
        "The row of a scan, in the variant that the cell asks for."
        held = self.rows[name]
        if cell.effect != "plain" and (cell.effect, protocol) in held:
            return held[cell.effect, protocol]
        if cell.disease == "seen in 3D only" and ("no lesions", protocol) in held:
            return held["no lesions", protocol]
        return held["plain", protocol]


def _sizes(cell: Cell, people: int) -> dict:
    "Participants of each class."
    if cell.classes == 2:
        return {"healthy": people * 3 // 5, "ms": people * 2 // 5}
    share = TABLE1.patients / TABLE1.patients.sum()
    return {name: max(12, round(people * part)) for name, part in share.items()}


def _by_age(names: list, ages: np.ndarray, cell: Cell, label: str, patients: bool, rng) -> list:
    "The participants in a random order that favours the ages asked for."
    wanted = (
        (TABLE1.age_mean[label], TABLE1.age_sd[label])
        if cell.ages == "table 1"
        else AGES[cell.ages][patients]
    )
    if wanted is None:
        weight = ((ages >= 20) & (ages <= 80)).astype(float)
    else:
        weight = np.exp(-(((ages - wanted[0]) / wanted[1]) ** 2) / 2)
    if cell.ages == "disjoint":
        weight *= ages > 56 if patients else ages < 50
    keys = rng.random(len(names)) ** (1 / np.maximum(weight, 1e-9))
    order = np.argsort(-keys)
    return [names[i] for i in order if weight[i] > 1e-3]
