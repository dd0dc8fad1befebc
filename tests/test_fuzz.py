"""Inputs at random: whatever a file or an argument holds, it is read, or refused with one line; nothing else happens.

`FUZZ=hour pytest tests/test_fuzz.py` tries 100 times as many, in about an hour.
"""

import contextlib
import io
import json
import os
import string
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msvae_nbdev.cohort.read import read_cohort
from msvae_nbdev.cohort.sidecars import read_acquisition, read_sidecar, read_site
from msvae_nbdev.core import MsvaeError, read_json, read_parquet, read_tsv
from msvae_nbdev.image_file import read_image
from msvae_nbdev.model.config import TrainingConfig, check_config
from msvae_nbdev.preparation.scan import read_scan, read_volume
from msvae_nbdev.show.audit_table import read_features
from msvae_nbdev.show.cli import main
from msvae_nbdev.show.options import names

CASES = {"headers": 200, "json": 200, "sidecars": 200, "tables": 150, "numbers": 300, "lines": 60}
MORE = 100 if os.environ.get("FUZZ") == "hour" else 1


def cases(kind: str):
    "So many random inputs of a kind, the same in every run unless more are asked for."
    return settings(
        max_examples=MORE * CASES[kind],
        deadline=None,
        derandomize=MORE == 1,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def refused(work, *given) -> bool:
    "Whether a call ends in a `MsvaeError`, which must be of one line; any other error is a failure."
    try:
        work(*given)
    except MsvaeError as error:
        assert str(error).strip()
        return True
    return False


# --- headers of images ---


@pytest.fixture(scope="module")
def image(folder):
    "A small head as NIfTI, in bytes."
    volume = np.random.default_rng(0).random((24, 24, 24), np.float32)
    return nib.Nifti1Image(volume, np.diag([8.0, 8, 8, 1])).to_bytes()


CHANGES = st.lists(st.tuples(st.integers(0, 351), st.binary(min_size=1, max_size=8)), max_size=6)


@cases("headers")
@given(changes=CHANGES, cut=st.none() | st.integers(0, 60000))
def test_headers(folder, image, changes, cut):
    data = bytearray(image)
    for place, bits in changes:
        data[place : place + len(bits)] = bits
    file = folder / "scan.nii"
    file.write_bytes(data[:cut])
    for read in (read_image, read_scan, read_volume):
        refused(read, file)


# --- JSON ---

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["9,0", "1e999", "n/a", "NaN", "=1", "\0", "0.120 s", "9" * 400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@cases("json")
@given(data=st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_json(folder, data):
    file = folder / "any.json"
    file.write_bytes(data)
    refused(read_json, file)
    refused(read_sidecar, file)


FIELDS = st.sampled_from(
    "RepetitionTime EchoTime InversionTime PixelBandwidth MagneticFieldStrength SliceThickness "
    "Manufacturer ManufacturersModelName InstitutionName RepetitionTimeExcitation".split()
)


@cases("sidecars")
@given(fields=st.dictionaries(FIELDS, VALUES))
def test_sidecars(folder, fields):
    file = folder / "sidecar.json"
    file.write_text(json.dumps(fields))
    notes = []
    if not refused(read_sidecar, file):
        written = read_sidecar(file)
        found = read_acquisition(written, "here", notes) | read_site(written, "here", notes)
        numbers = [value for value in found.values() if not isinstance(value, str)]
        assert not any(np.isinf(float(value)) for value in numbers)


# --- tables ---

CELLS = st.text(max_size=12) | st.sampled_from(
    [
        "sub-01",
        "01",
        "1",
        "89+",
        "-1",
        "inf",
        "ms",
        "HC",
        '"',
        "=1",
        "\t",
        "n/a",
        "nan",
        "\0",
        "1e400",
    ]
)
COLUMNS = st.sampled_from(
    [
        "participant_id",
        "session_id",
        "diagnosis",
        "age",
        "sex",
        "path",
        "id",
        "dx",
        "",
        "z_0",
        "use",
    ]
)


@cases("tables")
@given(
    header=st.lists(COLUMNS, min_size=1, max_size=5),
    rows=st.lists(st.lists(CELLS, max_size=6), max_size=4),
    separator=st.sampled_from("\t,;|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
)
def test_tables(folder, header, rows, separator, encoding):
    text = "\n".join(separator.join(cells) for cells in [header, *rows])
    data = folder / "data"
    data.mkdir(exist_ok=True)
    participants = data / "participants.tsv"
    participants.write_bytes(text.encode(encoding, "replace"))
    scan = data / "sub-01" / "anat" / "sub-01_FLAIR.nii.gz"
    scan.parent.mkdir(parents=True, exist_ok=True)
    scan.touch()
    for read in (read_tsv, read_features, read_cohort):
        refused(read, data if read is read_cohort else participants)
    listed = folder / "list.csv"
    listed.write_bytes(participants.read_bytes())
    refused(read_cohort, listed)


@cases("tables")
@given(changes=st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=4))))
def test_parquet(folder, changes):
    file = folder / "table.parquet"
    pd.DataFrame({"participant_id": ["a", "b"], "z_0": [0.0, 1.0]}).to_parquet(file)
    data = bytearray(file.read_bytes())
    for place, bits in changes:
        data[place % len(data) : place % len(data) + len(bits)] = bits
    file.write_bytes(data)
    refused(read_parquet, file)


# --- arguments ---

NUMBERS = st.integers() | st.floats() | st.none() | st.text(max_size=5)


@cases("numbers")
@given(
    given=st.dictionaries(
        st.sampled_from("latent_dim epochs batch_size learning_rate test validation seed".split()),
        NUMBERS,
    )
)
def test_numbers(given):
    def check():
        config = TrainingConfig(**given)
        check_config(config)
        assert 0 < config.learning_rate <= 1 and 0 <= config.test < 1 <= config.latent_dim

    refused(check)


WORDS = st.text(string.printable, max_size=8).filter(lambda text: "\0" not in text)
PLACES = st.sampled_from(["there", "there/config.json", "absent", ".", "there/x/y", "a" * 300])
OPTIONS = st.sampled_from(
    "--latent-dim --epochs --seed --test --samples --merge --map --workers --use -o --features "
    "--label --objective --skull-strip --select --nuisance --lesion-volume".split()
)


@cases("lines")
@given(
    command=st.sampled_from(
        "prepare train encode evaluate classify bias audit report predict".split()
    ),
    places=st.lists(PLACES, max_size=3),
    options=st.lists(st.tuples(OPTIONS, WORDS | PLACES), max_size=2),
)
def test_command_lines(folder, monkeypatch, command, places, options):
    "Status 0, 1 or 2, a line that is no bug, and no traceback."
    work = folder / "work"
    (work / "there").mkdir(parents=True, exist_ok=True)
    (work / "there/config.json").write_text('{"objective": "vae"}')
    monkeypatch.chdir(work)
    said = io.StringIO()
    words = [command, *places, *(word for option in options for word in option)]
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            main(words)
        except SystemExit as leaving:
            assert leaving.code in (None, 0, 1, 2), (words, said.getvalue())
    assert "this is a bug" not in said.getvalue(), (words, said.getvalue())
    assert not Path(work / "there/x").exists()


@given(text=st.text())
def test_names(text):
    assert all(name.strip() == name for name in names(text) or ())
