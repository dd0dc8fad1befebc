"""Hard edges: what is refused so that nothing of a user's is lost, and what damaged or endless files come to."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cases import Cases, write_file

from msvae_nbdev.core import MsvaeError, sweep, write_json
from msvae_nbdev.latent.latents import surrogate_latents
from msvae_nbdev.model.volumes import PreparedDataset
from msvae_nbdev.phantom.simulate import simulate
from msvae_nbdev.space import SHAPE

case = Cases("edges")


def said(folder: Path, work) -> str:
    "What becomes of a call: the message of its `MsvaeError`, or 'done'."
    try:
        work()
    except MsvaeError as error:
        return "refused: " + str(error).replace(f"{folder}/", "")
    return "done"


def unchanged(folder: Path, work) -> str:
    "The same, and that all files are as they were."
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    happened = said(folder, work)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert after == files
    return happened


def clinical(folder: Path) -> Path:
    "A raw dataset of a user's."
    write_file(folder / "dataset_description.json", '{"Name": "ours", "DatasetType": "raw"}')
    write_file(folder / "participants.tsv", "participant_id\tdiagnosis\nsub-1\tms\n")
    write_file(folder / "sub-1/anat/sub-1_FLAIR.nii.gz", b"\x1f\x8b a scan")
    return folder


def made_up(folder: Path, scans: int = 30, latent_dim: int = 4) -> PreparedDataset:
    "A cohort in memory, for what needs no scans."
    volumes = np.random.default_rng(0).random((scans, *SHAPE, 1), np.float32)
    people = [f"sub-{row:02}" for row in range(scans)]
    facts = {"participant_id": people, "session_id": None, "diagnosis": ["healthy", "ms"] * 15}
    table = pd.DataFrame(facts).assign(path="x", status="ok")
    return PreparedDataset(folder, table, volumes, "0" * 32)


def job(folder: Path, run: str):
    "What `train` checks before it begins."
    from msvae_nbdev.model.config import TrainingConfig
    from msvae_nbdev.model.training import make_job

    return make_job(made_up(folder), folder / run, TrainingConfig())


# --- nothing of the user's is destroyed ---

KEPT = "Nothing of yours is overwritten"


@case(KEPT, "`msvae simulate data --prepared`, a clinical dataset",
      "refused: data holds a dataset that was not simulated: choose another folder")  # fmt: skip
def _(folder):
    data = clinical(folder / "data")
    return unchanged(folder, lambda: simulate(data, 0.0001, prepared=True, workers=1))


@case(KEPT, "`msvae simulate data`, a folder with a table of yours",
      "refused: data holds scores.csv and is not a simulated cohort of msvae: "
      "choose an empty folder, or a new one")  # fmt: skip
def _(folder):
    write_file(folder / "data/scores.csv", "a,b\n")
    return unchanged(folder, lambda: simulate(folder / "data", 0.0001, workers=1))


@case(KEPT, "`msvae prepare prepared data`, source and output swapped",
      "refused: data holds a dataset that msvae did not prepare: choose another")  # fmt: skip
def _(folder):
    from msvae_nbdev.preparation.prepare import prepare

    data, prepared = clinical(folder / "data"), folder / "prepared"
    write_file(prepared / "dataset_description.json", '{"Name": "x", "BIDSVersion": "1.10.0"}')
    write_file(prepared / "sub-1/anat/sub-1_FLAIR.nii.gz", b"\x1f\x8b another")
    return unchanged(folder, lambda: prepare(prepared, data, workers=1))


@case(KEPT, "`msvae train prepared .`, where you keep checkpoints of your own",
      "refused: work holds checkpoints and is not a run of msvae: "
      "choose an empty folder, or a new one")  # fmt: skip
def _(folder):
    write_file(folder / "work/checkpoints/last.npz", b"mine")
    return unchanged(folder, lambda: job(folder, "work"))


@case(KEPT, "`msvae train prepared run`, where run/config.json is of another program",
      "refused: run/config.json holds a list where an object belongs")  # fmt: skip
def _(folder):
    write_file(folder / "run/config.json", "[1, 2]")
    return unchanged(folder, lambda: job(folder, "run"))


def report_to(folder: Path, name: str) -> None:
    from msvae_nbdev.show.report import report

    run = folder / "run"
    write_json({"objective": "vae", "latent_dim": 4}, run / "config.json")
    report(run, folder / name)


@case(KEPT, "`msvae report run -o run/config.json`",
      "refused: run/config.json is there and holds no report: give another name, or take it away")  # fmt: skip
def _(folder):
    return said(folder, lambda: report_to(folder, "run/config.json"))


@case(KEPT, "`msvae report run -o page.html`, twice", "done")
def _(folder):
    report_to(folder, "page.html")
    return said(folder, lambda: report_to(folder, "page.html"))


def predict_to(folder: Path, name: str) -> None:
    from msvae_nbdev.show.predict import predict

    predict(folder / "run", [folder / "scan.nii.gz"], folder / name)


@case(KEPT, "`msvae predict run scan.nii.gz -o run/config.html`",
      "refused: run/config.json is there and holds no prediction: give another name, or take it away")  # fmt: skip
def _(folder):
    write_json({"objective": "vae"}, folder / "run/config.json")
    return unchanged(folder, lambda: predict_to(folder, "run/config.html"))


def audit_to(folder: Path, name: str) -> None:
    from msvae_nbdev.show.audit_table import check_audit_folder

    check_audit_folder(folder / name)


@case(KEPT, "`msvae audit latents.parquet -o run`, the folder of a run",
      "refused: run holds bias.json and is not an audit of msvae: "
      "choose an empty folder, or a new one")  # fmt: skip
def _(folder):
    write_json({"note": "of the run"}, folder / "run/bias.json")
    return unchanged(folder, lambda: audit_to(folder, "run"))


# --- the tests ---


@pytest.mark.parametrize("one", case, ids=case.names())
def test_case(one, tmp_path):
    assert one.run(tmp_path) == one.happens


def test_the_page_is_up_to_date():
    assert case.is_up_to_date()


def test_only_what_is_ours_is_swept(tmp_path):
    ours, yours = tmp_path / "sub-1/.tmp-msvae-4194305-x.nii.gz", tmp_path / "sub-1/.tmp-mine"
    write_file(ours)
    write_file(yours)
    sweep(tmp_path)
    assert (ours.exists(), yours.exists()) == (False, True)


def test_an_audit_is_written_again_but_not_over_another_page(tmp_path):
    from msvae_nbdev.show.audit_table import audit

    table = surrogate_latents(0.05, 4)
    found = audit(table, features="z_*", permutations=199)
    found.save(tmp_path / "audit")
    found.save(tmp_path / "audit")
    shutil.copy(tmp_path / "audit/bias.json", tmp_path / "audit/audit.html")
    with pytest.raises(MsvaeError, match="holds no audit"):
        found.save(tmp_path / "audit")


if __name__ == "__main__":
    case.write()
