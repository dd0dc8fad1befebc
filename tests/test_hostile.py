"""Pages that were made from hostile texts, in a real browser: nothing runs, nothing is asked for, the figures stand."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from test_pages import open_page

from msvae_nbdev.core import write_json
from msvae_nbdev.figures import save_figure
from msvae_nbdev.latent.latents import surrogate_latents
from msvae_nbdev.preparation.prepare_scan import SUFFIX, save_nifti
from msvae_nbdev.preparation.quality_page import write_report
from msvae_nbdev.privacy import DataOrigin
from msvae_nbdev.safe_output import defuse
from msvae_nbdev.show.page import Section, html_figure, html_page
from msvae_nbdev.space import AFFINE, SHAPE


@pytest.fixture(scope="module")
def outside():
    "A server on this machine that counts what it is asked for."
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield SimpleNamespace(asked=asked, url=f"http://127.0.0.1:{server.server_port}")
    server.shutdown()


def attack(url: str = "x") -> str:
    "A text that would run and load, wherever it is not escaped."
    return f"'\"><img src={url} onerror=window.ran=1><script>window.ran=1</script>"


FOUND = """return {
    ran: window.ran === undefined ? 0 : 1,
    injected: document.querySelectorAll('[onerror], [onload], iframe, object, link').length}"""


def look(driver, page: Path, outside, plots: int = 0) -> dict:
    "What a page does in the browser."
    del outside.asked[:]
    state = open_page(driver, page, plots, 1280)
    found = driver.execute_script(FOUND)
    return found | {"asked": list(outside.asked), "drawn": state["stills"]}


SAFE = {"ran": 0, "injected": 0, "asked": []}


def test_a_page_runs_and_loads_nothing_that_is_not_ours(driver, outside, tmp_path):
    "What no text can do, since texts are escaped, is done here: tags and a figure that load."
    figure = go.Figure([go.Scatter(y=[1, 2, 1]), go.Scatter3d(x=[1, 2], y=[1, 2], z=[1, 2])])
    figure.add_layout_image(source=f"{outside.url}/figure.png", x=0, y=1, sizex=1, sizey=1)
    tags = (
        f"<img src='{outside.url}/a.png' onerror='window.ran=1'><script>window.ran=1</script>"
        f"<script src='{outside.url}/a.js'></script><link rel=stylesheet href='{outside.url}/a.css'>"
        f"<iframe src='{outside.url}/b'></iframe><object data='{outside.url}/c'></object>"
        f"<style>body {{ background: url({outside.url}/d.png) }}</style>"
        "<details open ontoggle='window.ran=1'>x</details>"
    )
    content = tags + html_figure(figure, "A title", "A caption")
    page = tmp_path / "page.html"
    origins = [DataOrigin("phantom", "PHANTOMS")]
    page.write_text(html_page("Page", [Section("a", "A", content)], origins), encoding="utf-8")
    found = look(driver, page, outside, plots=1)
    assert {name: found[name] for name in ("ran", "asked", "drawn")} == {
        "ran": 0,
        "asked": [],
        "drawn": 1,
    }


def test_every_kind_of_trace_that_is_drawn_needs_no_more(driver, outside, tmp_path):
    kinds = [
        go.Scatter3d(x=[1, 2], y=[1, 2], z=[1, 2]),
        go.Heatmap(z=[[1, 2], [3, 4]]),
        go.Image(z=np.zeros((4, 4, 3), np.uint8)),
        go.Violin(y=[1, 2, 3, 4]),
        go.Bar(y=[1, 2]),
    ]
    content = "".join(html_figure(go.Figure(kind), "A title", "A caption") for kind in kinds)
    page = tmp_path / "page.html"
    page.write_text(html_page("Page", [Section("a", "A", content)], []), encoding="utf-8")
    driver.get_log("browser")
    assert look(driver, page, outside, len(kinds)) == SAFE | {"drawn": len(kinds)}
    assert [each for each in driver.get_log("browser") if each["level"] == "SEVERE"] == []


def test_the_page_of_a_preparation(driver, outside, tmp_path):
    bad = attack(f"{outside.url}/prepared")
    name = f"'\"><img src=x onerror=window.ran=1>{SUFFIX}.nii.gz"
    volume = np.linspace(0, 1, np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    save_nifti(volume, AFFINE, tmp_path / name, code=4)
    rows = {
        "participant_id": ["a", bad],
        "session_id": [np.nan, bad],
        "diagnosis": bad,
        "path": [name, np.nan],
        "source": bad,
        "status": ["ok", bad],
        "reason": bad,
        "attention": [np.nan, bad],
        "similarity": 0.5,
    }
    write_report(pd.DataFrame(rows), tmp_path, volume)
    found = look(driver, tmp_path / "report.html", outside)
    assert found == SAFE | {"drawn": 0}
    driver.find_element("css selector", "nav button[value=failed]").click()
    shown = "return document.querySelectorAll('tbody tr:not(.hidden)').length"
    assert driver.execute_script(shown) == 1  # the script of the page runs


def test_the_page_of_a_prediction(driver, outside, tmp_path):
    from msvae_nbdev.show.predict import Prediction, prediction_page

    bad = attack(f"{outside.url}/prediction")
    row = {"scan": f"{bad}.nii.gz", "phantom": False, "status": "failed", "reason": bad}
    space = SimpleNamespace(
        held_out=np.ones(3, bool), classes=(), calibration=None, without_classes=bad, name=bad
    )
    page = tmp_path / "page.html"
    page.write_text(prediction_page(space, [Prediction(row)]), encoding="utf-8")
    assert look(driver, page, outside) == SAFE | {"drawn": 0}


def test_the_page_of_an_audit(driver, outside, tmp_path):
    from msvae_nbdev.show.audit_table import audit

    table = surrogate_latents(0.05, 4)
    table["diagnosis"] = table.diagnosis + attack(f"{outside.url}/audit")
    table["Manufacturer"] = attack(f"{outside.url}/scanner")
    found = audit(table, features="z_*", permutations=199)
    page = found.save(tmp_path / "audit")
    assert look(driver, page, outside, len(found.figures)) == SAFE | {"drawn": len(found.figures)}
    assert "<img" not in found._repr_html_()


def test_the_report(driver, outside, tmp_path):
    from msvae_nbdev.model.trained_run import TrainedRun
    from msvae_nbdev.show.report import report

    bad = attack(f"{outside.url}/report")
    run = tmp_path / "<img src=x onerror=window.ran=1>"
    config = {"objective": bad, "latent_dim": 4, "epochs": 3, "prepared": bad, "seed": bad}
    write_json(config, run / "config.json")
    write_json({"arguments": {bad: bad}, "python": bad}, run / "provenance.json")
    figure = go.Figure(go.Scatter(y=[1, 2], name=bad)).update_layout(title=bad, xaxis_title=bad)
    save_figure(figure, run, "quality-1-x", bad, bad)
    page = report(run, tmp_path / "report.html")
    assert look(driver, page, outside, 1) == SAFE | {"drawn": 1}
    assert "<img" not in TrainedRun(run)._repr_html_()


def test_a_spreadsheet_executes_nothing():
    cells = ["=cmd|' /C calc'!A0", "+1+1", "@SUM(1)", "-2+3", "\t=1", "-1.5", "sub-1"]
    safe = defuse(pd.DataFrame({"participant_id": cells, "mse": -1.0}))
    assert safe.participant_id.tolist() == [*("'" + cell for cell in cells[:5]), *cells[5:]]
    assert (safe.mse == -1).all()
