"""Pages in a real browser: every figure is drawn, nothing is logged, no sideways scroll on a phone."""

import os
import shutil
import time

import plotly.graph_objects as go
import pytest

from msvae_nbdev.show.page import DataOrigin, Section, html_figure, html_page

MISSING = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
if os.environ.get("CI") != "true" and MISSING:
    pytest.skip(f"no {' or '.join(MISSING)} here", allow_module_level=True)

STATE = """return {
    plots: document.querySelectorAll('.plot').length,
    drawn: document.querySelectorAll('.plot.js-plotly-plot .main-svg').length > 0 &&
        document.querySelectorAll('.plot.js-plotly-plot').length,
    stills: [...document.querySelectorAll('img.still')].filter(i => i.naturalWidth).length,
    wide: document.documentElement.scrollWidth > window.innerWidth}"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    profile = tmp_path_factory.mktemp("profile")
    flags = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage")
    for flag in (*flags, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


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
