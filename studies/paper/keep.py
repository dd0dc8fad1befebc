"""Keep what the docs show of the study: `python studies/paper/keep.py STUDY [WORLD ...]` adds to data/study and msvae_nbdev/weights.

STUDY is the folder of `msvae study`, with all of its models or some: those that are not there stay as they are kept. A WORLD is one of the same at
another bias or without disease, of which the numbers alone are kept.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np

from msvae_nbdev.core import read_json, write_json
from msvae_nbdev.groups import as_labels
from msvae_nbdev.latent.latent_space import open_space
from msvae_nbdev.model.checkpoints import mean_image
from msvae_nbdev.model.pretrained import pack_run, unpack_run
from msvae_nbdev.model.trained_run import load_run
from msvae_nbdev.show.new_scan import peer_errors

ROOT = Path(__file__).parents[2]
NUMBERS = ("history.csv", "quality.json", "lda.json", "bias.json", "provenance.json")
SCANS = ("quality_scans.tsv", "lda_scans.tsv")
PACKED = {"introvae-256": "phantom-ivae-256", "vae-32": "phantom-vae-32"}
SHOWN = ("healthy", "ms", "leuko3")  # a test scan of each, as in figures 3 to 5
SAMPLES = 4


def keep_numbers(run, target, names):
    "Copy the small files of a run."
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(run.path / name, target / name)


def keep_latents(run, target):
    "Latents in sixteen bits, without places."
    table = run.latents.drop(columns=["path", "source"], errors="ignore")
    codes = [name for name in table if name.startswith("z_")]
    table = table.astype(dict.fromkeys(codes, np.float16))
    packing = {"compression": "zstd", "use_dictionary": False}  # no number is there twice
    table.to_parquet(target / "latents.parquet", index=False, **packing)


def as_bytes(volumes):
    "Volumes in [0, 1] as eight bits, without their last axis."
    return np.rint(255 * np.clip(volumes, 0, 1)).astype(np.uint8).reshape(-1, 40, 48, 40)


def shown_scans(run):
    "The first test scan of a patient of each of the classes shown."
    volumes, table = run.scans("test")
    rows = [int(np.flatnonzero(as_labels(table.diagnosis) == name)[0]) for name in SHOWN]
    return volumes[rows], table.iloc[rows]


def scan_names(table):
    "Who is shown."
    return [f"{row.participant_id}, {row.diagnosis}" for row in table.itertuples()]


def first_volumes(run):
    "The mean image and three test scans of the study's cohort."
    originals, table = shown_scans(run)
    everyone = run.prepared.volumes
    return {
        "mean": as_bytes(mean_image(everyone, np.arange(len(everyone)))[0]),
        "originals": as_bytes(originals),
        "names": np.array(scan_names(table)),
    }


def keep_volumes(runs, file):
    "Add three reconstructions and some samples of each model to what all models share."
    kept = dict(np.load(file)) if file.exists() else first_volumes(runs[0])
    for run in runs:
        originals, table = shown_scans(run)
        assert scan_names(table) == kept["names"].tolist(), "another cohort or split"
        if run.intensity_scale == "bounded":
            assert (as_bytes(originals) == kept["originals"]).all(), "another cohort"
        else:
            kept[f"originals-{run.path.name}"] = as_bytes(originals)
        kept[f"reconstructions-{run.path.name}"] = as_bytes(run.reconstruct(originals))
        kept[f"samples-{run.path.name}"] = as_bytes(run.sample(SAMPLES))
    np.savez_compressed(file, **kept)


def test_error(run):
    "Mean squared error on the test scans."
    volumes, _ = run.scans("test")
    rows = [np.arange(first, min(first + 64, len(volumes))) for first in range(0, len(volumes), 64)]
    parts = [np.asarray(volumes[each]) for each in rows]
    errors = [((part - run.reconstruct(part)) ** 2).mean((1, 2, 3, 4)) for part in parts]
    return float(np.concatenate(errors).mean())


def keep_weights(run, scratch):
    "Pack a run for the package; says what rounding its weights did."
    file = ROOT / "msvae_nbdev" / "weights" / f"{PACKED[run.path.name]}.zip"
    file.parent.mkdir(exist_ok=True)
    peer_errors(open_space(run.path), run.path)  # predictions rank new scans among these
    pack_run(run, file)
    again = load_run(unpack_run(file, scratch / file.stem), run.prepared.path)
    found = {"bytes": file.stat().st_size, "mse": test_error(run), "mse_rounded": test_error(again)}
    shutil.rmtree(again.path)
    return {file.stem: found}


def main(study, worlds):
    "Fill the folders."
    target = ROOT / "data" / "study"
    runs = [load_run(path.parent) for path in sorted(study.glob("*/bias.json"))]
    file = target / "weights.json"
    weights = read_json(file) if file.exists() else {}
    for run in runs:
        keep_numbers(run, target / run.path.name, NUMBERS + SCANS)
        if run.path.name in PACKED:
            weights |= keep_weights(run, study)
        else:
            keep_latents(run, target / run.path.name)
    keep_volumes(runs, target / "volumes.npz")
    write_json(weights, file)
    for world in worlds:
        for path in sorted(world.glob("*/bias.json")):
            keep_numbers(load_run(path.parent), target / world.name / path.parent.name, NUMBERS)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"{target.relative_to(ROOT)}: {size / 1e6:.1f} MB; {weights}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("worlds", type=Path, nargs="*")
    main(**vars(parser.parse_args()))
