"""Datasets and tables as people have them, and what is read of them."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest
from cases import Cases, write_file

from msvae_nbdev.cohort.notes import note_lines
from msvae_nbdev.cohort.read import open_cohort
from msvae_nbdev.core import MsvaeError

SIDECAR = '{"RepetitionTime": 9, "EchoTime": 0.12}'
TWO = ("sub-01/anat/sub-01_FLAIR.nii.gz", "sub-02/anat/sub-02_FLAIR.nii.gz")


NO_DIAGNOSIS = "note: no diagnosis is known"  # true of most cases here, and tested once


case = Cases("reading")


def dataset(folder: Path, participants: str | bytes | None = None, scans=TWO) -> Path:
    "A BIDS dataset with a sidecar at its top, and a participants.tsv."
    write_file(folder / "dataset_description.json", '{"Name": "x", "BIDSVersion": "1.10.0"}')
    write_file(folder / "FLAIR.json", SIDECAR)
    for scan in scans:
        write_file(folder / scan)
    if participants is not None:
        write_file(folder / "participants.tsv", participants)
    return folder


def said(folder: Path, column: str | list, source: Path | None = None, **choices) -> str:
    "A column of what is read, and the notes; or why it is refused."
    try:
        cohort = open_cohort(source or folder, **choices)
    except MsvaeError as error:
        return "refused: " + str(error).replace(f"{folder}/", "").replace(str(folder), "FOLDER")
    columns = [column] if isinstance(column, str) else column
    values = [", ".join(map(shown, cohort.table[name])) for name in columns]
    lines = [line for line in note_lines(cohort.notes) if not line.startswith(NO_DIAGNOSIS)]
    return "; ".join([*values, *lines]).replace(f"{folder}/", "")


def shown(value: object) -> str:
    "A value as a person writes it."
    if pd.isna(value):
        return "n/a"
    return f"{value:g}" if isinstance(value, float) else str(value)


# --- ids ---

READ_IDS = "ms, healthy; read ids of participants.tsv as those of the folders (2): "
for first, second in (("1", "2"), ("sub-1", "sub-2"), ("001", "sub-002"), ("SUB-01", "Sub_2")):

    @case(
        "Ids",
        f"folders `sub-01`, `sub-02`; ids `{first}`, `{second}`",
        f"{READ_IDS}{first} as sub-01, {second} as sub-02",
    )
    def _(folder, first=first, second=second):
        table = f"participant_id\tdiagnosis\n{first}\tms\n{second}\thealthy\n"
        return said(dataset(folder, table), "diagnosis")


@case("Ids", "folders `sub-01`, `sub-02`; ids `01`, ` sub-02 `", "ms, healthy")
def _(folder):
    table = "participant_id\tdiagnosis\n01\tms\n sub-02 \thealthy\n"
    return said(dataset(folder, table), "diagnosis")


@case(
    "Ids",
    "folders `sub-01`, `sub-02`; ids `sub-01`, `patient B`",
    "refused: participants.tsv has no row for sub-02, and patient B in it have no folder: "
    "write the ids as the folders",
)
def _(folder):
    table = "participant_id\tdiagnosis\nsub-01\tms\npatient B\thealthy\n"
    return said(dataset(folder, table), "diagnosis")


@case(
    "Ids",
    "folders `sub-1`, `sub-01`; id `001`",
    "refused: participants.tsv: 001 may be sub-01 or sub-1: write it as the folder",
)
def _(folder):
    scans = ("sub-1/anat/sub-1_FLAIR.nii.gz", TWO[0])
    return said(dataset(folder, "participant_id\tdiagnosis\n001\tms\n", scans), "diagnosis")


@case(
    "Ids",
    "folders `sub-01`, `sub-02`; ids `sub-01`",
    "ms, n/a; note: no row in participants.tsv: sub-02",
)
def _(folder):
    return said(dataset(folder, "participant_id\tdiagnosis\nsub-01\tms\n"), "diagnosis")


@case(
    "Ids",
    "folders `sub-01`, `sub-02`; ids `01`, `02`, `03`",
    "ms, ms; note: rows of participants.tsv without a folder: 03",
)
def _(folder):
    table = "participant_id\tdiagnosis\n01\tms\n02\tms\n03\tms\n"
    return said(dataset(folder, table), "diagnosis")


@case(
    "Ids",
    "no participants.tsv",
    "n/a, n/a; note: there is no participants.tsv: no diagnosis, age and sex",
)
def _(folder):
    return said(dataset(folder), "diagnosis")


# --- columns ---

COLUMNS = "ms, healthy; 41, 30; F, M; "


@case(
    "Columns",
    "`Subject`, `group`, `Age`, `gender`",
    f"{COLUMNS}read column Subject as participant_id; read column group as diagnosis; "
    "read column Age as age; read column gender as sex",
)
def _(folder):
    table = "Subject\tgroup\tAge\tgender\n01\tms\t41\tF\n02\thealthy\t30\tM\n"
    return said(dataset(folder, table), ["diagnosis", "age", "sex"])


@case(
    "Columns",
    "`participant_id`, `dx`, `age_at_scan`, `Sex`",
    f"{COLUMNS}read column dx as diagnosis; read column age_at_scan as age; read column Sex as sex",
)
def _(folder):
    table = "participant_id\tdx\tage_at_scan\tSex\n01\tms\t41\tF\n02\thealthy\t30\tM\n"
    return said(dataset(folder, table), ["diagnosis", "age", "sex"])


@case(
    "Columns",
    "`participant_id`, `dx`, `group`",
    "refused: dx and group may both be diagnosis: say which, --map diagnosis=dx",
)
def _(folder):
    table = "participant_id\tdx\tgroup\n01\tms\ta\n02\thealthy\tb\n"
    return said(dataset(folder, table), "diagnosis")


@case(
    "Columns",
    "`participant_id`, `dx`, `arm`, with `--map diagnosis=arm`",
    "a, b; note: columns of participants.tsv that are not taken over: dx; read column arm as diagnosis",
)
def _(folder):
    table = "participant_id\tdx\tarm\n01\tms\ta\n02\thealthy\tb\n"
    return said(dataset(folder, table), "diagnosis", columns={"diagnosis": "arm"})


@case(
    "Columns",
    "`participant_id`, `dx`, with `--map diagnosis=arm`",
    "refused: FOLDER has no column arm: it has dx, participant_id",
)
def _(folder):
    table = "participant_id\tdx\n01\tms\n02\thealthy\n"
    return said(dataset(folder, table), "diagnosis", columns={"diagnosis": "arm"})


# --- rows ---

ROWS = {
    "a tab too many at the end of rows": "participant_id\tdiagnosis\n01\tms\t\n02\thealthy\t\n",
    "a stray quotation mark in a cell": 'participant_id\tdiagnosis\n01\t"ms\n02\thealthy\n',
    "a quotation mark in each cell": '"participant_id"\t"diagnosis"\n"01"\t"ms"\n"02"\t"healthy"\n',
    "lines that end in CRLF, empty lines": "participant_id\tdiagnosis\r\n01\tms\r\n\r\n02\thealthy\r\n",
    "a byte-order mark": b"\xef\xbb\xbfparticipant_id\tdiagnosis\n01\tms\n02\thealthy\n",
    "UTF-16": "participant_id\tdiagnosis\n01\tms\n02\thealthy\n".encode("utf-16"),
    "UTF-16 without a byte-order mark": "participant_id\tdiagnosis\n01\tms\n02\thealthy\n".encode(
        "utf-16-le"
    ),
    "commas": "participant_id,diagnosis\n01,ms\n02,healthy\n",
    "semicolons": "participant_id;diagnosis\n01;ms\n02;healthy\n",
}
for given, content in ROWS.items():

    @case("Rows of participants.tsv", given, "ms, healthy")
    def _(folder, content=content):
        return said(dataset(folder, content), "diagnosis")


@case(
    "Rows of participants.tsv",
    "a byte of Latin-1",
    "Größe, ms; read a table as Windows-1252: participants.tsv",
)
def _(folder):
    table = "participant_id\tdiagnosis\n01\tGröße\n02\tms\n".encode("latin-1")
    return said(dataset(folder, table), "diagnosis")


@case(
    "Rows of participants.tsv",
    "a row that is too short",
    "refused: participants.tsv row 3 has 1 cells, its header 2",
)
def _(folder):
    return said(dataset(folder, "participant_id\tdiagnosis\n01\tms\n02\n"), "diagnosis")


@case(
    "Rows of participants.tsv",
    "a row with a cell more, not empty",
    "refused: participants.tsv row 2 has 3 cells, its header 2",
)
def _(folder):
    return said(dataset(folder, "participant_id\tdiagnosis\n01\tms\tx\n02\tms\n"), "diagnosis")


@case(
    "Rows of participants.tsv",
    "two rows of one person, of different age",
    "refused: participants.tsv rows 2 and 3 say different things of sub-01: keep one, or give each "
    "its session_id and its folder ses-*",
)
def _(folder):
    return said(dataset(folder, "participant_id\tage\n01\t40\n01\t44\n02\t30\n"), "age")


@case(
    "Rows of participants.tsv",
    "one person in two classes, by session",
    "refused: sub-01 is ms and healthy: a person belongs to one class, write the same in all rows, or n/a",
)
def _(folder):
    table = "participant_id\tsession_id\tdiagnosis\n01\t1\tms\n01\t2\thealthy\n"
    return said(dataset(folder, table, SESSIONS), "diagnosis")


# --- sessions ---

SESSIONS = (
    "sub-01/ses-1/anat/sub-01_ses-1_FLAIR.nii.gz",
    "sub-01/ses-2/anat/sub-01_ses-2_FLAIR.nii.gz",
)


@case("Sessions", "participants.tsv with `session_id`, one row each: 40 and 44 years", "40, 44")
def _(folder):
    table = "participant_id\tsession_id\tage\nsub-01\tses-1\t40\nsub-01\tses-2\t44\n"
    return said(dataset(folder, table, SESSIONS), "age")


@case("Sessions", "the same, sessions written `01` and `2`", "40, 44")
def _(folder):
    table = "participant_id\tsession_id\tage\nsub-01\t01\t40\nsub-01\t2\t44\n"
    return said(dataset(folder, table, SESSIONS), "age")


@case("Sessions", "`sub-01_sessions.tsv` with the ages; participants.tsv with another", "40, 44")
def _(folder):
    write_file(folder / "sub-01/sub-01_sessions.tsv", "session_id\tage\nses-1\t40\nses-2\t44\n")
    return said(dataset(folder, "participant_id\tage\nsub-01\t39\n", SESSIONS), "age")


@case("Sessions", "`sub-01_ses-2_scans.tsv` with the age of one file", "39, 44")
def _(folder):
    text = "filename\tage\nanat/sub-01_ses-2_FLAIR.nii.gz\t44\n"
    write_file(folder / "sub-01/ses-2/sub-01_ses-2_scans.tsv", text)
    return said(dataset(folder, "participant_id\tage\nsub-01\t39\n", SESSIONS), "age")


@case(
    "Sessions",
    "folders `ses-1`, `ses-2`; sessions `1`, `followup`",
    "refused: participants.tsv has no row for sub-01 ses-2, and followup in it have no folder: "
    "write the sessions as the folders",
)
def _(folder):
    table = "participant_id\tsession_id\tage\nsub-01\t1\t40\nsub-01\tfollowup\t44\n"
    return said(dataset(folder, table, SESSIONS), "age")


@case(
    "Sessions",
    "a row for session 1 only",
    "40, n/a; note: no row for a session: sub-01 ses-2",
)
def _(folder):
    table = "participant_id\tsession_id\tage\nsub-01\tses-1\t40\n"
    return said(dataset(folder, table, SESSIONS), "age")


# --- ages, sexes, labels ---

AGES = {
    "45,5": "45.5",
    "089Y": "89",
    "018M": "1.5",
    "89+": "89",
    "> 89": "89",
    "40-44": "42",
    "61 years": "61",
}
for written, years in AGES.items():

    @case(
        "Ages",
        f"`{written}`",
        f"{years}; read ages that are not plain numbers: sub-01 {written} as {years}",
    )
    def _(folder, written=written):
        table = f"participant_id\tage\nsub-01\t{written}\n"
        return said(dataset(folder, table, TWO[:1]), "age")


for written in ("-1", "999", "1975"):

    @case(
        "Ages",
        f"`{written}`",
        f"n/a; left out ages that are not between 0 and 120 years: sub-01 {written}",
    )
    def _(folder, written=written):
        table = f"participant_id\tage\nsub-01\t{written}\n"
        return said(dataset(folder, table, TWO[:1]), "age")


for written in ("inf", "old", "< 18"):

    @case(
        "Ages",
        f"`{written}`",
        f"n/a; left out ages that are not understood: sub-01 {written}",
    )
    def _(folder, written=written):
        table = f"participant_id\tage\nsub-01\t{written}\n"
        return said(dataset(folder, table, TWO[:1]), "age")


for written in ("n/a", "NA", "-", "unknown", ""):

    @case("Ages", f"`{written}`" if written else "an empty cell", "n/a")
    def _(folder, written=written):
        table = f"participant_id\tage\nsub-01\t{written}\n"
        return said(dataset(folder, table, TWO[:1]), "age")


SEXES = {
    "f": "F; read f as F: sub-01",
    "Male": "M; read Male as M: sub-01",
    "weiblich": "F; read weiblich as F: sub-01",
    "2": "2; note: sex 2 is kept as it is written: sub-01",
    "unknown": "n/a",
}
for written, happens in SEXES.items():

    @case("Sexes", f"`{written}`", happens)
    def _(folder, written=written):
        table = f"participant_id\tsex\nsub-01\t{written}\n"
        return said(dataset(folder, table, TWO[:1]), "sex")


LABELS = {
    "HC": "healthy; read HC as healthy: sub-01",
    "Healthy_control": "healthy; read Healthy_control as healthy: sub-01",
    "rr-ms": "ms; read rr-ms as ms: sub-01",
    "L 2": "leuko2; read L 2 as leuko2: sub-01",
    "SVD": "leukoencephalopathy; read SVD as leukoencephalopathy: sub-01",
    "AD": "AD",
    "NMOSD": "NMOSD",
    "patient": "patient",
    "none": "n/a",
    "-": "n/a",
}
for written, happens in LABELS.items():

    @case("Diagnoses", f"`{written}`", happens)
    def _(folder, written=written):
        table = f"participant_id\tdiagnosis\nsub-01\t{written}\n"
        return said(dataset(folder, table, TWO[:1]), "diagnosis")


LEVELS = '{"group": {"Levels": {"1": "multiple sclerosis", "2": "NMOSD"}}}'


@case(
    "Diagnoses",
    "`1`, `2` under `group`, and `Levels` of `group` in participants.json",
    "ms, NMOSD; read column group as diagnosis; read diagnosis 1 as multiple sclerosis; "
    "read diagnosis 2 as NMOSD; read multiple sclerosis as ms: sub-01",
)
def _(folder):
    write_file(folder / "participants.json", LEVELS)
    table = "participant_id\tgroup\nsub-01\t1\nsub-02\t2\n"
    return said(dataset(folder, table), "diagnosis")


@case(
    "Diagnoses",
    "`1`, `2`, and a participants.json that is cut off",
    "1, 2; note: participants.json cannot be read: it is not valid JSON, "
    "Expecting value: line 1 column 11 (char 10)",
)
def _(folder):
    write_file(folder / "participants.json", LEVELS[:10])
    table = "participant_id\tdiagnosis\nsub-01\t1\nsub-02\t2\n"
    return said(dataset(folder, table), "diagnosis")


@case("Diagnoses", "`AD`, `AD`, `ad`", "AD, AD, AD; read ad as AD: sub-03")
def _(folder):
    table = "participant_id\tdiagnosis\n1\tAD\n2\tAD\n3\tad\n"
    scans = (*TWO, "sub-03/anat/sub-03_FLAIR.nii.gz")
    return said(
        dataset(folder, table.replace("\n", "\nsub-0").removesuffix("sub-0"), scans), "diagnosis"
    )


@case("Diagnoses", "`HC`, `RRMS`, with `--labels-as-written`", "HC, RRMS")
def _(folder):
    table = "participant_id\tdiagnosis\n01\tHC\n02\tRRMS\n"
    return said(dataset(folder, table), "diagnosis", labels_as_written=True)


# --- sidecars ---

TIMES = ["RepetitionTime", "EchoTime"]
PLACE = "sub-01/anat/sub-01_FLAIR.json"
SIDECARS = {
    "none beside the scan, one at the top of the dataset": (None, "9; 0.12"),
    "a byte-order mark": (b'\xef\xbb\xbf{"EchoTime": 0.1}', "9; 0.1"),
    "a byte of Latin-1": ('{"Site": "Köln", "EchoTime": 0.1}'.encode("latin-1"), "9; 0.1"),
    "a comma too many": ('{"EchoTime": 0.1,}', "9; 0.1"),
    "times in milliseconds": (
        '{"RepetitionTime": 9000, "EchoTime": 120}',
        "9; 0.12; read RepetitionTime in milliseconds, divided by 1000: sub-01_FLAIR.nii.gz; "
        "read EchoTime in milliseconds, divided by 1000: sub-01_FLAIR.nii.gz",
    ),
    "TE 120 beside TR 9": (
        '{"RepetitionTime": 9, "EchoTime": 120}',
        "9; 0.12; read EchoTime in milliseconds, divided by 1000: sub-01_FLAIR.nii.gz",
    ),
    "TR 9000 beside TE 0.12": (
        '{"RepetitionTime": 9000, "EchoTime": 0.12}',
        "9; 0.12; read RepetitionTime in milliseconds, divided by 1000: sub-01_FLAIR.nii.gz",
    ),
    "TR as the text `9,0`": ('{"RepetitionTime": "9,0"}', "9; 0.12"),
    "a list for a number": (
        '{"EchoTime": [0.1, 0.2]}',
        "9; n/a; left out EchoTime that is not a number over 0.001 and up to 1 s: "
        "sub-01_FLAIR.nii.gz [0.1, 0.2]",
    ),
    "a number of 5000 digits": (
        '{"EchoTime": ' + "9" * 5000 + "}",
        "9; n/a; left out EchoTime that is not a number over 0.001 and up to 1 s: "
        "sub-01_FLAIR.nii.gz inf",
    ),
    "empty": ("", f"n/a; n/a; left out a sidecar, it is empty: {PLACE}"),
    "not an object": (
        "[1]",
        f"n/a; n/a; left out a sidecar, it holds a list, not an object: {PLACE}",
    ),
    "nested 100 000 deep": (
        '{"a":' * 100_000,
        f"n/a; n/a; left out a sidecar, it is nested too deeply: {PLACE}",
    ),
    "cut short": (
        '{"EchoTime": 0.1',
        "n/a; n/a; left out a sidecar, it is not valid JSON, Expecting ',' delimiter: line 1 column 17 "
        f"(char 16): {PLACE}",
    ),
}
for given, (content, happens) in SIDECARS.items():

    @case("Sidecars", given, happens)
    def _(folder, content=content):
        dataset(folder, "participant_id\n01\n", TWO[:1])
        if content is not None:
            write_file(folder / PLACE, content)
        return said(folder, TIMES)


@case(
    "Sidecars",
    "a link that leads nowhere",
    f"n/a; n/a; left out a sidecar, its content is not here: {PLACE}",
)
def _(folder):
    dataset(folder, "participant_id\n01\n", TWO[:1])
    (folder / PLACE).symlink_to("nowhere")
    return said(folder, TIMES)


@case("Sidecars", "edited between two calls in one process", "9; 0.3")
def _(folder):
    dataset(folder, "participant_id\n01\n", TWO[:1])
    said(folder, TIMES)
    write_file(folder / PLACE, '{"EchoTime": 0.3}')
    return said(folder, TIMES)


@case(
    "Sidecars",
    "none at all",
    "n/a; n/a; note: no sidecar, acquisition is not known: sub-01_FLAIR.nii.gz",
)
def _(folder):
    dataset(folder, "participant_id\n01\n", TWO[:1])
    (folder / "FLAIR.json").unlink()
    return said(folder, TIMES)


# --- files ---


def names(folder: Path, scans: tuple, **choices) -> str:
    "The files that are read of a dataset, and what is said."
    return said(dataset(folder, "participant_id\n01\n", scans), "path", **choices)


FILES = {
    "sub-01/anat/sub-01_T2FLAIR.nii.gz": "its name does not end in _FLAIR",
    "sub-01/anat/sub-01_flair.nii.gz": "its name does not end in _FLAIR",
    "sub-01/anat/sub-01_FLAIR.NII.GZ": "its ending is not .nii.gz or .nii",
    "sub-01/anat/._sub-01_FLAIR.nii.gz": "a hidden file",
    "sub-01/sub-01_FLAIR.nii.gz": "it does not lie in sub-01/anat",
    "sub-01_a/anat/sub-01_a_FLAIR.nii.gz": "a label in its name has other characters than letters and digits",
    "sub-ab-c/anat/sub-ab-c_FLAIR.nii.gz": "a label in its name has other characters than letters and digits",
    "sub-01/anat/sub-02_FLAIR.nii.gz": "it does not lie in sub-02/anat",
}
for file, reason in FILES.items():

    @case("Files", f"`{file}`", f"{TWO[0]}; skipped: {reason}: {file}")
    def _(folder, file=file):
        return names(folder, (TWO[0], file))


@case(
    "Files",
    "no scan that is named as in BIDS",
    "refused: FOLDER holds no FLAIR scan: expected sub-*/[ses-*/]anat/*_FLAIR.nii.gz; "
    "skipped sub-01/anat/sub-01_T2FLAIR.nii.gz: its name does not end in _FLAIR; "
    "DICOM files go through msvae import-dicom, other images are named in a table",
)
def _(folder):
    return names(folder, ("sub-01/anat/sub-01_T2FLAIR.nii.gz",))


@case(
    "Files",
    "no dataset_description.json",
    f"{TWO[0]}; note: there is no dataset_description.json",
)
def _(folder):
    dataset(folder, "participant_id\n01\n", TWO[:1])
    (folder / "dataset_description.json").unlink()
    return said(folder, "path")


SEVERAL = [
    f"sub-01/anat/sub-01_{name}_FLAIR.nii.gz" for name in ("run-10", "run-2", "part-phase_run-1")
]
OTHER = (
    "skipped: another FLAIR scan of its session, --select all takes it: sub-01_run-10_FLAIR.nii.gz"
)


@case(
    "Files",
    "`run-10`, `run-2`, `part-phase_run-1` in one session",
    f"{SEVERAL[1]}; {OTHER}; skipped: not a magnitude image: sub-01_part-phase_run-1_FLAIR.nii.gz",
)
def _(folder):
    return names(folder, SEVERAL)


@case(
    "Files",
    "the same with `--select run-10`",
    f"{SEVERAL[0]}; skipped: --select run-10: sub-01_run-2_FLAIR.nii.gz; "
    "skipped: not a magnitude image: sub-01_part-phase_run-1_FLAIR.nii.gz",
)
def _(folder):
    return names(folder, SEVERAL, select="run-10")


@case(
    "Files",
    "the same with `--select all`",
    f"{SEVERAL[0]}, {SEVERAL[1]}; skipped: not a magnitude image: "
    "sub-01_part-phase_run-1_FLAIR.nii.gz",
)
def _(folder):
    return names(folder, SEVERAL, select="all")


@case("Files", "`rec-norm`, `ce-gad`, and one without either", TWO[0])
def _(folder):
    more = [f"sub-01/anat/sub-01_{name}_FLAIR.nii.gz" for name in ("ce-gad", "rec-norm")]
    return names(folder, (TWO[0], *more)).partition(";")[0]


@case("Files", "a path with spaces, points and other alphabets, 200 characters long", "1 scan")
def _(folder):
    deep = folder.joinpath("Große Studie 2.1 – данные", *["x" * 60] * 3)
    dataset(deep, "participant_id\n01\n", TWO[:1])
    return f"{len(open_cohort(deep).table)} scan"


# --- links ---


def linked(folder: Path, target: str, **choices) -> str:
    "Why the one scan of a dataset, a link, is not opened."
    scan = dataset(folder / "data", "participant_id\n01\n", TWO[:1]) / TWO[0]
    scan.unlink()
    scan.symlink_to(target)
    reason = open_cohort(folder / "data", **choices).refused[0]
    return reason.replace(f"{folder}/", "") or "read"


@case("Links", "into the dataset's own annex", "read")
def _(folder):
    write_file(folder / "data/.git/annex/objects/key")
    return linked(folder, "../../.git/annex/objects/key")


@case("Links", "of a subdataset, into the annex of the dataset above", "read")
def _(folder):
    write_file(folder / ".git/modules/data/annex/objects/key")
    write_file(folder / "data/.git", "gitdir: ../.git/modules/data\n")
    return linked(folder, "../../../.git/modules/data/annex/objects/key")


@case(
    "Links",
    "out of the dataset",
    f"data/{TWO[0]} lies outside the dataset data: --allow-links follows it",
)
def _(folder):
    write_file(folder / "store/scan.nii.gz")
    return linked(folder, "../../../store/scan.nii.gz")


@case("Links", "out of the dataset, with `--allow-links`", "read")
def _(folder):
    write_file(folder / "store/scan.nii.gz")
    return linked(folder, "../../../store/scan.nii.gz", allow_links=True)


@case(
    "Links",
    "two people, one file",
    f"refused: sub-01 and sub-02 have one image, {TWO[0]} and {TWO[1]}: one of them is wrong",
)
def _(folder):
    dataset(folder, "participant_id\n01\n02\n")
    (folder / TWO[1]).unlink()
    (folder / TWO[1]).symlink_to(f"../../{TWO[0]}")
    return said(folder, "path")


# --- tables ---


def listed(folder: Path, text: str | bytes, column="path", name="scans.csv", **choices) -> str:
    "What is read of a table beside two scans, a.nii.gz and b.nii.gz."
    for scan in ("a.nii.gz", "b c.nii.gz"):
        write_file(folder / "x" / scan)
    write_file(folder / name, text)
    return said(folder, column, source=folder / name, **choices)


TABLES = {
    "commas, `path` and `participant_id`": "path,participant_id\nx/a.nii.gz,1\nx/b c.nii.gz,2\n",
    "tabs in a `.csv`": "path\tparticipant_id\nx/a.nii.gz\t1\nx/b c.nii.gz\t2\n",
    "semicolons": "path;participant_id\nx/a.nii.gz;1\nx/b c.nii.gz;2\n",
    "UTF-16": "path,participant_id\nx/a.nii.gz,1\nx/b c.nii.gz,2\n".encode("utf-16"),
    "backslashes, spaces round a path": "path,participant_id\nx\\a.nii.gz ,1\n  x\\b c.nii.gz,2\n",
    "a comma in a quoted cell": 'path,participant_id,remark\nx/a.nii.gz,1,"a, b"\nx/b c.nii.gz,2,\n',
}
for given, content in TABLES.items():

    @case("Tables", given, "x/a.nii.gz, x/b c.nii.gz")
    def _(folder, content=content):
        return listed(folder, content)


@case("Tables", "`~` and `$HOME` in a path", "2 files found")
def _(folder):
    before, os.environ["HOME"] = os.environ["HOME"], str(folder)
    try:
        table = "path,participant_id\n~/x/a.nii.gz,1\n$HOME/x/b c.nii.gz,2\n"
        return f"{listed(folder, table).count('x/')} files found"
    finally:
        os.environ["HOME"] = before


@case(
    "Tables",
    "Excel, called `.xlsx`, columns `File` and `Subject`",
    "x/a.nii.gz, x/b c.nii.gz; read column Subject as participant_id; read column File as path",
)
def _(folder):
    pytest.importorskip("openpyxl")
    table = pd.DataFrame({"File": ["x/a.nii.gz", "x/b c.nii.gz"], "Subject": [1, 2]})
    table.to_excel(folder / "made.xlsx", index=False)
    return listed(folder, (folder / "made.xlsx").read_bytes(), name="scans.xlsx")


@case(
    "Tables",
    "`.CSV` with a column `Path`",
    "x/a.nii.gz; read column Path as path",
)
def _(folder):
    return listed(folder, "Path,participant_id\nx/a.nii.gz,1\n", name="SCANS.CSV")


@case(
    "Tables",
    "no column of paths",
    "refused: scans.csv has no path column but where, participant_id: say which, --map path=NAME",
)
def _(folder):
    return listed(folder, "where,participant_id\nx/a.nii.gz,1\n")


@case(
    "Tables",
    "separated by spaces",
    "refused: scans.csv has no path column but path participant_id (separators are tab, semicolon, "
    "comma and |): say which, --map path=NAME",
)
def _(folder):
    return listed(folder, "path participant_id\nx/a.nii.gz 1\n")


FAULTS = {
    "an empty path": (
        "path,participant_id\nx/a.nii.gz,1\n,2\n",
        "scans.csv has no path in row 3: fill it in, or delete the row",
    ),
    "an empty participant": (
        "path,participant_id\nx/a.nii.gz,1\nx/b c.nii.gz,\n",
        "scans.csv has no participant_id in row 3: fill it in, or delete the row",
    ),
    "a NUL": (
        "path,participant_id\nx/a.nii.gz,1\nx/\0b,2\n",
        "scans.csv row 3 holds a NUL: the file is damaged, or no table",
    ),
    "the same file under two patients": (
        "path,participant_id\nx/a.nii.gz,1\nx/a.nii.gz,2\n",
        "scans.csv rows 2 (sub-1) and 3 (sub-2) name one file, x/a.nii.gz: keep one row",
    ),
    "one patient in two classes": (
        "path,participant_id,dx\nx/a.nii.gz,1,MS\nx/b c.nii.gz,1,HC\n",
        "sub-1 is ms and healthy: a person belongs to one class, write the same in all rows, or n/a",
    ),
}
for given, (content, happens) in FAULTS.items():

    @case("Tables", given, f"refused: {happens}")
    def _(folder, content=content):
        return listed(folder, content)


@case(
    "Tables",
    "a file that is not there, a number for a path",
    "b.nii.gz, 17; note: files that are not there (2): scans.csv row 2 b.nii.gz, scans.csv row 3 17",
)
def _(folder):
    return listed(folder, "path,participant_id\nb.nii.gz,1\n17,2\n")


@case(
    "Tables",
    "two rows of one file, with other ages",
    "refused: scans.csv rows 2 (sub-1) and 3 (sub-1) name one file, x/a.nii.gz: keep one row",
)
def _(folder):
    return listed(folder, "path,participant_id,age\nx/a.nii.gz,1,40\nx/a.nii.gz,1,41\n")


@case(
    "Tables",
    "a row twice",
    "x/a.nii.gz; skipped: rows that repeat another: scans.csv row 3",
)
def _(folder):
    return listed(folder, "path,participant_id\nx/a.nii.gz,1\nx/a.nii.gz,1\n")


@case(
    "Tables",
    "an age of 1975 in row 2",
    "n/a; left out ages that are not between 0 and 120 years: scans.csv row 2 1975",
)
def _(folder):
    return listed(folder, "path,participant_id,age\nx/a.nii.gz,1,1975\n", "age")


@case("Tables", "a sidecar beside the scan, TR `9,0` in the table", "9; 0.12")
def _(folder):
    write_file(folder / "x/a.json", '{"RepetitionTime": 5, "EchoTime": 0.12}')
    table = "path;participant_id;RepetitionTime\nx/a.nii.gz;1;9,0\n"
    return listed(folder, table, TIMES)


@case(
    "Tables",
    "TR 9000 in the table",
    "9; read RepetitionTime in milliseconds, divided by 1000: scans.csv row 2",
)
def _(folder):
    table = "path,participant_id,RepetitionTime\nx/a.nii.gz,1,9000\n"
    return listed(folder, table, "RepetitionTime")


@case(
    "Tables",
    "no participant",
    "sub-00001, sub-00002; note: no participant_id column: each scan counts as a person of its own",
)
def _(folder):
    return listed(folder, "path\nx/a.nii.gz\nx/b c.nii.gz\n", "participant_id")


# --- the tests ---


@pytest.mark.parametrize("one", case, ids=case.names())
def test_case(one, tmp_path):
    assert one.run(tmp_path) == one.happens


def test_the_page_is_up_to_date():
    assert case.is_up_to_date()


def test_the_order_is_that_of_names_whatever_the_file_system_says(tmp_path, monkeypatch):
    scans = [f"sub-{name}/anat/sub-{name}_FLAIR.nii.gz" for name in ("10", "2", "1", "B", "a")]
    dataset(tmp_path, None, scans)
    listing = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: reversed(sorted(listing(path))))
    found = open_cohort(tmp_path).table.participant_id.tolist()
    assert found == ["sub-1", "sub-10", "sub-2", "sub-B", "sub-a"]


def test_a_cohort_shows_itself_and_counts(tmp_path):
    dataset(tmp_path, "participant_id\tdiagnosis\tage\n01\tHC\t30\n02\tAD\t999\n")
    cohort = open_cohort(tmp_path)
    line = "2 scans of 2 patients (healthy 1, AD 1); age of 1 scan, acquisition of 2 scans"
    assert repr(cohort).splitlines()[0] == line
    assert (
        "HC as healthy" in cohort._repr_html_() and json.dumps(line)[1:-1] in cohort._repr_html_()
    )


def test_a_cohort_without_a_diagnosis_says_so(tmp_path):
    dataset(tmp_path, "participant_id\tarm\n01\ta\n02\tb\n")
    assert f"{NO_DIAGNOSIS}: --map diagnosis=NAME names its column" in repr(open_cohort(tmp_path))


if __name__ == "__main__":
    case.write()
