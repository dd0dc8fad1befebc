"""Any groups, the whole way from latents to the pages: two, three, twenty, one, none."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from msvae_nbdev.core import MsvaeError, read_json, read_tsv, write_json, write_tsv
from msvae_nbdev.figures import load_figures
from msvae_nbdev.groups import DIAGNOSES, group_label, group_order
from msvae_nbdev.latent.classify import TOO_FEW, classify
from msvae_nbdev.latent.classify_run import classify_run
from msvae_nbdev.latent.latent_space import LatentSpace, directions, open_space
from msvae_nbdev.latent.latents import surrogate_latents
from msvae_nbdev.show.cli import app
from msvae_nbdev.show.new_scan import probability_bars
from msvae_nbdev.show.page import Section, html_page
from msvae_nbdev.show.report import report
from msvae_nbdev.show.run_sections import cohort_table
from msvae_nbdev.show.walk import LatentWalk, describe_code
from msvae_nbdev.space import SHAPE

SURROGATES = surrogate_latents(scale=0.1, latent_dim=6, test=0.3, seed=0)
SITES = [f"site {number}" for number in range(1, 21)]
PATIENTS = SURROGATES.participant_id
CASES = {
    "two": np.where(SURROGATES.diagnosis == "healthy", "control", "patient"),
    "dementia": SURROGATES.diagnosis.map(
        {"healthy": "CN", "ms": "MCI", "leuko1": "early AD"}
    ).fillna("AD"),
    "twenty": np.array(SITES)[pd.factorize(PATIENTS)[0] % 20],
    "numbers": np.where(SURROGATES.diagnosis == "healthy", 2, 10),
    "long": np.where(SURROGATES.diagnosis == "ms", "x" * 70, "<b>bold & odd</b>"),
}


def toy_decode(z):
    "A block whose intensity is the first latent."
    level = np.clip(0.5 + 0.05 * z[:, 0], 0, 1).astype(np.float32)
    return np.broadcast_to(level[:, None, None, None, None], (len(z), *SHAPE, 1))


def make_run(folder, diagnosis):
    "A run folder with latents of these groups."
    table = SURROGATES.assign(diagnosis=diagnosis)
    folder.mkdir()
    write_json({"objective": "vae", "latent_dim": 6}, folder / "config.json")
    table.to_parquet(folder / "latents.parquet")
    write_tsv(table[["participant_id", "session_id", "diagnosis", "split"]], folder / "split.tsv")
    return folder


@pytest.mark.parametrize("case", CASES)
def test_the_whole_way(case, tmp_path):
    run = make_run(tmp_path / "run", CASES[case])
    labels = group_order(CASES[case])
    result = classify_run(run, decode=toy_decode, features=1)
    assert result["labels"] == labels == list(result["per_class"])
    assert np.sum(result["confusion"]) == (SURROGATES.split == "test").sum()
    assert result["merge"] == {} and "paper_table2" not in result
    assert result["notes"] == []
    scans = read_tsv(run / "lda_scans.tsv")
    assert set(scans.diagnosis) == set(labels)
    assert (scans.diagnosis_merged == scans.diagnosis).all()
    figures = {name: figure for name, _, _, figure in load_figures(run)}
    assert "the paper's" not in figures["lda-2-rates"].to_json()
    names = [trace.name.rsplit(",", 1)[0] for trace in figures["lda-1-axes"].data]
    assert names == [group_label(label) for label in labels] * 2
    morphs = sum(name.startswith("lda-7-morph") for name in figures)
    assert morphs == {2: 1, 3: 3}.get(len(labels), min(5, len(labels) - 1))
    page = report(run, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No diagnosis" not in page and "<b>bold" not in page
    walk = LatentWalk(LatentSpace(open_space(run).table, toy_decode))
    walk.start_from(labels[-1])
    assert describe_code(walk.space, walk.code).count("<tr>") == len(labels)
    assert len(directions(walk.space)) == 6 + min(6, len(labels) - 1)


def test_the_papers_groups_keep_their_merge_and_their_table(tmp_path):
    result = classify_run(make_run(tmp_path / "run", SURROGATES.diagnosis), decode=toy_decode)
    assert result["labels"] == list(DIAGNOSES)
    assert result["merged"]["labels"] == ["healthy", "ms", "leuko"]
    assert result["paper_table2"]["ms"] == {"precision": 0.92, "recall": 0.89}
    figures = {name: figure for name, _, _, figure in load_figures(tmp_path / "run")}
    assert figures["lda-1-axes"].layout.title.text == (
        "First three discriminant axes of the five-class LDA, three colours"
    )
    assert [name for name in figures if "morph" in name] == [f"lda-7-morph-{n}" for n in (1, 2, 3)]


def test_a_merge_of_ones_own(tmp_path):
    run = make_run(tmp_path / "run", CASES["dementia"])
    merge = {"dementia": ("early AD", "AD")}
    result = classify_run(run, decode=toy_decode, features=0, merge=merge)
    assert read_json(run / "lda.json")["merge"] == {"dementia": ["early AD", "AD"]}
    assert result["labels"] == ["AD", "CN", "early AD", "MCI"]
    assert result["merged"]["labels"] == ["CN", "dementia", "MCI"]
    space = open_space(run)
    assert space.merge == read_json(run / "lda.json")["merge"] and "dementia" in space.centroids
    assert set(read_tsv(run / "lda_scans.tsv").predicted_merged) <= {"CN", "dementia", "MCI"}
    with pytest.raises(MsvaeError, match="no scan is of the group 'ALS'"):
        classify_run(run, decode=toy_decode, merge={"x": ("ALS",)})
    with pytest.raises(MsvaeError, match="leaves one group"):
        classify_run(run, decode=toy_decode, merge={"all": result["labels"]})


def test_the_command_takes_a_merge(tmp_path):
    run = make_run(tmp_path / "run", CASES["dementia"])
    asked = ["classify", str(run), "--merge", "dementia=early AD, AD"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert "With early AD, AD as dementia: 0." in done.output
    assert read_json(run / "lda.json")["merge"] == {"dementia": ["early AD", "AD"]}
    for wrong, message in (("dementia", "NEW=OLD"), ("x=ALS", "no scan is of the group 'ALS'")):
        failed = CliRunner().invoke(app, [*asked[:3], wrong])
        assert isinstance(failed.exception, MsvaeError) and message in str(failed.exception)


@pytest.mark.parametrize(
    "diagnosis, why", [(np.nan, "no scan has a diagnosis"), ("ms", "training patients are of 1")]
)
def test_without_groups_there_is_a_space_and_a_sentence(diagnosis, why, tmp_path):
    run = make_run(tmp_path / "run", diagnosis)
    with pytest.raises(MsvaeError, match=why):
        classify_run(run, decode=toy_decode)
    assert not (run / "lda.json").exists()
    walk = LatentWalk(LatentSpace(open_space(run).table, toy_decode), dimensions=3)
    assert [direction.name[:2] for direction in walk.directions] == ["z_"] * 3
    assert why in describe_code(walk.space, walk.code)
    page = report(run, tmp_path / "report.html").read_text(encoding="utf-8")
    assert ("No diagnosis" in page) == pd.isna(diagnosis)
    assert "msvae classify" not in page and page.count("no groups to compare") == 3


def test_a_cohort_without_diagnoses_goes_all_the_way(tmp_path):
    from msvae_nbdev.phantom.simulate import simulate
    from msvae_nbdev.show.run import train

    prepared = tmp_path / "prepared"
    simulate(prepared, scale=0.0001, at_least=4, seed=1, prepared=True, workers=1)
    scans = read_tsv(prepared / "scans.tsv")
    write_tsv(scans.assign(diagnosis=np.nan), prepared / "scans.tsv")
    options = dict(latent_dim=3, epochs=1, batch_size=8, test=0.3, verbose=0)
    run = train(prepared, tmp_path / "run", **options)
    latents = run.encode()
    assert latents.diagnosis.isna().all() and set(latents.split) == {"train", "validation", "test"}
    run.evaluate(n_samples=4)
    captions = [caption for _, _, caption, _ in load_figures(run.path, "quality-1")]
    assert "which has no diagnoses" in captions[0]
    assert "no scan has a diagnosis" in run.explore().bars.value
    scan = prepared / scans.path[0]
    assert run.predict(scan, tmp_path / "p.html").predicted.isna().all()
    for step in (run.classify, run.audit):
        with pytest.raises(MsvaeError):
            step()
    page = run.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "no groups to compare" in page and "MS separates" not in page


def test_a_class_that_only_test_patients_have():
    table = SURROGATES.assign(diagnosis=np.where(SURROGATES.diagnosis == "ms", "ms", "healthy"))
    first = table.participant_id[table.split == "test"].iloc[0]
    table.loc[table.participant_id == first, "diagnosis"] = "NMOSD"
    _, result = classify(table, repeats=2)
    assert "no training patient is NMOSD: it cannot be predicted" in result["notes"]
    assert result["per_class"]["NMOSD"]["recall"] == 0


def test_one_test_patient_says_nothing():
    first = SURROGATES.participant_id[SURROGATES.split == "test"].iloc[0]
    alone = (SURROGATES.split != "test") | (SURROGATES.participant_id == first)
    _, result = classify(SURROGATES[alone], repeats=2)
    assert result["balanced_accuracy_interval"] is None and TOO_FEW in result["notes"]


def test_some_scans_without_a_label_are_counted_and_used():
    diagnosis = SURROGATES.diagnosis.where(SURROGATES.diagnosis != "leuko1", None)
    table = SURROGATES.assign(diagnosis=diagnosis)
    _, result = classify(table, repeats=2)
    assert f"{diagnosis.isna().sum()} scans without a diagnosis were left out" in result["notes"]
    assert f"<th scope='row'>No diagnosis</th><td>{diagnosis.isna().sum()}</td>" in cohort_table(
        table
    )
    space = LatentSpace(table)
    training = space.z[table.split == "train"]
    np.testing.assert_allclose(space.covariance.location_, training.mean(0))


def test_latents_and_columns_that_say_nothing():
    table = SURROGATES.assign(EchoTime=np.inf, age=np.inf, z_0=1.0)
    _, result = classify(table, repeats=2)
    assert result["baselines"]["age_only"]["reason"] == "not known for enough scans"
    columns = [name for name in table if name.startswith("z_")]
    dead = table.assign(**dict.fromkeys(columns, 0.0))
    with pytest.raises(MsvaeError, match="the training has collapsed"):
        classify(dead)
    space = LatentSpace(dead, toy_decode)
    assert "collapsed" in space.without_classes
    assert "collapsed" in describe_code(space, np.zeros(6))


def test_a_patient_in_two_groups_is_named():
    table = SURROGATES.sort_values("participant_id", kind="stable").reset_index(drop=True)
    twice = table.participant_id[table.participant_id.duplicated()].iloc[0]
    table.loc[(table.participant_id == twice).idxmax(), "diagnosis"] = "AD"
    with pytest.raises(MsvaeError, match=f"more than one group, such as {twice}"):
        classify(table)


def test_twenty_probabilities_fit_on_a_page():
    shares = dict.fromkeys(SITES, 0.05)
    bars = probability_bars(shares)
    places = [bars.index(f">{site}<") for site in SITES]
    assert places == sorted(places)
    assert "site 20" in html_page("t", [Section("a", "A", bars)], [])
