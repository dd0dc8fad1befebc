"""Lesion volumes that are brought along: good ones, bad ones, and masks that are none."""

import gzip
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import msvae_nbdev as ms
from msvae_nbdev.cohort.lesion_volumes import lesion_volumes
from msvae_nbdev.confound.audit import audit, audit_run
from msvae_nbdev.core import MsvaeError, read_json, write_json, write_tsv
from msvae_nbdev.latent.latents import surrogate_latents
from msvae_nbdev.show.commands import app

PEOPLE = ["sub-01", "sub-02", "sub-03"]
SCANS = pd.DataFrame({"participant_id": PEOPLE, "session_id": "ses-1"})


def two_classes() -> pd.DataFrame:
    "Scans of healthy people and of patients with more lesions, some of whom have as few."
    cohort = surrogate_latents(scale=0.05, latent_dim=4, bias=0, seed=2)
    cohort = cohort[cohort.diagnosis.isin(["healthy", "ms"])].reset_index(drop=True)
    load = np.random.default_rng(2).normal(0, 1, len(cohort)) + (cohort.diagnosis == "ms")
    return cohort.assign(lesion_ml=np.exp(load))


def asked(table: pd.DataFrame, **options) -> dict:
    "What an audit says of the lesion volumes, and its notes."
    found = audit(table, permutations=199, **options)
    return (found["lesion_load"] or {}) | {"notes": " ".join(found["notes"])}


# --- columns ---


def test_negative_volumes_are_left_out_and_counted():
    table = two_classes()
    table.loc[table.index % 3 == 0, "lesion_ml"] = -99.0
    below = int((table.index % 3 == 0).sum())
    found = asked(table)
    assert (found["n_missing"], found["n_scans"]) == (below, len(table) - below)
    assert f"below 0 (column lesion_ml): {below}" in found["notes"]
    assert f"column lesion_ml, {len(table) - below} scans, {below} left out" in found["sentence"]


def test_equal_volumes_are_not_asked():
    found = asked(two_classes().assign(lesion_ml=4.0))
    assert (found["balanced_accuracy"], found["more_than_load"]) == (None, False)
    assert "all scans have the same lesion volume" in found["sentence"]


def test_text_is_no_volume():
    table = two_classes().assign(lesion_ml="severe")
    found = asked(table)
    assert "sentence" not in found
    assert f"no numbers (column lesion_ml): {len(table)}, as severe" in found["notes"]
    with pytest.raises(MsvaeError, match="no lesion volume in lesion_ml: .*as severe"):
        audit(table, lesion_volume="lesion_ml", permutations=199)
    commas = two_classes()
    commas["lesion_ml"] = [f"{value:.2f}".replace(".", ",") for value in commas.lesion_ml]
    assert asked(commas)["n_missing"] == 0


def test_volumes_of_one_class_only():
    table = two_classes()
    found = asked(table.assign(lesion_ml=table.lesion_ml.where(table.diagnosis == "ms")))
    assert (found["balanced_accuracy"], found["more_than_load"]) == (None, False)
    assert "known of MS only" in found["sentence"]


def test_volumes_of_a_handful_of_people():
    table = two_classes()
    few = table.participant_id.isin(table.participant_id.unique()[:4])
    found = asked(table.assign(lesion_ml=table.lesion_ml.where(few)))
    assert (found["labels"], found["more_than_load"]) == ([], False)


def test_a_named_column_comes_first_and_must_be_there():
    table = two_classes().assign(wmh=lambda each: each.lesion_ml * 2)
    assert asked(table, lesion_volume="wmh")["source"] == "column wmh"
    with pytest.raises(MsvaeError, match="no column plaques"):
        audit(table, lesion_volume="plaques", permutations=199)


# --- masks ---


def put_mask(
    folder: Path, participant="sub-01", voxels=1000, shape=(30, 30, 30), **entities
) -> Path:
    "A mask of 1 mm voxels as BIDS derivatives have it."
    volume = np.zeros(shape, np.uint8)
    volume.flat[:voxels] = 1
    words = [f"_{key}-{value}" for key, value in ({"label": "L"} | entities).items()]
    place = folder / participant / "ses-1" / "anat"
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{participant}_ses-1{''.join(words)}_mask.nii.gz"
    nib.save(nib.Nifti1Image(volume, np.eye(4)), path)
    return path


def test_an_empty_mask_is_no_lesion_and_a_missing_one_is_not_known(tmp_path):
    put_mask(tmp_path, "sub-01", 0)
    put_mask(tmp_path, "sub-02", 1500)
    found = lesion_volumes(SCANS, tmp_path)
    np.testing.assert_equal(found.ml, [0.0, 1.5, np.nan])


def test_masks_of_other_shapes(tmp_path):
    "Another grid is measured in its own voxels; four dimensions and a slice are no mask."
    put_mask(tmp_path, "sub-01", 500, shape=(12, 60, 20))
    put_mask(tmp_path, "sub-02", 500, shape=(20, 20, 20, 3))
    put_mask(tmp_path, "sub-03", 50, shape=(64, 64))
    found = lesion_volumes(SCANS, tmp_path)
    np.testing.assert_equal(found.ml, [0.5, np.nan, np.nan])
    assert (
        "could not be read: 2, sub-02_ses-1_label-L_mask.nii.gz holds 3 volumes" in found.notes[0]
    )
    assert str(tmp_path) not in " ".join(found.notes)


def test_an_image_is_no_mask(tmp_path):
    put_mask(tmp_path, "sub-01", 30**3)
    put_mask(tmp_path, "sub-02", 10)
    found = lesion_volumes(SCANS, tmp_path)
    assert found.known == 1 and "covers 100% of its image" in found.notes[0]


def test_masks_in_the_space_of_a_template_are_not_millilitres_of_a_person(tmp_path):
    put_mask(tmp_path, space="MNI152NLin6Asym", label="L")
    with pytest.raises(MsvaeError, match="none of these scans"):
        lesion_volumes(SCANS, tmp_path)


def test_hostile_masks(tmp_path):
    "Pipes, bombs and links that lead out are counted, and nothing waits or fills the memory."
    tool, secret = tmp_path / "tool", put_mask(tmp_path / "elsewhere")
    for participant in ("sub-01", "sub-02"):
        (tool / participant / "ses-1" / "anat").mkdir(parents=True)
    os.mkfifo(tool / "sub-01/ses-1/anat/sub-01_ses-1_label-L_mask.nii.gz")
    (tool / "sub-02/ses-1/anat/sub-02_ses-1_label-L_mask.nii.gz").symlink_to(secret)
    bomb = put_mask(tool, "sub-03")
    bomb.write_bytes(gzip.compress(gzip.decompress(bomb.read_bytes()) + bytes(10**8)))
    put_mask(tool, "sub-04", 100)
    people = [*PEOPLE, "sub-04", "../elsewhere/sub-01", "/etc"]
    table = pd.DataFrame({"participant_id": people, "session_id": "ses-1"})
    found = lesion_volumes(table, tool)
    np.testing.assert_equal(found.ml, [np.nan] * 3 + [0.1] + [np.nan] * 2)
    said = " ".join(found.notes)
    assert "lies outside the dataset" in said and "pipe" in said and "could not be read: 2" in said


# --- tables ---


def test_a_table_of_volumes(tmp_path):
    file = tmp_path / "volumes.csv"
    file.write_text("participant_id;session_id;lesion_ml\n1;1;3,5\n2;2;9\nsub-03;;7\n")
    found = lesion_volumes(SCANS, file)
    np.testing.assert_equal(found.ml, [3.5, np.nan, 7.0])
    assert found.source == "table volumes.csv"
    file.write_text("participant_id,lesion_ml\n1,3\n1,4\n")
    with pytest.raises(MsvaeError, match="two lesion volumes of 1"):
        lesion_volumes(SCANS, file)
    file.write_text("participant_id,volume\n1,3\n")
    with pytest.raises(MsvaeError, match="no column lesion_ml, but participant_id, volume"):
        lesion_volumes(SCANS, file)
    file.write_text("participant_id,lesion_ml\n77,3\n")
    with pytest.raises(MsvaeError, match="none of these scans"):
        lesion_volumes(SCANS, file)


# --- a run ---


@pytest.fixture
def run(tmp_path) -> Path:
    "A run folder whose prepared folder is that of phantoms, as `msvae simulate --prepared` has it."
    prepared, run = tmp_path / "prepared", tmp_path / "run"
    prepared.mkdir(), run.mkdir()
    table = two_classes()
    number = table.groupby("participant_id").cumcount() + 1
    table["session_id"] = [f"ses-{each}" for each in number]
    table["path"] = table.participant_id + "/" + table.session_id + "_FLAIR.nii.gz"
    truth = table[["participant_id", "session_id", "lesion_ml"]]
    scans = table.drop(columns=["lesion_ml", *table.filter(like="z_")]).assign(status="ok")
    write_tsv(scans, prepared / "scans.tsv")
    write_tsv(truth, prepared / "derivatives" / "truth" / "scans.tsv")
    made_by = {"GeneratedBy": [{"Name": "msvae simulate"}]}
    write_json(made_by, prepared / "dataset_description.json")
    table.drop(columns="lesion_ml").to_parquet(run / "latents.parquet")
    write_json({"prepared": str(prepared)}, run / "config.json")
    return run


def test_a_run_of_phantoms_is_asked_by_their_truth(run):
    load = audit_run(run, permutations=199)["lesion_load"]
    assert (load["source"], load["n_missing"]) == ("truth of phantoms", 0)
    assert load["balanced_accuracy"] is not None
    figure = (run / "figures" / "bias-2-accuracy.json").read_text()
    assert "Latents, same lesion volume, too (truth of phantoms)" in figure


def test_the_truth_is_that_of_phantoms_only(run):
    "A folder that no simulation made has no truth, whatever its derivatives are called."
    write_json({"Name": "hospital"}, run.parent / "prepared" / "dataset_description.json")
    assert audit_run(run, permutations=199)["lesion_load"] is None


def test_a_run_by_a_table_on_the_command_line(run, tmp_path):
    truth = pd.read_csv(tmp_path / "prepared/derivatives/truth/scans.tsv", sep="\t")
    people = truth.drop_duplicates("participant_id")[["participant_id", "lesion_ml"]]
    people.to_csv(tmp_path / "mine.csv", index=False)
    done = CliRunner().invoke(
        app, ["bias", str(run), "--lesion-volume", str(tmp_path / "mine.csv")]
    )
    assert done.exit_code == 0, done.output
    assert read_json(run / "bias.json")["lesion_load"]["source"] == "table mine.csv"
    assert "same lesion volume (table mine.csv" in done.output


def test_a_broken_description_does_not_end_an_audit(run):
    (run.parent / "prepared" / "dataset_description.json").write_text("{")
    assert audit_run(run, permutations=199)["lesion_load"] is None


def test_no_place_on_this_machine_is_told(run):
    prepared = run.parent / "prepared"
    (prepared / "participants.tsv").write_bytes(b"participant_id\tlesion_ml\n\0")
    found = audit_run(run, permutations=199)
    assert found["lesion_load"]["source"] == "truth of phantoms"
    assert "NUL" in " ".join(found["notes"])
    assert str(run.parent) not in (run / "bias.json").read_text()


def test_the_audit_of_a_run_takes_what_the_audit_of_a_table_takes():
    import inspect

    of_run = inspect.signature(ms.Run.audit).parameters
    of_table = inspect.signature(ms.audit).parameters
    assert {"merge", "nuisance", "lesion_volume"} <= set(of_run) & set(of_table)
