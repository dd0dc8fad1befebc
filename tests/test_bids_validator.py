"""What `simulate` and `prepare` write has no error for the BIDS validator (of the extra `dev`)."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from msvae_nbdev.core import read_tsv, write_tsv
from msvae_nbdev.phantom.simulate import simulate
from msvae_nbdev.preparation.prepare import prepare

VALIDATOR = shutil.which("bids-validator-deno") or shutil.which("bids-validator")
pytestmark = pytest.mark.skipif(not VALIDATOR, reason="pip install bids-validator-deno")


def errors(folder: Path) -> list:
    "What the validator calls an error."
    done = subprocess.run([VALIDATOR, "--json", folder], capture_output=True, text=True)
    issues = json.loads(done.stdout)["issues"]["issues"]
    return [
        (issue["code"], issue.get("location"), issue.get("issueMessage"))
        for issue in issues
        if issue["severity"] == "error"
    ]


def test_the_validator_finds_an_error(tmp_path):
    (tmp_path / "dataset_description.json").write_text('{"Name": "x"}')
    assert errors(tmp_path)


def test_simulated_and_prepared_folders_are_valid(tmp_path):
    raw, prepared, layout = (tmp_path / name for name in ("raw", "prepared", "layout"))
    simulate(raw, scale=1e-4, seed=5, variation=0, workers=1, at_least=1)
    simulate(layout, scale=1e-4, seed=5, variation=0, workers=1, at_least=1, prepared=True)
    people = read_tsv(raw / "participants.tsv")
    people.loc[0, "age"] = 97.5  # older than BIDS allows without a word
    write_tsv(people, raw / "participants.tsv")
    for folder in raw.glob("sub-*"):
        if "healthy" not in folder.name:
            shutil.rmtree(folder)  # one person is enough to prepare
    assert errors(layout) == []
    assert (prepare(raw, prepared, workers=1, keep_full=True).status == "ok").all()
    assert errors(prepared) == []
    assert errors(raw) == []
