"""Pages in a real browser: every figure is drawn, nothing is logged, no sideways scroll on a phone."""

import shutil
import time

import pandas as pd
import plotly.graph_objects as go
import pytest

import msvae_nbdev as ms
from msvae_nbdev.core import read_tsv
from msvae_nbdev.preparation.quality_page import mean_volume, write_report
from msvae_nbdev.privacy import DataOrigin
from msvae_nbdev.show.page import Section, html_figure, html_page

STATE = """return {
    plots: document.querySelectorAll('.plot').length,
    drawn: document.querySelectorAll('.plot.js-plotly-plot .main-svg').length > 0 &&
        document.querySelectorAll('.plot.js-plotly-plot').length,
    stills: [...document.querySelectorAll('img.still')].filter(i => i.naturalWidth).length,
    wide: document.documentElement.scrollWidth > window.innerWidth}"""
LOADED = (
    "return performance.getEntriesByType('resource').map(e => e.name).filter(n => /^http/.test(n))"
)
PAGES = ("report", "prediction", "audit", "prepare")


def open_page(driver, path, plots: int, width: int) -> dict:
    "The state of a page when its figures stand, or after 30 seconds."
    size = dict(width=width, height=900, deviceScaleFactor=1, mobile=False)
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get(path.as_uri())
    deadline = time.monotonic() + 30
    while (state := driver.execute_script(STATE))["stills"] < plots and time.monotonic() < deadline:
        time.sleep(0.1)
    return state


@pytest.mark.parametrize("width", [390, 1280])
def test_every_figure_is_drawn(driver, tmp_path, width):
    "Also behind a figure that has no script, and one of several panels that is wider than a phone."
    picture = "<figure class='planes'><figcaption>no plot</figcaption></figure>"
    flat = go.Figure(go.Scatter(y=[1, 2, 1]))
    solid = go.Figure(go.Scatter3d(x=[1, 2], y=[1, 2], z=[1, 2]))
    figures = [html_figure(figure, "A title", "A caption") for figure in (flat, solid)]
    content = picture + "".join(figures)
    page = html_page("Page", [Section("a", "A", content)], [DataOrigin("phantom", "PHANTOMS")])
    path = tmp_path / "page.html"
    path.write_text(page, encoding="utf-8")
    state = open_page(driver, path, 2, width)
    assert state == {"plots": 2, "drawn": 2, "stills": 2, "wide": False}
    assert [each for each in driver.get_log("browser") if each["level"] == "SEVERE"] == []


@pytest.fixture(scope="module")
def pages(finished, tmp_path_factory) -> dict:  # name: path
    "The pages of a tiny run of phantoms, as its commands write them."
    folder, run = tmp_path_factory.mktemp("pages"), finished / "run"
    table = pd.read_parquet(run / "latents.parquet")
    audit = ms.audit(table, features="z_*", permutations=199).save(folder / "audit")
    cohort = shutil.copytree(finished / "prepared", folder / "cohort")
    scans = read_tsv(cohort / "scans.tsv")
    write_report(scans, cohort, mean_volume(scans, cohort))
    found = {name: run / f"{name}.html" for name in ("report", "prediction")}
    return found | {"audit": audit, "prepare": cohort / "report.html"}


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_pages_of_a_run(driver, axe_findings, pages, name, width):
    plots = pages[name].read_text(encoding="utf-8").count("<div class='plot'")
    state = open_page(driver, pages[name], plots, width)
    drawn = plots or False
    assert state == {"plots": plots, "drawn": drawn, "stills": plots, "wide": False}
    assert plots > 1 or name == "prepare"
    assert [each for each in driver.get_log("browser") if each["level"] == "SEVERE"] == []
    assert driver.execute_script(LOADED) == []
    assert axe_findings() == []
