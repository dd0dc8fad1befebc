"Models that come with the package: opened by name, from Python and from the command line, without their cohort."

import pandas as pd
import pytest
from typer.testing import CliRunner

from msvae_nbdev.core import read_json
from msvae_nbdev.model.pretrained import PRETRAINED, find_run
from msvae_nbdev.phantom.simulate import simulate
from msvae_nbdev.show.commands import app
from msvae_nbdev.show.report import report
from msvae_nbdev.show.run import load_run


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    "A prepared phantom that the models have not seen."
    folder = tmp_path_factory.mktemp("scan")
    simulate(folder, scale=0.0001, seed=3, at_least=1, prepared=True)
    return next(folder.glob("sub-ms*/**/*_FLAIR.nii.gz"))


def test_predicts_without_its_cohort(scan, tmp_path):
    "A new scan is placed by distance and by reconstruction error, as where the cohort is at hand."
    page = tmp_path / "prediction.html"
    done = CliRunner().invoke(app, ["predict", "phantom-vae-32", str(scan), "-o", str(page)])
    assert done.exit_code == 0, done.output
    assert "PHANTOMS" in page.read_text()
    (row,) = pd.read_csv(page.with_suffix(".tsv"), sep="\t").to_dict("records")
    assert 0 < row["mse_rank"] <= 1 and 0 < row["distance_rank"] <= 1
    assert read_json(page.with_suffix(".json"))["run"] == "phantom-vae-32"


def test_a_report_says_that_they_were_phantoms(tmp_path):
    "The cohort is gone, but what it was is known."
    page = report([find_run("phantom-vae-32")], tmp_path / "report.html").read_text()
    assert "The data are PHANTOMS" in page


@pytest.mark.parametrize("name", PRETRAINED)
def test_is_explored_and_says_how_to_get_its_scans(name):
    "What needs the scans says where they are to be had."
    run = load_run(name)
    assert len(run.explore(dimensions=2).sliders) > 2
    with pytest.raises(Exception, match="--prepared FOLDER"):
        run.evaluate()
