"""The explorer in JupyterLab as a picture: `python studies/demonstration/picture.py msvae-demo/introvae-32` writes nbs/images/explorer.png.

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
from msvae_nbdev.show.page import is_phantom

PICTURE = Path(__file__).parents[2] / "nbs" / "images" / "explorer.png"
CELL = """from msvae_nbdev.show.explorer import LatentExplorer
explorer = LatentExplorer({run!r}, dimensions=3)
explorer.start_from("ms")
explorer"""
IDLE = """const open = [...(window.jupyterapp?.shell.widgets('main') ?? [])];
return open.find(each => each.sessionContext)?.sessionContext.session?.kernel?.status == 'idle'"""
WIDGET = ".jp-OutputArea-output .widget-box"


def write_notebook(run: str, path: Path) -> None:
    "A notebook with the explorer as its only cell."
    cell = {"cell_type": "code", "id": "explorer", "metadata": {}, "outputs": []}
    cell |= {"execution_count": None, "source": CELL.format(run=run)}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
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
    "Run the cell, wait until the explorer stands, and keep its picture."
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("--headless=new", "--no-sandbox", "--window-size=1500,1300"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={profile}")
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.get(f"{address}/lab/tree/explore.ipynb")
        while not driver.execute_script(IDLE):
            time.sleep(1)
        driver.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        while not driver.find_elements("css selector", WIDGET):
            time.sleep(1)
        time.sleep(10)  # images and sliders
        driver.find_element("css selector", WIDGET).screenshot(str(PICTURE))
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
    picture = Image.open(PICTURE).convert("RGB")
    white = Image.new("RGB", picture.size, "white")
    right = ImageChops.difference(picture, white).getbbox()[2]
    picture = picture.crop((0, 0, right, picture.height))
    picture.save(PICTURE, optimize=True)
    print(f"{PICTURE}: {picture.size}, {PICTURE.stat().st_size / 1000:.0f} kB")
