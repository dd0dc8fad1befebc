"""What a prepared folder, a run and their pages tell of the machine and of the files: searched in every file of them."""

import contextlib
import io
import os
import re
import shutil
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from conftest import SMALL, SURNAME

import msvae_nbdev as ms
from msvae_nbdev.core import MsvaeError, read_json, read_tsv, write_json
from msvae_nbdev.model.trained_run import TrainedRun, encode
from msvae_nbdev.phantom.imaging import plan_cohort
from msvae_nbdev.phantom.simulate import simulate, write_raw
from msvae_nbdev.preparation.prepare import prepare
from msvae_nbdev.show.cli import main
from msvae_nbdev.show.report import report


def contents(path: Path) -> bytes:
    "What a file says, unpacked."
    if path.suffix == ".parquet":
        return pd.read_parquet(path).to_csv().encode()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return b"".join(archive.read(name) for name in archive.namelist())
    return path.read_bytes()


def telling(folder: Path, *words: str) -> list:
    "The files below a folder in whose contents or name one of the words stands."
    return [
        f"{path.relative_to(folder)}: {word}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        for word in words
        if word.encode() in contents(path) or word in str(path.relative_to(folder))
    ]


@pytest.fixture
def folder(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_a_run_with_its_pages_tells_no_path_and_no_source(finished):
    place = finished / "run"
    assert len([path for path in place.rglob("*") if path.is_file()]) > 30
    assert telling(place, str(finished), SURNAME, "/clinic/", os.path.expanduser("~/")) == []
    assert "path" not in TrainedRun(place).latents


def test_the_search_finds_what_is_there(folder):
    latents = pd.read_parquet(folder / "run/latents.parquet")
    latents.assign(source=SURNAME).to_parquet(folder / "run/latents.parquet")
    write_json({"place": str(folder)}, folder / "run/x.json")
    assert telling(folder / "run", SURNAME, str(folder)) == [
        f"latents.parquet: {SURNAME}",
        f"x.json: {folder}",
    ]


def test_an_anonymous_report_tells_no_id_session_or_age(finished, tmp_path):
    run = TrainedRun(finished / "run")
    page = contents(report(run.path, tmp_path / "report.html", anonymous=True)).decode()
    plain = contents(run.path / "report.html").decode()
    people = set(run.split.participant_id)
    found = re.compile(r"sub-[\w+]+")
    assert people & {*found.findall(plain)} and not people & {*found.findall(page)}
    records = re.compile(r"ses-1|93\.5|\\u003cbr\\u003eage \d|\\u003cbr\\u003esex [FM]")
    assert records.search(plain) and not records.search(page)
    assert "person 1" in page and "93.5" in plain


def test_anonymous_latents_hold_numbers_in_place_of_ids(finished, tmp_path):
    run, file = TrainedRun(finished / "run"), tmp_path / "latents.parquet"
    with contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as left:
        main(["encode", str(run.path), str(finished / "prepared"), "-o", str(file), "--anonymous"])
    assert left.value.code in (None, 0)
    table = pd.read_parquet(file)
    assert not telling(tmp_path, *set(run.split.participant_id), "ses-", ".nii")
    assert table.age.max() == 90 and not {"path", "scan", "source"} & set(table)
    assert table.participant_id.nunique() == run.split.participant_id.nunique()
    names = run.latents.filter(like="z_")
    pd.testing.assert_frame_equal(table[names.columns], names)
    with pytest.raises(MsvaeError, match="name a file for them, -o FILE"):
        encode(run, anonymous=True)


def test_the_explorer_lists_numbers(finished, monkeypatch):
    pytest.importorskip("ipywidgets")
    labels = list(ms.load_run(finished / "run").explore(anonymous=True).scans)
    assert labels[0].startswith("person 1, session 1, ") and "sub-" not in "".join(labels)


def test_a_prediction_tells_no_record_of_the_cohort(finished):
    page = contents(finished / "run/prediction.html").decode()
    people = sorted(set(TrainedRun(finished / "run").split.participant_id))
    assert {*re.findall(r"sub-[\w+]+", page)} & set(people) <= {people[0]}
    assert "93.5" not in page


def test_a_loose_file_is_called_by_a_hash(folder):
    name = folder / f"prepared/{SURNAME}.nii.gz"
    shutil.copy(folder / "prepared" / read_tsv(folder / "prepared/scans.tsv").path[0], name)
    run = ms.load_run(folder / "run")
    table = run.predict([name, folder / f"{SURNAME}_gone.nii"], folder / "page/prediction.html")
    assert table.scan.str.fullmatch("sha256:[0-9a-f]{16}").all()
    assert table.status.tolist()[1] == "failed" and table.reason[1].endswith("does not exist")
    assert telling(folder / "page", SURNAME, str(folder)) == []


def test_run_and_prepared_folder_move_together(folder):
    config = read_json(folder / "run/config.json")
    assert config["prepared"] == "../prepared"
    assert len(ms.load_run(folder / "run").scans("test")[1])
    (folder / "study").mkdir()
    for name in ("run", "prepared"):
        (folder / name).rename(folder / "study" / name)
    ms.train(folder / "study/prepared", folder / "study/run", **SMALL)
    assert ms.load_run(folder / "study/run").prepared.path == folder / "study/prepared"


def test_another_cohort_at_the_same_way_is_not_taken_for_the_runs(folder):
    simulate(folder / "other/prepared", scale=0.0001, seed=2, prepared=True)
    (folder / "run").rename(folder / "other/run")
    run = ms.load_run(folder / "other/run")
    with pytest.raises(MsvaeError, match="is not there: say where it is now, --prepared FOLDER"):
        run.scans("test")
    assert run.with_labels(run.latents) is None
    assert len(ms.load_run(run.path, folder / "prepared").scans("test")[1])


def test_a_far_folder_is_known_on_this_machine_only(folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setenv("HOME", str(folder / "people/anna"))
    (folder / "people/anna").mkdir(parents=True)
    far = folder / "people/anna/run"
    ms.train(folder / "prepared", far, **SMALL)
    config = read_json(far / "config.json")
    assert re.fullmatch("sha256:[0-9a-f]{16}/prepared", config["prepared"])
    assert ms.load_run(far).prepared.path == folder / "prepared"
    assert telling(far, str(folder)) == []
    shutil.rmtree(folder / "cache")
    with pytest.raises(MsvaeError, match="^the prepared folder, on which .* --prepared FOLDER"):
        ms.load_run(far).scans("test")
    assert len(ms.load_run(far, folder / "prepared").scans("test")[1])


def test_a_prepared_folder_tells_nothing_of_loose_files(tmp_path):
    row = plan_cohort(0.0001, seed=5).to_dict("records")[0]
    write_raw(row, tmp_path / "raw", variation=0)
    files = [tmp_path / f"clinic/{SURNAME}_{number}.nii.gz" for number in range(4)]
    files[0].parent.mkdir()
    shutil.move(next((tmp_path / "raw").rglob("sub-*_FLAIR.nii.gz")), files[0])
    write_json({"EchoTime": -1}, files[0].with_name(f"{SURNAME}_0.json"))
    files[1].write_bytes(b"not a scan")
    files[2].symlink_to(f"/archive/{SURNAME}")
    table = pd.DataFrame({"participant_id": [f"sub-{row}" for row in range(4)], "path": files})
    table.to_csv(tmp_path / f"clinic/{SURNAME}.csv", index=False)
    scans = prepare(tmp_path / f"clinic/{SURNAME}.csv", tmp_path / "out", workers=1)
    assert scans.status.tolist() == ["ok", "failed", "failed", "failed"]
    assert telling(tmp_path / "out", SURNAME, str(tmp_path), "/archive/") == []
    assert "does not exist" in scans.reason[3] and len(read_tsv(tmp_path / "out/notes.tsv")) > 1
    assert "sub-3" in (tmp_path / "out/report.html").read_text()
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files if path.name != "scans.tsv"}
    again = prepare(tmp_path / f"clinic/{SURNAME}.csv", tmp_path / "out", workers=1)
    assert before == {path: path.read_bytes() for path in before}
    taken = ["seconds"]  # failed scans were tried again
    assert again.drop(columns=taken).equals(scans.drop(columns=taken))


def test_a_dataset_that_moves_with_its_derivatives_is_known(tmp_path):
    simulate(tmp_path / "a/raw", scale=0.0001, seed=5, variation=0, at_least=1)
    for person in sorted((tmp_path / "a/raw").glob("sub-*"))[1:]:
        shutil.rmtree(person)
    prepare(tmp_path / "a/raw", tmp_path / "a/raw/derivatives/msvae", workers=1)
    (tmp_path / "a").rename(tmp_path / "b")
    out = tmp_path / "b/raw/derivatives/msvae"
    assert telling(out, str(tmp_path)) == []
    description = read_json(out / "dataset_description.json")
    assert description["SourceDatasets"] == [{"URL": "../.."}]
    assert description["DatasetLinks"] == {"raw": "../.."}
    assert (prepare(tmp_path / "b/raw", out, workers=1).status == "ok").all()
    simulate(out, scale=0.0001, seed=5, variation=0, at_least=1, prepared=True)
    with pytest.raises(MsvaeError, match="seed 5, not 6"):
        simulate(out, scale=0.0001, seed=6, variation=0, at_least=1, prepared=True)
