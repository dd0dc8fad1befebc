"""What several test files share: a finished run, a browser, and axe-core in it."""

import os
import shutil

import pytest

SURNAME = "Kellermann"  # in the names of source files
SMALL = dict(latent_dim=2, epochs=1, batch_size=8, test=0.4, validation=0, verbose=0)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    "A folder with a cohort whose scans.tsv names source files, and a finished run on it with its pages. To be read or copied."
    import msvae_nbdev as ms
    from msvae_nbdev.core import read_tsv, write_tsv

    folder = tmp_path_factory.mktemp("finished").resolve()
    ms.simulate(folder / "prepared", scale=0.0001, seed=1, prepared=True, at_least=5)
    scans = read_tsv(folder / "prepared/scans.tsv")
    scans["source"] = [f"/clinic/{SURNAME}_{row}.nii.gz" for row in scans.index]
    scans.loc[scans.index[::2], "age"] = 93.5
    write_tsv(scans, folder / "prepared/scans.tsv")
    ms.train(folder / "prepared", folder / "run", **SMALL)
    run = ms.load_run(folder / "run")
    run.encode()
    run.evaluate(n_samples=4)
    run.classify()
    run.audit(permutations=199)
    run.report(run.path / "report.html")
    run.predict(folder / "prepared" / scans.path[0], run.path / "prediction.html")
    return folder


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    "Chromium without a window, and what it logs. Without Chromium its tests fail in CI and are skipped elsewhere."
    missing = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
    if os.environ.get("CI") != "true" and missing:
        pytest.skip(f"no {' or '.join(missing)} here")
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


FINDINGS = """const done = arguments[0];
    const grave = found => ['serious', 'critical'].includes(found.impact) || found.id == 'heading-order';
    const told = found => found.nodes.map(node => `${found.id}: ${node.html.slice(0, 160)}`);
    axe.run({resultTypes: ['violations']}).then(all => done(all.violations.filter(grave).flatMap(told)))"""


@pytest.fixture(scope="session")
def axe_findings(driver):
    "Asks axe-core for what hinders readers who see little or use no mouse: serious, critical, or a heading that skips a level."
    from axe_core_python.base import AXE_SCRIPT

    def findings() -> list:  # of str, on the page that is open
        if not driver.execute_script("return Boolean(window.axe)"):
            driver.execute_script(AXE_SCRIPT)
        return driver.execute_async_script(FINDINGS)

    return findings
