"""What several test files share: a browser, and axe-core in it."""

import os
import shutil

import pytest


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
