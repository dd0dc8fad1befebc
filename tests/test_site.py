"""Every page of the built site in a browser: narrow and wide, light and dark.

`docs/build.py` builds the site. Looked for: console errors, requests that leave the machine, sideways scroll, and, on a page of each
kind, what axe-core calls serious or critical for readers who see little or use no mouse.
"""

from pathlib import Path

import pytest

SITE = Path(__file__).parents[1] / "_docs"
if not (SITE / "index.html").exists():
    pytest.skip("no site in _docs: python docs/build.py builds it", allow_module_level=True)

PAGES = sorted(
    path.relative_to(SITE).as_posix()
    for path in SITE.rglob("*.html")
    if path.relative_to(SITE).parts[0] != "_static"  # parts of the theme
)
KINDS = [  # the pages that axe-core looks at
    "index.html",
    "contents.html",
    "tutorials/first_steps.html",
    "tutorials/exploring_the_latent_space.html",
    "how-to/your_own_scans.html",
    "explanation/confounding.html",
    "reference/commands.html",
    "reference/python.html",
    "cohort/dicom.html",
    "latent/classify.html",
    "show/explorer.html",
    "show/predict.html",
    "studies/quality.html",
    "changelog.html",
    "search.html",
]
WIDTHS = (390, 1280)
THEMES = ("light", "dark")
LOOKED_AT = ((390, "light"), (1280, "dark"))  # by axe-core, of the four

STILL = """const still = document.createElement('style');
    still.textContent = '* { transition: none !important; animation: none !important }';
    document.head.append(still);
    for (const folded of document.querySelectorAll('details')) folded.open = true;"""
READY = """const done = arguments[0];
    const figures = document.querySelector('.js-plotly-plot') ? 300 : 0;  // they follow the width late
    Promise.resolve(window.MathJax?.startup?.promise).then(() => setTimeout(done, figures))"""
WIDE = """const page = document.scrollingElement, right = e => e.getBoundingClientRect().right;
    if (page.scrollWidth <= page.clientWidth + 1) return [];
    const style = e => getComputedStyle(e);
    const apart = e => e != document.body && (style(e).overflowX != 'visible' || style(e).position == 'fixed' ||
        apart(e.parentElement));
    const wide = [...document.querySelectorAll('body *')].filter(e => right(e) > page.clientWidth + 1 && !apart(e));
    return [`${page.scrollWidth} px`, ...wide.slice(0, 9).map(e => e.outerHTML.slice(0, 80))]"""
LEAVING = """return performance.getEntriesByType('resource').map(e => e.name)
    .filter(name => !/^(file|data|blob):/.test(name))"""


def set_width(driver, width: int) -> None:
    size = dict(width=width, height=900, deviceScaleFactor=1, mobile=False)
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def problems_of(driver, name: str, findings=None) -> dict:  # what: where; empty for a good page
    "A page is loaded once, narrow, then made wide; `findings` asks axe-core."
    set_width(driver, WIDTHS[0])
    driver.get((SITE / name).as_uri())
    driver.execute_script(STILL)
    found = {}
    for width in WIDTHS:
        set_width(driver, width)
        driver.execute_async_script(READY)
        for theme in THEMES:
            driver.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
            found[f"sideways scroll, {width} px, {theme}"] = driver.execute_script(WIDE)
            if findings and (width, theme) in LOOKED_AT:
                found[f"axe-core, {width} px, {theme}"] = findings()
    found["requests"] = driver.execute_script(LEAVING)
    logged = driver.get_log("browser")
    found["console"] = [each["message"] for each in logged if each["level"] == "SEVERE"]
    return {what: where for what, where in found.items() if where}


@pytest.mark.parametrize("name", PAGES)
def test_page(driver, axe_findings, name):
    assert problems_of(driver, name, axe_findings if name in KINDS else None) == {}


def test_a_page_of_each_kind_is_there():
    assert [name for name in KINDS if name not in PAGES] == []


def test_bad_pages_are_found(driver, axe_findings, tmp_path):
    "What the checks above are for is found where it is."
    page = tmp_path / "bad.html"
    page.write_text(
        "<html lang='en'><title>Bad</title><main><h1>Bad</h1><h4>Deep</h4>"
        "<p style='color: #999; background: #fff'>pale</p><p style='width: 700px'>wide</p><img src='none.png'>"
        "<script src='http://127.0.0.1:9/none.js'></script><script>console.error('wrong')</script></main>",
        encoding="utf-8",
    )
    found = problems_of(driver, page, axe_findings)
    scroll = [what for what in found if what.startswith("sideways")]
    assert scroll == ["sideways scroll, 390 px, light", "sideways scroll, 390 px, dark"]
    named = {where.split(":")[0] for where in found["axe-core, 1280 px, dark"]}
    assert {"color-contrast", "heading-order", "image-alt"} <= named
    assert found["requests"] == ["http://127.0.0.1:9/none.js"]
    assert any("wrong" in message for message in found["console"])
