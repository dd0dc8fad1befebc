"""Make README.md from nbs/index.ipynb: `python docs/readme.py`. What `nbdev-readme` does with Quarto, with what pip installs.

Markdown cells are taken as they are, code cells become fenced code with their stored text output, cells marked `#| hide` stay out. Links
relative to nbs/ are made relative to the top of the repository, and one that leads nowhere is an error.
"""

import re
import sys
from pathlib import Path

from fastcore.nbio import read_nb

ROOT = Path(__file__).resolve().parent.parent
INDEX = ROOT / "nbs" / "index.ipynb"
NOTICE = "<!-- Made from nbs/index.ipynb by docs/readme.py: edit that notebook, not this file. -->"
LINK = re.compile(
    r"""(?P<before>\]\(|\b(?:src|href)=["'])(?P<path>[^)\s"'#:]+)(?P<after>(?:#[^)\s"']*)?[)"'])"""
)


def relink(markdown: str) -> str:
    "Relative links of a notebook in nbs/, as seen from the top of the repository."

    def replace(link):
        target = (INDEX.parent / link["path"]).resolve()
        if not (target.exists() and target.is_relative_to(ROOT)):
            sys.exit(
                f"readme: {INDEX.relative_to(ROOT)} links to {link['path']}, which does not exist"
            )
        return link["before"] + target.relative_to(ROOT).as_posix() + link["after"]

    parts = re.split(
        r"(^```.*?^```)", markdown, flags=re.MULTILINE | re.DOTALL
    )  # text and fenced code in turn
    return "".join(part if part.startswith("```") else LINK.sub(replace, part) for part in parts)


def output_markdown(output) -> str:
    "A stored output as text; pictures belong into files that a markdown cell shows."
    if output.output_type == "stream":
        return f"```text\n{''.join(output.text).rstrip()}\n```"
    data = {
        kind: "".join(value)
        for kind, value in output.get("data", {}).items()
        if kind.startswith("text/")
    }
    if "text/markdown" in data:
        return data["text/markdown"]
    if "text/plain" in data:
        return f"```text\n{data['text/plain']}\n```"
    sys.exit(
        f"readme: {INDEX.relative_to(ROOT)} has an output a README cannot show ({', '.join(output.get('data', {}))}); link a picture file"
    )


def cell_markdown(cell) -> list[str]:
    "The parts of a README that a cell becomes."
    directives = cell.directives
    if "hide" in directives or cell.cell_type == "raw":
        return []
    if cell.cell_type == "markdown":
        return [relink(cell.source.strip())]
    source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.MULTILINE).strip()
    shown = (
        []
        if str(directives.get("echo", "")).strip() == "false" or not source
        else [f"```python\n{source}\n```"]
    )
    return shown + [output_markdown(output) for output in cell.outputs if output.get("data", True)]


def main() -> None:
    parts = [NOTICE] + [part for cell in read_nb(INDEX).cells for part in cell_markdown(cell)]
    (ROOT / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
