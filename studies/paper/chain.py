"""Whether the whole chain and the simulator's shortcut agree: `python studies/paper/chain.py WORK [--flair BIDS]`.

One scan of each test patient of the study is simulated again as a raw head scan, prepared (skull strip, registration, down-sampling) and encoded by the IVAE-256 that
comes with the package; the latents go to data/study/chain.parquet, beside nothing else: what the shortcut gave stands in the model's own latents.
With --flair, real scans are prepared and placed, too; of these only numbers are kept (data/study/real.tsv). Run again, it goes on where it stopped.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from msvae_nbdev.core import write_tsv
from msvae_nbdev.latent.latent_space import open_space
from msvae_nbdev.model.pretrained import find_run
from msvae_nbdev.model.trained_run import encode, load_run
from msvae_nbdev.model.volumes import open_prepared
from msvae_nbdev.phantom.imaging import plan_cohort
from msvae_nbdev.phantom.simulate import write_raw
from msvae_nbdev.preparation.prepare import prepare
from msvae_nbdev.show.new_scan import peer_errors, place_scan

DATA = Path(__file__).parents[2] / "data" / "study"
MODEL = "phantom-ivae-256"
SEED = 0  # of the study's cohort


def test_rows(run) -> pd.DataFrame:
    "The rows of the study's plan that belong to test patients, one of each."
    plan = plan_cohort(1.0, SEED, bias=1.0)
    test = run.split[run.split.split == "test"]
    rows = plan[plan.participant_id.isin(test.participant_id)]
    assert len(rows) == len(test), "the plan is not that of the model's cohort"
    return rows.groupby("participant_id").head(1)


def simulate_raw(rows: pd.DataFrame, raw: Path) -> None:
    "Raw scans of some rows of a plan, as a BIDS dataset."
    Parallel(n_jobs=-1)(delayed(write_raw)(row, raw, SEED) for row in rows.to_dict("records"))
    people = rows.drop_duplicates("participant_id")
    write_tsv(people[["participant_id", "diagnosis", "age", "sex"]], raw / "participants.tsv")
    description = raw / "dataset_description.json"
    description.write_text('{"Name": "Test patients of the study", "BIDSVersion": "1.10.0"}\n')


def chain(work: Path) -> None:
    "Simulate, prepare, encode, and keep the latents."
    run, raw, prepared = load_run(find_run(MODEL)), work / "raw", work / "prepared"
    simulate_raw(test_rows(run), raw)
    scans = prepare(raw, prepared)
    print(scans.status.value_counts().to_dict(), flush=True)
    table = encode(run, open_prepared(prepared, include_suspect=True), work / "latents.parquet")
    status = scans.set_index(["participant_id", "session_id"]).status
    keys = pd.MultiIndex.from_frame(table[["participant_id", "session_id"]])
    codes = [name for name in table if name.startswith("z_")]
    kept = table[["participant_id", "session_id", *codes]].astype(dict.fromkeys(codes, np.float16))
    kept.insert(2, "status", status.reindex(keys).to_numpy())
    kept.to_parquet(DATA / "chain.parquet", index=False, compression="zstd")


def real(work: Path, bids: Path) -> None:
    "Prepare and place real scans; keep where they lie, and nothing that they show."
    path, prepared = find_run(MODEL), work / "real"
    prepare(bids, prepared)
    space, dataset = open_space(path), open_prepared(prepared, include_suspect=True)
    errors, rows = peer_errors(space, path), []
    for number, (_, known) in enumerate(dataset.table.iterrows()):
        volume = np.asarray(dataset.volumes[number])[None]
        code = np.asarray(space.encode(volume)).astype(float)
        rebuilt = np.asarray(space.decode(code))
        place = place_scan(space, code[0], float(((volume - rebuilt) ** 2).mean()), errors)
        predicted = space.classes[space.predict_proba(code)[0].argmax()]
        names = {"scan": number + 1, "diagnosis": known.diagnosis, "status": known.status}
        rows.append(names | place | {"predicted": predicted})
    write_tsv(pd.DataFrame(rows).round(4), DATA / "real.tsv")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder for the scans, some 6 GB")
    parser.add_argument("--flair", type=Path, help="a BIDS dataset of real scans")
    options = parser.parse_args()
    DATA.mkdir(parents=True, exist_ok=True)
    chain(options.work)
    if options.flair:
        real(options.work, options.flair)
