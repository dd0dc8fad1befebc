"""What `prepare` and the folders after it refuse: an output that is the source, a second cohort, one image under two names."""

import gzip
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from cases import Cases, write_file

from msvae_nbdev.core import MsvaeError, read_tsv, write_json, write_tsv
from msvae_nbdev.folder_lock import keep_folder
from msvae_nbdev.model.volumes import open_prepared, read_scans
from msvae_nbdev.preparation import prepare as chapter
from msvae_nbdev.preparation.prepare import prepare
from msvae_nbdev.preparation.prepare_scan import SUFFIX, file_checksum, save_nifti
from msvae_nbdev.space import AFFINE, SHAPE

case = Cases("output")


def dataset(folder: Path, **contents: str) -> Path:
    "A BIDS dataset with a scan of each person; the text stands for the voxels, up to a #."
    write_file(folder / "dataset_description.json", '{"Name": "x", "BIDSVersion": "1.10.0"}')
    for person, text in contents.items():
        file = folder / f"sub-{person}" / "anat" / f"sub-{person}_FLAIR.nii.gz"
        write_file(file, gzip.compress(text.encode()))
    return folder


def stand_in(jobs: list, workers: int):
    "In place of worker processes: a volume that depends on what the scan holds."
    for index, job in enumerate(jobs):
        text = gzip.decompress(Path(job.path).read_bytes()).partition(b"#")[0]
        volume = np.full(SHAPE, zlib.crc32(text) / 2**32, np.float32)
        volume[0] = 0  # a volume that is the same everywhere is none
        save_nifti(volume, AFFINE, Path(f"{job.stem}{SUFFIX}.nii.gz"), code=4)
        facts = {"SkullStripMethod": job.method, "KeepFull": job.keep_full}
        facts |= {"SourceFingerprint": file_checksum(job.path), "status": "ok", "reason": ""}
        write_json(facts, f"{job.stem}{SUFFIX}.json")
        yield index, facts | {"seconds": 1.0}


@pytest.fixture(autouse=True)
def without_workers(monkeypatch):
    monkeypatch.setattr(chapter, "run_pool", stand_in)


def outcome(folder: Path, *calls: tuple) -> str:
    "What the last of several preparations comes to."
    try:
        for source, out in calls:
            scans = prepare(folder / source, folder / out, workers=1)
    except MsvaeError as error:
        return "refused: " + str(error).replace(f"{folder}/", "")
    said = scans.status + scans.reason.map(lambda reason: f", {reason}", na_action="ignore").fillna(
        ""
    )
    return "; ".join(scans.participant_id + ": " + said)


PLACE = "choose another, such as data/derivatives/msvae"


@case(
    "Output folder",
    "`msvae prepare data data`",
    f"refused: data is no place to write to, the source is data: {PLACE}",
)
def _(folder):
    dataset(folder / "data", a="x")
    return outcome(folder, ("data", "data"))


@case(
    "Output folder",
    "`msvae prepare data data/prepared`",
    f"refused: data/prepared is no place to write to, the source is data: {PLACE}",
)
def _(folder):
    dataset(folder / "data", a="x")
    return outcome(folder, ("data", "data/prepared"))


@case(
    "Output folder",
    "`msvae prepare data/raw data`",
    "refused: data is no place to write to, the source is data/raw: choose another, "
    "such as data/raw/derivatives/msvae",
)
def _(folder):
    dataset(folder / "data" / "raw", a="x")
    return outcome(folder, ("data/raw", "data"))


@case("Output folder", "`msvae prepare data data/derivatives/msvae`, twice", "sub-a: ok")
def _(folder):
    dataset(folder / "data", a="x")
    return outcome(folder, *[("data", "data/derivatives/msvae")] * 2)


@case(
    "Output folder",
    "`msvae prepare lists/scans.csv lists`",
    "refused: lists is no place to write to, it holds lists/scans.csv: choose another",
)
def _(folder):
    dataset(folder / "data", a="x")
    path = folder / "data/sub-a/anat/sub-a_FLAIR.nii.gz"
    write_file(folder / "lists/scans.csv", f"path,participant_id\n{path},a\n")
    return outcome(folder, ("lists/scans.csv", "lists"))


@case(
    "Output folder",
    "two cohorts into one folder, of other people",
    "refused: out holds another cohort, prepared from one: choose another folder",
)
def _(folder):
    dataset(folder / "one", a="x")
    dataset(folder / "two", b="y")
    return outcome(folder, ("one", "out"), ("two", "out"))


@case(
    "Output folder",
    "two cohorts into one folder, of the same ids",
    "refused: out holds another cohort, prepared from one: choose another folder",
)
def _(folder):
    dataset(folder / "one", a="x")
    dataset(folder / "two", a="y")
    return outcome(folder, ("one", "out"), ("two", "out"))


@case("Output folder", "the same cohort, moved, with one person more", "sub-a: ok; sub-b: ok")
def _(folder):
    dataset(folder / "one", a="x")
    outcome(folder, ("one", "out"))
    (folder / "one").rename(folder / "two")
    dataset(folder / "two", b="y")
    return outcome(folder, ("two", "out"))


def while_another_prepares(folder: Path, *calls: tuple) -> str:
    "What a preparation comes to while the folder `out` is another's."
    with keep_folder(folder / "out", "prepare"):
        text = outcome(folder, *calls)
    return re.sub(r"process \d+ on \S+, since [\d :-]+:", "process PID on HOST, since TIME:", text)


@case(
    "Output folder",
    "`msvae prepare data out`, twice at a time",
    "refused: out is in use by msvae prepare, process PID on HOST, since TIME: "
    "wait until it has ended, or choose another folder",
)
def _(folder):
    dataset(folder / "data", a="x")
    return while_another_prepares(folder, ("data", "out"))


@case(
    "Output folder",
    "two cohorts into one folder, twice at a time",
    "refused: out holds another cohort, prepared from one: choose another folder",
)
def _(folder):
    dataset(folder / "one", a="x")
    dataset(folder / "two", b="y")
    outcome(folder, ("one", "out"))
    return while_another_prepares(folder, ("two", "out"))


@case(
    "Images",
    "one file under two patients, packed anew",
    "refused: sub-a and sub-b have one image, data/sub-a/anat/sub-a_FLAIR.nii.gz and "
    "data/sub-b/anat/sub-b_FLAIR.nii.gz: one of them is wrong",
)
def _(folder):
    dataset(folder / "data", a="x", b="x", c="y")
    file = folder / "data/sub-b/anat/sub-b_FLAIR.nii.gz"
    file.write_bytes(gzip.compress(b"x", compresslevel=1, mtime=7))
    return outcome(folder, ("data", "out"))


@case(
    "Images",
    "the same voxels under two patients, with other headers",
    "sub-a: failed, sub-a and sub-b have the same voxels: one of them is wrong; "
    "sub-b: failed, sub-a and sub-b have the same voxels: one of them is wrong; sub-c: ok",
)
def _(folder):
    dataset(folder / "data", a="x#1", b="x#2", c="y")
    return outcome(folder, ("data", "out"))


def opened(folder: Path, *paths: str) -> str:
    "What becomes of a scans.tsv with these paths."
    rows = {"participant_id": "sub-1", "path": list(paths), "status": "ok"}
    write_tsv(chapter.pd.DataFrame(rows), folder / "scans.tsv")
    try:
        return f"{len(read_scans(folder))} scans"
    except MsvaeError as error:
        return "refused: " + str(error).replace(f"{folder}/", "")


@case(
    "scans.tsv of a prepared folder",
    "a path with `..`",
    "refused: scans.tsv row 2 names ../a.nii.gz, which is not below its folder",
)
def _(folder):
    return opened(folder, "../a.nii.gz")


@case(
    "scans.tsv of a prepared folder",
    "an absolute path",
    "refused: scans.tsv row 3 names /data/a.nii.gz, which is not below its folder",
)
def _(folder):
    return opened(folder, "a.nii.gz", "/data/a.nii.gz")


@case(
    "scans.tsv of a prepared folder",
    "a volume in two rows",
    "refused: scans.tsv row 3 names a.nii.gz a second time",
)
def _(folder):
    return opened(folder, "a.nii.gz", "a.nii.gz")


def packed(folder: Path, content: bytes | None) -> str:
    "What becomes of a prepared folder whose volume holds these bytes, or is not there."
    if content is not None:
        write_file(folder / "a.nii.gz", content)
    opened(folder, "a.nii.gz")
    try:
        return repr(open_prepared(folder))
    except MsvaeError as error:
        return "refused: " + str(error).replace(f"{folder}/", "")


@case(
    "scans.tsv of a prepared folder",
    "a volume that was deleted",
    "refused: a.nii.gz is listed in scans.tsv but cannot be read: No such file or directory; prepare again",
)
def _(folder):
    return packed(folder, None)


@case(
    "scans.tsv of a prepared folder",
    "a volume that was cut off",
    "refused: a.nii.gz cannot be read, it is damaged (Compressed file ended before the "
    "end-of-stream marker was reached): copy it again",
)
def _(folder):
    volume = np.linspace(0, 1, int(np.prod(SHAPE)), dtype=np.float32).reshape(SHAPE)
    save_nifti(volume, AFFINE, folder / "whole.nii.gz", code=4)
    return packed(folder, (folder / "whole.nii.gz").read_bytes()[:-100])


# --- the tests ---


@pytest.mark.parametrize("one", case, ids=case.names())
def test_case(one, tmp_path):
    assert one.run(tmp_path) == one.happens


def test_the_page_is_up_to_date():
    assert case.is_up_to_date()


def test_no_two_scans_have_one_name():
    names = ("sub-1_FLAIR.nii", "sub-1_FLAIR.nii.gz", "sub-1_run-2_FLAIR.nii.gz", "other.nii")
    rows = [("sub-1", np.nan, name) for name in names]
    table = chapter.pd.DataFrame(rows, columns=["participant_id", "session_id", "path"])
    stems = [Path(stem).name for stem in chapter._stems(table, [""] * 4)]
    assert stems == ["sub-1", "sub-1_run-2", "sub-1_run-2_run-2", "sub-1_run-3"]


def test_notes_are_kept(tmp_path):
    dataset(tmp_path / "data", a="x", b="y")
    write_file(tmp_path / "data/participants.tsv", "id\tdx\na\tHC\nb\tAD\n")
    prepare(tmp_path / "data", tmp_path / "out", workers=1, columns={"diagnosis": "dx"})
    notes = read_tsv(tmp_path / "out/notes.tsv")
    assert list(notes) == ["kind", "what", "where"]
    assert "HC as healthy" in set(notes.what)
    assert read_tsv(tmp_path / "out/scans.tsv").diagnosis.tolist() == ["healthy", "AD"]


def test_a_scan_that_left_the_cohort_is_said(tmp_path, capsys):
    source = dataset(tmp_path / "data", a="x", b="y")
    prepare(source, tmp_path / "out", workers=1)
    (source / "sub-b/anat/sub-b_FLAIR.nii.gz").unlink()
    scans = prepare(source, tmp_path / "out", workers=1)
    assert scans.participant_id.tolist() == ["sub-a"]
    assert "prepared before, and not in this cohort: sub-b" in capsys.readouterr().err


def test_workers_are_the_processors_that_may_be_used(tmp_path):
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from msvae_nbdev.preparation import prepare as chapter\n"
        "chapter.run_pool = lambda jobs, workers: print('workers', workers) or (x for x in ())\n"
        "list(chapter._run([None] * 5, range(5), None, None))\n"
    )
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity of processes")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "workers 1"


def test_failures_are_printed_without_nan(tmp_path, capsys):
    from msvae_nbdev.show.cli import main

    dataset(tmp_path / "data", a="x")
    write_file(tmp_path / "data/list.csv", "path,participant_id\nabsent.nii.gz,../b\n")
    with pytest.raises(SystemExit) as stopped:
        main(["prepare", str(tmp_path / "data/list.csv"), str(tmp_path / "out")])
    said = capsys.readouterr()
    assert stopped.value.code == 1
    assert "failed: sub-../b: 'sub-../b' is not a name for a folder" in said.err
    assert "1 scan of 1 patient (no diagnosis 1); age of 0 scans" in said.out
    assert f"not as it was written: 2 note; see {tmp_path}/out/notes.tsv" in said.out


if __name__ == "__main__":
    case.write()
