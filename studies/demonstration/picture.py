"""The explorer in JupyterLab, and its volumes in NiiVue, as pictures: `python studies/demonstration/picture.py
STUDY/introvae-256` writes nbs/images/explorer.png and nbs/images/niivue.png.

The run may only be of phantoms. Needs the extra dev, and chromium with its driver.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageChops
from selenium import webdriver

from msvae_nbdev.model.trained_run import load_run
from msvae_nbdev.privacy import is_phantom

IMAGES = Path(__file__).parents[2] / "nbs" / "images"
NAMES = ("explorer.png", "niivue.png")  # of the output of each cell
CELLS = (
    """from msvae_nbdev.show.explorer import LatentExplorer
explorer = LatentExplorer({run!r}, dimensions=3)
explorer.morph("healthy", "ms")
explorer.morph_panel.step.value = 8
explorer""",
    """explorer = LatentExplorer({run!r}, dimensions=3)
explorer.start_from(next(scan for scan in explorer.scans if scan.endswith("MS, test")))
explorer.niivue()""",
)
IDLE = """const open = [...(window.jupyterapp?.shell.widgets('main') ?? [])];
return open.find(each => each.sessionContext)?.sessionContext.session?.kernel?.status == 'idle'"""
WIDGETS = ".jp-OutputArea-output > .widget-box"


def write_notebook(run: str, path: Path) -> None:
    "A notebook with a cell for each picture."
    kind = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    cells = [
        kind | {"id": f"cell-{number}", "source": source.format(run=run)}
        for number, source in enumerate(CELLS)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook))
    settings = path.parent / "JUPYTERLAB_SETTINGS_DIR" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    quiet = {"fetchNews": "false"}  # no question in the way
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))


def start_jupyterlab(folder: Path) -> tuple:  # (process, address)
    "JupyterLab on a free port."
    options = ["--no-browser", "--ip=127.0.0.1", "--port=0", "--allow-root"]
    options += ["--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True"]
    command = [sys.executable, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={folder}"]
    names = ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_WORKSPACES_DIR", "JUPYTERLAB_SETTINGS_DIR")
    home = {name: str(folder / name) for name in names}
    log = folder / "log"
    with open(log, "w") as file:
        process = subprocess.Popen(command, env=os.environ | home, stdout=file, stderr=file)
    while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
        time.sleep(0.5)
    return process, found[0]


def photograph(address: str, profile: str) -> None:
    "Run the cells, wait until their widgets stand, and keep pictures of them."
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("--headless=new", "--no-sandbox", "--window-size=1500,2300"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={profile}")
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.get(f"{address}/lab/tree/explore.ipynb")
        while not driver.execute_script(IDLE):
            time.sleep(1)
        driver.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        while len(driver.find_elements("css selector", WIDGETS)) < len(CELLS):
            time.sleep(1)
        time.sleep(20)  # images, sliders, shaders
        for name, widget in zip(NAMES, driver.find_elements("css selector", WIDGETS)):
            widget.screenshot(str(IMAGES / name))
    finally:
        driver.quit()


if __name__ == "__main__":
    run = load_run(Path(sys.argv[1]).resolve())
    scan = next(Path(run.config["prepared"]).glob("sub-*/**/*.nii.gz"))
    assert is_phantom(scan), "a picture for the docs shows phantoms only"
    with tempfile.TemporaryDirectory() as folder:
        write_notebook(str(run.path), Path(folder) / "explore.ipynb")
        process, address = start_jupyterlab(Path(folder))
        try:
            photograph(address, f"{folder}/profile")
        finally:
            process.terminate()
            process.wait()
    for name in NAMES:
        picture = Image.open(IMAGES / name).convert("RGB")
        white = Image.new("RGB", picture.size, "white")
        right = ImageChops.difference(picture, white).getbbox()[2]
        picture = picture.crop((0, 0, right, picture.height))
        picture.save(IMAGES / name, optimize=True)
        print(f"{name}: {picture.size}, {(IMAGES / name).stat().st_size / 1000:.0f} kB")
