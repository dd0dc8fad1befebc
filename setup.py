"""Install msvae_nbdev. All metadata and dependencies stand in settings.ini; this file only hands them to setuptools."""

import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(here / "settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]

extras = {
    key.removesuffix("_requirements"): value.split()
    for key, value in cfg.items()
    if key.endswith("_requirements")
}

repository = f"https://github.com/{cfg['user']}/{cfg['repo']}"
raw = f"https://raw.githubusercontent.com/{cfg['user']}/{cfg['repo']}"


def absolute(link) -> str:
    "A link or picture of the README, as it has to be written on a package index."
    host = f"{raw}/{cfg['branch']}" if link["mark"] else f"{repository}/blob/{cfg['branch']}"
    return f"{link['mark']}[{link['text']}]({host}/{link['path']})"


readme = (here / "README.md").read_text(encoding="utf-8")
relative = r"(?P<mark>!?)\[(?P<text>[^\]]*)\]\((?!https?:|#)(?P<path>[^)\s]+)\)"

setup(
    version=cfg["version"],
    description=cfg["description"],
    long_description=re.sub(relative, absolute, readme),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    license="Apache-2.0",
    url=repository,
    project_urls={
        "Source": repository,
        "How-to": f"{repository}/tree/{cfg['branch']}/nbs/how-to",
        "Issues": f"{repository}/issues",
        "Release notes": f"{repository}/blob/{cfg['branch']}/CHANGELOG.md",
        "Paper": cfg["paper"],
    },
    keywords=cfg["keywords"].split(),
    python_requires=f">={cfg['min_python']},<3.14",  # the upper bound is TensorFlow's
    packages=find_packages(include=[cfg["lib_name"], f"{cfg['lib_name']}.*"]),
    include_package_data=True,
    install_requires=cfg["requirements"].split(),
    extras_require=extras,
    entry_points={
        "console_scripts": cfg["console_scripts"].split(),
        "nbdev": [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
    zip_safe=False,
)
