"""Figures as stills, as a paper needs them, drawn by kaleido with the browser of this machine."""

import os
import shutil

import plotly.graph_objects as go
import pytest

import msvae_nbdev.figures  # noqa: F401 (gives figures their `save`)

pytest.importorskip("kaleido")
if os.environ.get("CI") != "true" and not shutil.which("chromium"):
    pytest.skip("no chromium here", allow_module_level=True)


@pytest.mark.parametrize("ending, begin", [("png", b"\x89PNG"), ("svg", b"<svg"), ("pdf", b"%PDF")])
def test_stills(tmp_path, ending, begin):
    figure = go.Figure(go.Scatter(y=[1, 2, 1]))
    path = figure.save(tmp_path / f"figure.{ending}")
    assert path.read_bytes().startswith(begin)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
