"""Sphinx configuration; `docs/build.py` runs Sphinx on the pages it makes of the notebooks."""

from configparser import ConfigParser
from pathlib import Path

settings = ConfigParser(delimiters=["="])
settings.read(Path(__file__).parent.parent / "settings.ini", encoding="utf-8")
settings = settings["DEFAULT"]

project = settings["title"]
author = settings["author"]
release = version = settings["version"]
project_copyright = settings["copyright"]

extensions = ["myst_nb", "sphinx.ext.mathjax", "sphinx-mathjax-offline"]
nb_execution_mode = "off"  # stored outputs are shown
nb_output_stderr = "remove"  # progress and log lines
nb_render_markdown_format = "myst"  # formulas in outputs too
nb_ipywidgets_js = {}  # widgets need a kernel, and their scripts would come from a network
smartquotes = False  # options begin with two hyphens, in headings and tables, too
suppress_warnings = ["myst.header"]  # nbdev documents symbols at level 3 wherever they stand

myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "dollarmath"]
myst_heading_anchors = 4

html_theme = "sphinx_book_theme"
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["msvae.css"]
html_favicon = "_static/favicon.svg"
html_copy_source = False
html_show_sourcelink = False
html_context = {"default_mode": "auto"}  # as the system has it; figures have a white ground
html_theme_options = {
    "home_page_in_toc": True,
    "navbar_start": [],  # the sidebar has title and search
    "navbar_center": [],
    "navbar_end": [],
    "navbar_persistent": [],
    "show_toc_level": 3,
    "use_download_button": False,
    "use_fullscreen_button": False,
}
