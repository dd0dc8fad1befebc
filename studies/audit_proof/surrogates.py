"""Audits of made-up latents whose truth is known: scenarios, and one row of a table per audit."""

from msvae_nbdev.confound.audit import audit
from msvae_nbdev.confound.conclusion import ISOLATING
from msvae_nbdev.latent.latents import surrogate_latents

SCENARIOS = {  # arguments of `surrogate_latents`, and the answer that data enough would allow
    "disease, same protocols": (dict(disease=1, acquisition=1, bias=0), "disease"),
    "disease, other protocols that leave no trace": (
        dict(disease=1, acquisition=0, bias=0.6),
        "disease",
    ),
    "no disease, other protocols": (dict(disease=0, acquisition=1, bias=0.6), "acquisition"),
    "disease and other protocols": (dict(disease=1, acquisition=1, bias=0.6), "both"),
    "disease, no common protocol": (dict(disease=1, acquisition=1, bias=1), "undecidable"),
    "no disease, no common protocol": (dict(disease=0, acquisition=1, bias=1), "undecidable"),
    "nothing to find": (dict(disease=0, acquisition=1, bias=0), "undecidable"),
}
METHODS = ("metadata_only", "latent_only", *ISOLATING, "regressed_out", "regressed_with_class")


def audit_row(
    found: dict,  # from `audit`
) -> dict:  # verdict, verdict on MS, p-values, and of each method its accuracy and interval
    "One row for a table of audits."
    confound = found["confound"]
    names = ("separation_p", "association_p", "partial_p", "full_p")
    row = {
        "verdict": confound["verdict"],
        "ms": confound["per_class"]["ms"]["verdict"],
        **{name: confound[name] for name in names},
        "noninferiority_p": confound["half_left_p"],
        "overlap": confound["overlap"],
        **{f"axis {axis['axis']}": axis["reading"] for axis in found["axes"]},
        "effective_patients": found["adjusted"].get("effective_patients"),
    }
    for name in METHODS:
        row |= _accuracy_columns(name, found[name])
        row |= _accuracy_columns(f"{name}, isolated", found[name].get("isolated", {}))
    return row


def _accuracy_columns(name: str, accuracy: dict) -> dict:
    "Balanced accuracy and the ends of its interval, if there is one."
    if not accuracy.get("interval"):
        return {}
    low, high = accuracy["interval"]
    return {name: accuracy["balanced_accuracy"], f"{name} low": low, f"{name} high": high}


def audit_surrogate(
    scenario: str,  # a key of `SCENARIOS`
    seed: int,
    scale: float = 0.1,  # size of the cohort, as a share of table 1
    latent_dim: int = 16,
    permutations: int = 199,
) -> dict:  # scenario, scale, truth, seed, and the row of `audit_row`
    "Audit one surrogate cohort whose truth is known."
    switches, truth = SCENARIOS[scenario]
    table = surrogate_latents(scale=scale, latent_dim=latent_dim, ageing=0, seed=seed, **switches)
    found = audit(table, evaluation="folds", permutations=permutations, seed=seed)
    return {"scenario": scenario, "scale": scale, "truth": truth, "seed": seed, **audit_row(found)}
