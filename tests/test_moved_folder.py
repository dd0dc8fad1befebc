"""What changes after a training: another process on the folder, a prepared folder that moved, a diagnosis that was mended, another Keras."""

import contextlib
import functools
import importlib.metadata
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cases import Cases

import msvae_nbdev as ms
from msvae_nbdev.core import (
    MsvaeError,
    read_json,
    read_tsv,
    write_json,
    write_tsv,
)
from msvae_nbdev.folder_lock import LOCK_NAME, keep_folder
from msvae_nbdev.model import training
from msvae_nbdev.model.trained_run import encode
from msvae_nbdev.model.training import train
from msvae_nbdev.model.volumes import scans_hash
from msvae_nbdev.phantom.simulate import simulate
from msvae_nbdev.show import predict
from msvae_nbdev.show.cli import main
from msvae_nbdev.show.report import report

case = Cases("moved")
SMALL = dict(latent_dim=2, epochs=1, batch_size=8, test=0.4, validation=0, verbose=0)
MOVED, MENDED = "Prepared folder moved after the training", "Diagnosis mended after the training"


@functools.cache
def made() -> Path:
    "A folder with a prepared cohort and a run, encoded; made once."
    folder = Path(tempfile.mkdtemp())
    simulate(folder / "prepared", scale=0.0001, seed=1, prepared=True)
    train(folder / "prepared", folder / "run", **SMALL)
    encode(folder / "run")
    return folder


@pytest.fixture(scope="module", autouse=True)
def leave_nothing():
    yield
    shutil.rmtree(made())


@pytest.fixture
def folder(tmp_path):
    return copied(tmp_path)


def copied(folder: Path) -> Path:
    "The same cohort and run in another folder."
    shutil.copytree(made(), folder, dirs_exist_ok=True)
    config = read_json(folder / "run/config.json")
    write_json(
        config | {"prepared": str((folder / "prepared").resolve())}, folder / "run/config.json"
    )
    return folder


def moved(folder: Path) -> Path:
    "The same with the prepared folder at another place."
    copied(folder)
    (folder / "prepared").rename(folder / "new")
    return folder


def said(folder: Path, *arguments: str) -> str:
    "What a command says in the end; its arguments are seen from the folder."
    output = io.StringIO()
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        with contextlib.suppress(SystemExit):
            main([*arguments])
    return output.getvalue().replace(f"{folder.resolve()}/", "")


def mend(prepared: Path, labels: dict) -> None:
    "Write other labels for people into scans.tsv, and scans that could not be prepared below."
    scans = read_tsv(prepared / "scans.tsv")
    scans["diagnosis"] = scans.participant_id.map(labels).fillna(scans.diagnosis)
    failed = pd.DataFrame({"participant_id": ["sub-x"] * 2, "status": "failed"})
    write_tsv(pd.concat([scans, failed]), prepared / "scans.tsv")


@case(
    MOVED,
    "`msvae evaluate run`",
    "msvae: prepared, on which run was trained, is not there: say where it is now, --prepared FOLDER",
)
def _(folder):
    return said(moved(folder), "evaluate", "run").strip()


@case(MOVED, "`msvae evaluate run --prepared new`", "evaluated")
def _(folder):
    text = said(moved(folder), "evaluate", "run", "--samples", "4", "--prepared", "new")
    return "evaluated" if text.startswith("run: test MSE") else text


@case(
    MOVED,
    "`msvae classify run`",
    "note: prepared does not hold the scans of run: labels are as they were when it was encoded, "
    "and no scan is shown (--prepared FOLDER, if it moved)",
)
def _(folder):
    return said(moved(folder), "classify", "run").splitlines()[0]


@case(
    MOVED,
    "`--prepared other`, a folder with other scans",
    "msvae: other does not hold the scans on which run was trained: name the folder to which those have moved",
)
def _(folder):
    shutil.copytree(moved(folder) / "new", folder / "other")
    first, second = sorted((folder / "other").glob("sub-*/ses-*/anat/*.nii.gz"))[:2]
    shutil.copy(first, second)
    return said(folder, "classify", "run", "--prepared", "other").splitlines()[-1]


@case(MENDED, "`msvae classify run`", "ms, leuko1, leuko2, leuko3 and NMOSD are told apart")
def _(folder):
    healthy = read_tsv(copied(folder) / "prepared/scans.tsv").query("diagnosis == 'healthy'")
    mend(folder / "prepared", dict.fromkeys(healthy.participant_id, "NMOSD"))
    said(folder, "classify", "run")
    *most, last = read_json(folder / "run/lda.json")["labels"]
    return f"{', '.join(most)} and {last} are told apart"


@case(
    MENDED,
    "the same `msvae train` again, to finish it",
    "the patients keep their parts of the split",
)
def _(folder):
    copied(folder)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "_finish", interrupted)
        train(folder / "prepared", folder / "half", **SMALL)
    split = read_tsv(folder / "half/split.tsv")
    mend(folder / "prepared", dict.fromkeys(split.participant_id, "ms"))
    after = train(folder / "prepared", folder / "half", **SMALL).scans("test")[1]
    assert set(after.diagnosis) == {"ms"}
    same = after.participant_id.tolist() == split[split.split == "test"].participant_id.tolist()
    return "the patients keep their parts of the split" if same else "another split"


def interrupted(*_):
    raise KeyboardInterrupt


@case(
    "Two processes on one folder",
    "`msvae train prepared run`, twice at a time",
    "msvae: run is in use by msvae train, process PID on HOST, since TIME: "
    "wait until it has ended, or choose another folder",
)
def _(folder):
    copied(folder)
    with keep_folder(folder / "half", "train"):
        text = said(folder, *"train prepared half --objective vae --latent-dim 2".split())
    text = text.replace("half", "run")
    return re.sub(
        r"process \d+ on \S+, since [\d :-]+:", "process PID on HOST, since TIME:", text
    ).strip()


def one_tested(folder: Path, command: str) -> str:
    "What a command says of a run with a single test patient."
    split = read_tsv(copied(folder) / "run/split.tsv")
    patient = split.participant_id[split.split == "test"].iloc[0]
    split["split"] = np.where(split.participant_id == patient, "test", "train")
    write_tsv(split, folder / "run/split.tsv")
    encode(folder / "run")
    return said(folder, *command.split()).strip()


@case(
    "One test patient",
    "`msvae classify run`",
    "run: No class has two test patients: nothing can be said of the balanced accuracy (hold out more patients).",
)
def _(folder):
    return one_tested(folder, "classify run")


@case(
    "One test patient",
    "`msvae evaluate run`",
    "One test patient: nothing can be said of others (hold out more patients).",
)
def _(folder):
    return one_tested(folder, "evaluate run --samples 4").partition("detail. ")[2]


def with_network(folder: Path, version: str) -> Path:
    "The run, its encoder as another Keras might have written it, with an option that is not known."
    path = copied(folder) / "run/encoder.keras"
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    parts["metadata.json"] = json.dumps({"keras_version": version}).encode()
    parts["config.json"] = parts["config.json"].replace(b'"seed": null', b'"seed": null, "axes": 1')
    with zipfile.ZipFile(path, "w") as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return folder


@case(
    "Networks of a later Keras",
    "a run that Keras 99.0.0 saved in a way that this one does not know",
    "msvae: run/encoder.keras was saved by Keras 99.0.0, this is VERSION: "
    "pip install 'keras>=99.0.0', or use the run where it was trained",
)
def _(folder):
    text = said(with_network(folder, "99.0.0"), "encode", "run", "prepared")
    return text.strip().replace(importlib.metadata.version("keras"), "VERSION")


# --- the tests ---


@pytest.mark.parametrize("one", case, ids=case.names())
def test_case(one, tmp_path):
    assert one.run(tmp_path) == one.happens


def test_the_page_is_up_to_date():
    assert case.is_up_to_date()


def test_a_run_that_another_process_finished_is_left_as_it_is(folder, monkeypatch):
    @contextlib.contextmanager
    def after_the_other(place, what):
        shutil.copytree(folder / "run", place)
        yield

    monkeypatch.setattr(training, "keep_folder", after_the_other)
    monkeypatch.setattr(training, "_fit", interrupted)
    again = train(folder / "prepared", folder / "again", **SMALL)
    assert again.history.seconds.equals(ms.load_run(folder / "run").history.seconds)


def test_a_simulation_keeps_its_folder_until_it_is_killed(tmp_path):
    out = tmp_path / "out"
    begin = f"simulate({str(out)!r}, 0.005, prepared=True, workers=2)"
    code = f"from msvae_nbdev.phantom.simulate import simulate; {begin}"
    first = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    while not (out / "dataset_description.json").exists():
        time.sleep(0.1)
    with pytest.raises(MsvaeError, match=f"in use by msvae simulate, process {first.pid} on "):
        simulate(out, 0.0001, prepared=True, at_least=1)
    with pytest.raises(MsvaeError, match="holds a cohort with seed 0, not 1"):
        simulate(out, 0.0001, seed=1, prepared=True)
    while not list(out.glob("sub-*")):  # the workers are there
        time.sleep(0.1)
    first.kill()
    first.wait()
    with keep_folder(out, "simulate"):  # while the workers still live
        os.killpg(first.pid, signal.SIGKILL)
    assert not (out / LOCK_NAME).exists()


def test_a_run_reads_what_its_cohort_says_now(folder, tmp_path):
    (folder / "prepared").rename(folder / "new")
    mend(folder / "new", dict.fromkeys(read_tsv(folder / "run/split.tsv").participant_id, "late"))
    run = ms.load_run(folder / "run", prepared=folder / "new")
    assert set(run.scans("test")[1].diagnosis) == {"late"}
    page = run.report(folder / "report.html").read_text(encoding="utf-8")
    assert "all diagnoses are of one group" in page
    with pytest.raises(MsvaeError, match="of 1 class: a discriminant needs at least two"):
        run.classify()
    with pytest.raises(MsvaeError, match="class"):
        run.audit()
    assert report([folder / "run"], folder / "without.html").exists()


def test_a_run_whose_hash_is_of_the_labels_opens(folder):
    split, config = read_tsv(folder / "run/split.tsv"), read_json(folder / "run/config.json")
    voxels = ms.open_prepared(folder / "prepared").voxels
    labelled = scans_hash(split, voxels, ("participant_id", "session_id", "diagnosis"))
    write_json(config | {"data_hash": labelled}, folder / "run/config.json")
    mend(folder / "prepared", {split.participant_id[0]: "mended"})
    shutil.move(folder / "prepared", folder / "new")
    run = ms.load_run(folder / "run", prepared=folder / "new")
    assert len(run.scans("test")[1]) == (split.split == "test").sum()
    before = run.history.seconds.tolist()
    assert train(folder / "new", folder / "run", **SMALL).history.seconds.tolist() == before


def test_a_read_only_run_predicts(folder, monkeypatch):
    (folder / "prepared").rename(folder / "new")
    scan = next((folder / "new").glob("sub-*/ses-*/anat/*.nii.gz"))

    def write_elsewhere(table, path):
        if (folder / "run") in Path(path).parents:
            raise MsvaeError(f"cannot write {path}: Read-only file system")

    monkeypatch.setattr(predict, "write_tsv", write_elsewhere)
    table = ms.load_run(folder / "run", folder / "new").predict(scan, folder / "page.html")
    assert np.isfinite(table.mse_percentile).all()


if __name__ == "__main__":
    case.write()
