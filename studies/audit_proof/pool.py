"""Phantoms scanned under several protocols each and encoded; cohorts of known truth drawn from them."""

from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from surrogates import audit_row

from msvae_nbdev.cohort.columns import ACQUISITION
from msvae_nbdev.confound.audit import audit
from msvae_nbdev.core import atomic_path, track
from msvae_nbdev.phantom.anatomy import rng_for
from msvae_nbdev.phantom.imaging import simulate_prepared
from msvae_nbdev.phantom.scanner import PROTOCOL_PROBABILITIES, PROTOCOLS, make_acquisition

POOL = {"healthy": 2600, "ms": 1100}  # participants
POOL_SEED = 20  # of everybody in the pool; the encoder's training cohort has another


def in_processes(jobs: list, workers: int, what: str) -> list:
    "Run the jobs in worker processes."
    try:
        return list(track(Parallel(workers, return_as="generator")(jobs), what, total=len(jobs)))
    finally:
        get_reusable_executor().shutdown()


def rescan(
    row: dict,  # one row of `plan_cohort`: the participant
    acquisitions: list,  # of dicts as `make_acquisition` gives them
    seed: int = 0,
    disease: float = 1.0,  # factor on lesion volumes
) -> np.ndarray:  # float32 (protocols, 40, 48, 40), in [0, 1]
    "The same participant, in the same pose, under several protocols, in the prepared layout."
    scans = [{**row, **acquisition} for acquisition in acquisitions]
    return np.array([simulate_prepared(scan, seed, disease)[0] for scan in scans])


def plan_pool(
    participants: dict = POOL,  # how many of each class
    seed: int = POOL_SEED,
    scans: int = 3,  # of each participant, under as many protocols
) -> list:  # per participant: (row as in `plan_cohort`, list of acquisitions)
    "Three of the six protocols for everybody, drawn by lot; age and sex alike for both classes."
    plan = [
        _planned(diagnosis, number, seed, scans)
        for diagnosis, count in participants.items()
        for number in range(count)
    ]
    return sorted(  # both classes grow together
        plan, key=lambda job: job[0]["number"] / participants[job[0]["diagnosis"]]
    )


def _planned(diagnosis: str, number: int, seed: int, scans: int) -> tuple:
    "One participant and the acquisitions."
    rng = rng_for(seed, diagnosis, number, "pool")
    row = {
        "participant_id": f"sub-{diagnosis}{number:04d}",
        "diagnosis": diagnosis,
        "number": number,
        "session": 0,
        "age": round(rng.uniform(30, 80), 1),
        "sex": str(rng.choice(["F", "M"])),
        "years": 0.0,
    }
    wanted, found, draw = set(rng.choice(PROTOCOLS.index, scans, replace=False)), {}, 0
    while len(found) < scans:
        acquisition = make_acquisition(seed, diagnosis, number, draw, bias=0)
        draw += 1
        if acquisition["protocol"] in wanted:
            found.setdefault(acquisition["protocol"], acquisition)
    return row, list(found.values())


def simulate_pool(
    folder: str | Path,  # gets one .npy per participant, float16 (scans, 40, 48, 40)
    plan: list,  # from `plan_pool`
    seed: int = POOL_SEED,
    workers: int = 2,
) -> None:
    "Simulate the pool; a second call does what is missing."
    Path(folder).mkdir(parents=True, exist_ok=True)
    missing = [job for job in plan if not _volume_path(folder, job[0]).exists()]
    jobs = [delayed(_simulate)(folder, row, acquisitions, seed) for row, acquisitions in missing]
    in_processes(jobs, workers, "simulating the pool")


def _simulate(folder, row: dict, acquisitions: list, seed: int) -> None:
    "Simulate and store one participant."
    with atomic_path(_volume_path(folder, row)) as temporary:
        with open(temporary, "wb") as file:
            np.save(file, rescan(row, acquisitions, seed).astype(np.float16))


def _volume_path(folder, row: dict) -> Path:
    return Path(folder) / f"{row['participant_id']}.npy"


def encode_pool(
    folder: str | Path,  # from `simulate_pool`
    plan: list,  # from `plan_pool`
    run,  # a `Run`
) -> pd.DataFrame:  # one row per scan: who, acquisition, protocol, z_0 ... z_{k-1} (float16)
    "The latents of the pool, in steps of 1/32: a hundredth of their spread within a class."
    rows, latents = [], []
    for row, acquisitions in track(plan, "encoding the pool"):
        latents.append(run.encode(np.load(_volume_path(folder, row)).astype(np.float32)[..., None]))
        for acquisition in acquisitions:
            known = {name: row[name] for name in ("participant_id", "diagnosis", "age", "sex")}
            kept = [name for name in (*ACQUISITION, "protocol") if name in acquisition]
            rows.append(known | {name: acquisition[name] for name in kept})
    z = np.round(32 * np.concatenate(latents)) / 32
    columns = [f"z_{i}" for i in range(z.shape[1])]
    return pd.concat(
        [pd.DataFrame(rows), pd.DataFrame(z.astype(np.float16), columns=columns)], axis=1
    )


def class_odds(
    bias: float,  # 0: the same for both classes; 1: figure 11; 2: next to nothing in common
) -> dict:  # class: odds of the six protocols
    "The odds of the protocols by class."
    if bias <= 1:
        return {
            name: (1 - bias) * PROTOCOL_PROBABILITIES["any"]
            + bias * PROTOCOL_PROBABILITIES["ms" if name == "ms" else "rest"]
            for name in ("healthy", "ms")
        }
    apart = np.array([0.33, 0.33, 0.33, 0.003, 0.003, 0.004])
    return {"healthy": apart, "ms": apart[::-1]}


def draw_cohort(
    pool: pd.DataFrame,  # from `encode_pool`
    disease: bool,  # False: the label MS is given to participants without lesions
    bias: float,  # as in `class_odds`
    seed: int = 0,
    participants: int = 1000,  # of which three fifths are healthy
    again: float = 0.5,  # share of participants with a second scan
) -> pd.DataFrame:  # one row per scan, as from `msvae encode`
    "A cohort drawn from the pool by patients; nobody is in two classes."
    rng, rows, used = np.random.default_rng(seed), [], set()
    holds = _rows_by_protocol(pool)
    of_class = pool.drop_duplicates("participant_id").set_index("participant_id").diagnosis
    for label, number in (("healthy", participants * 3 // 5), ("ms", participants * 2 // 5)):
        odds = class_odds(bias)[label]
        source = rng.permutation(of_class.index[of_class == (label if disease else "healthy")])
        for _ in range(number):
            first = rng.choice(6, p=odds / odds.sum())
            free = (name for name in source if name not in used and first in holds[name])
            name = next(free, None)
            if name is None:
                continue
            used.add(name)
            rows.append((holds[name][first], label))
            second = _second_protocol(holds[name], first, odds, again, rng)
            if second is not None:
                rows.append((holds[name][second], label))
    cohort = pool.iloc[[row for row, _ in rows]].reset_index(drop=True)
    return cohort.assign(
        diagnosis=[label for _, label in rows],
        session_id=[f"ses-{row}" for row, _ in rows],
        split="train",
    )


def _rows_by_protocol(pool: pd.DataFrame) -> dict:
    "participant: {position of the protocol: row of the pool}."
    place = {name: number for number, name in enumerate(PROTOCOLS.index)}
    scans = pool.assign(row=np.arange(len(pool)), protocol=pool.protocol.map(place))
    groups = scans.groupby("participant_id", sort=False)
    return {name: dict(zip(own.protocol, own.row)) for name, own in groups}


def _second_protocol(held: dict, first: int, odds: np.ndarray, again: float, rng) -> int | None:
    "The protocol of a second scan, one that the class has; None: there is no second scan."
    other = odds * [protocol in held and protocol != first for protocol in range(6)]
    if rng.random() < again and rng.random() < other.sum() / odds.sum():
        return rng.choice(6, p=other / other.sum())
    return None


SETTINGS = {  # whether there is a disease, the bias, and the answer that data enough would allow
    "no disease, same protocols": (False, 0.0, "undecidable"),
    "no disease, bias 0.6": (False, 0.6, "acquisition"),
    "no disease, bias 1 (figure 11)": (False, 1.0, "acquisition"),
    "no disease, hardly a common protocol": (False, 2.0, "undecidable"),
    "disease, same protocols": (True, 0.0, "disease"),
    "disease, bias 0.6": (True, 0.6, "both"),
    "disease, bias 1 (figure 11)": (True, 1.0, "both"),
    "disease, hardly a common protocol": (True, 2.0, "undecidable"),
}


def audit_drawn(
    pool: pd.DataFrame,  # from `encode_pool`
    setting: str,  # a key of `SETTINGS`
    participants: int,  # in the cohort
    seed: int,
    permutations: int = 199,
) -> dict:  # setting, participants, seed, scans, patients, and the row of `audit_row`
    "Audit one cohort drawn from the pool."
    disease, bias, _ = SETTINGS[setting]
    cohort = draw_cohort(pool, disease, bias, seed, participants)
    found = audit(cohort, evaluation="folds", permutations=permutations, seed=seed)
    return {
        "setting": setting,
        "participants": participants,
        "seed": seed,
        "scans": len(cohort),
        "patients": cohort.participant_id.nunique(),
        **audit_row(found),
    }
