"""Build the docs site from the notebooks, without Quarto and without a network: `python docs/build.py` writes `_docs/`.

Needs the extra `docs` (`pip install -e '.[docs]'`). nbdev documents the exported symbols, this script turns nbdev's notebooks into what
MyST-NB reads, and Sphinx renders them. Stored outputs are shown, notebooks are not executed. The pages and their order stand in
`_quarto.yml`, so that Quarto (`nbdev-docs`) and this script build the same site.
"""

import ast
import re
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import plotly
import yaml
from fastcore.nbio import mk_cell, read_nb, write_nb
from nbdev.config import nbpath2html
from nbdev.serve import proc_nbs
from sphinx.cmd.build import main as sphinx_build

from msvae_nbdev.latent.plots import CLICK_SCRIPT  # a click on a point shows its brain

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "nbs"
PROCESSED = ROOT / "_proc"  # what nbdev makes of the notebooks
PAGES = PROCESSED / ".sphinx"  # what Sphinx reads; nbdev leaves hidden folders alone
BUILT = PROCESSED / ".html"  # becomes SITE when it is whole
SITE = ROOT / "_docs"
EXTRA_PAGES = ["CHANGELOG.md", "CONTRIBUTING.md"]
CONTENTS = "contents"  # the page that lists all others

PLOTLY_MIME = "application/vnd.plotly.v1+json"
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"
FIT_FIGURES = 'addEventListener("load", () => dispatchEvent(new Event("resize")))'  # drawn before the page has its final width
SOURCE_LINK = re.compile(
    r"\[source\]\([^)]*?/blob/[^/)]+/(?P<path>[^)#]+)#L(?P<line>\d+)\)\{[^}]*\}\s*"
)
LINK = re.compile(
    r"(?<!!)\[(?P<text>(?:`[^`]*`|[^\[\]`])+)\]\((?P<path>[^)\s#:]+)(?:#(?P<anchor>[^)\s]+))?\)"
)


# --- which pages, in which order ---


class Entry(NamedTuple):
    "A notebook in the sidebar."

    path: str  # below nbs/
    title: str  # on the site; "": the notebook's own


def read_sections() -> list[
    tuple[str, list[Entry]]
]:  # (caption, notebooks), in the order of the sidebar
    "The sidebar of `_quarto.yml`."

    def entry(item):
        return Entry(item["href"], item["text"]) if isinstance(item, dict) else Entry(item, "")

    contents = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))["website"][
        "sidebar"
    ]["contents"]
    return [
        (part["section"], [entry(item) for item in part["contents"]])
        if isinstance(part, dict)
        else ("", [entry(part)])
        for part in contents
    ]


def check_sections(sections: list[tuple[str, list[Entry]]]) -> None:
    "Every notebook has its place in the sidebar, every place its notebook, no two the same title."
    entries = [entry for _, entries in sections for entry in entries]
    listed = {entry.path for entry in entries}
    titles = [entry.title for entry in entries if entry.title]
    present = {
        path.relative_to(NOTEBOOKS).as_posix()
        for path in NOTEBOOKS.rglob("*.ipynb")
        if not any(part[0] in "._" for part in path.relative_to(NOTEBOOKS).parts)
    }
    problems = [f"{path} is not in the sidebar of _quarto.yml" for path in sorted(present - listed)]
    problems += [
        f"{path} is in the sidebar of _quarto.yml but not in nbs/"
        for path in sorted(listed - present)
    ]
    twice = sorted({title for title in titles if titles.count(title) > 1})
    problems += [f"{title} is twice in the sidebar of _quarto.yml" for title in twice]
    if problems:
        sys.exit("docs: " + "\ndocs: ".join(problems))


def page_name(path: str) -> str:  # "tutorials/first"
    "The page of a notebook, as nbdev names it: `tutorials/01_first.ipynb` without number and suffix."
    return nbpath2html(path).with_suffix("").as_posix()


# --- from nbdev's notebook to MyST-NB's ---


def source_of(path: str, line: int) -> str:
    "The definition that begins at `line` of a module, with its decorators."
    text = (ROOT / path).read_text(encoding="utf-8")
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    node = next(
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, definitions) and node.lineno == line
    )
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return "\n".join(text.splitlines()[first - 1 : node.end_lineno])


def shown_markdown(cell, page: str) -> str:
    "What nbdev stored below a `show_doc` cell."
    for output in cell.outputs:
        if "text/markdown" in output.get("data", {}):
            return "".join(output["data"]["text/markdown"])
    symbol = cell.source.strip().splitlines()[-1]
    sys.exit(
        f"docs: {page}: {symbol} shows nothing; a numpy array as default value of a parameter does that, None in its place helps"
    )


def symbol_markdown(markdown: str) -> str:
    "What `show_doc` says of a symbol, with its source to unfold in place of a link to a code host."
    link = SOURCE_LINK.search(markdown)
    markdown = SOURCE_LINK.sub("", markdown).removeprefix("---").lstrip().replace("__main__.", "")
    if link is None:
        return markdown
    source = source_of(link["path"], int(link["line"]))
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", source)), default=0))
    return f'{markdown}\n\n<details class="source"><summary>source</summary>\n\n{fence}python\n{source}\n{fence}\n\n</details>\n'


def figure_html(figure: dict, name: str, first: bool, depth: int) -> str:
    "A plotly figure that draws itself with the one plotly.js of the site, which its page loads before the first figure."
    script = (
        f'<script src="{"../" * depth}_static/plotly.min.js"></script><script>{FIT_FIGURES}</script>'
        if first
        else ""
    )
    figure = {key: figure[key] for key in ("data", "layout", "frames") if key in figure}
    follow = (
        CLICK_SCRIPT + "followClicks(document.getElementById('{plot_id}'));"
        if figure["data"] and "clickable" in (figure["data"][-1].get("meta") or {})
        else None
    )
    return script + plotly.io.to_html(
        figure,
        config={"responsive": True, "displaylogo": False},
        include_plotlyjs=False,
        full_html=False,
        default_height="450px",
        div_id=name,
        validate=False,
        post_script=follow,
    )


def front_matter(cell, title: str) -> str:
    "The title cell that nbdev turned into front matter, as markdown again, under the sidebar's title."
    fields = yaml.safe_load(cell.source.strip().strip("-"))
    description = fields.get("description")
    return f"# {title or fields['title']}" + (
        f"\n\n*{' '.join(description.split())}*" if description else ""
    )


def only_markdown(cell) -> str:
    "What a cell that is not shown wrote as markdown, such as a page of reference: with its headings."
    shown = [output.get("data", {}).get("text/markdown", "") for output in cell.outputs]
    hidden = str(cell.directives.get("echo", "")).strip().lower() == "false"
    return "".join(shown[0]) if hidden and len(shown) == 1 else ""


def tags_of(directives: dict) -> list[str]:
    "Quarto's cell options in MyST-NB's words."
    tags = {
        ("echo", "false"): "remove-input",
        ("output", "false"): "remove-output",
        ("include", "false"): "remove-cell",
        ("code-fold", "true"): "hide-input",
    }
    return [
        tag
        for (name, value), tag in tags.items()
        if name in directives and (str(directives[name]).strip().lower() or "true") == value
    ]  # fastcore reads `name: true` as a bare `name`


def convert_notebook(notebook, page: str, title: str):
    "Bridge what MyST-NB does not know: front matter, `show_doc`, Quarto's cell options, plotly figures, widgets."
    figures, cells = 0, []
    for cell in notebook.cells:
        if cell.cell_type == "raw" and cell.source.startswith("---\n"):
            cell = mk_cell(front_matter(cell, title), "markdown")
        elif (
            cell.cell_type == "code"
            and re.search(r"^show_doc\(", cell.source, re.MULTILINE)
            and cell.outputs
        ):
            cell = mk_cell(symbol_markdown(shown_markdown(cell, page)), "markdown")
        elif cell.cell_type == "code" and (text := only_markdown(cell)):
            cell = mk_cell(text, "markdown")
        elif cell.cell_type == "code":
            cell.metadata = {"tags": tags_of(cell.directives)}
            cell.source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.MULTILINE).strip()
            cell.outputs = [output for output in cell.outputs if output.get("data", True)]
            for output in cell.outputs:
                data = output.get("data", {})
                if PLOTLY_MIME in data:
                    figures += 1
                    html = figure_html(
                        data[PLOTLY_MIME],
                        f"figure-{page.replace('/', '-')}-{figures}",
                        figures == 1,
                        page.count("/"),
                    )
                    output["data"] = {"text/html": html}
                elif data.pop(WIDGET_MIME, None) and set(data) <= {"text/plain"}:
                    output["data"] = {
                        "text/markdown": "*A widget stands here when the notebook runs in Jupyter.*"
                    }
        cells.append(cell)
    notebook.cells = [
        cell
        for cell in cells
        if not (cell.cell_type == "markdown" and cell.source.startswith("<!-- WARNING"))
    ]
    notebook.metadata = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    return notebook


def relink(
    markdown: str, folder: Path, anchors: dict[str, dict]
) -> str:  # `folder`: where relative links begin
    "Links of nbdev to symbols (`/core.html#track`), to notebooks and to files of the repository, as links to pages of this site."

    def replace(link):
        file = (folder / link["path"]).resolve()
        page = link["path"].strip("/").removesuffix(".html") if link["path"].startswith("/") else ""
        if file.suffix == ".ipynb" and file.is_relative_to(NOTEBOOKS):
            page = page_name(file.relative_to(NOTEBOOKS).as_posix())
        if page == "show/commands":  # a command is called like many a parameter, such as `bias`
            return link["text"]
        if page in anchors:
            anchor = anchors[page].get(link["anchor"])
            return f"[{link['text']}](/{page}.ipynb" + (f"#{anchor})" if anchor else ")")
        if file.parent == ROOT and file.name in EXTRA_PAGES:
            return f"[{link['text']}](/{file.name.lower()})"
        in_repository = (
            file.exists() and file.is_relative_to(ROOT) and not file.is_relative_to(NOTEBOOKS)
        )
        return link["text"] if in_repository else link[0]  # the site has no copy of the other files

    return LINK.sub(replace, markdown)


def anchors_of(
    notebook,
) -> dict[str, str]:  # anchor in nbdev's spelling (`class.method`): in MyST's (`classmethod`)
    "The headings of a page that links may name."
    sources = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    titles = [
        title.strip().lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", sources, re.MULTILINE)
    ]
    return {title: re.sub(r"[^\w-]", "", title) for title in titles}


def toctrees(sections: list[tuple[str, list[Entry]]]) -> str:
    "The sidebar as Sphinx wants it: at the end of the home page."
    pages = {
        caption: [page_name(entry.path) for entry in entries if entry.path != "index.ipynb"]
        for caption, entries in sections
    }
    sections = [("", [CONTENTS]), *pages.items()]
    sections.append(("Project", [Path(name).stem.lower() for name in EXTRA_PAGES]))
    return "\n\n".join(
        "\n".join(
            ["```{toctree}", ":hidden:"]
            + [f":caption: {caption}"] * bool(caption)
            + ["", *pages, "```"]
        )
        for caption, pages in sections
        if pages
    )


def title_and_about(entry: Entry) -> tuple[str, str]:
    "How a page is called, and the line below the title of its notebook."
    text = plain_text(read_nb(NOTEBOOKS / entry.path))
    title = re.search(r"^# (.*)$", text, re.M)
    about = re.search(r"^> (.*)$", text, re.M)
    return entry.title or (title[1] if title else page_name(entry.path)), about[1] if about else ""


def module_of(notebook) -> str:
    "The module that a notebook exports, or nothing."
    sources = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    found = re.search(r"^#\| *default_exp (\S+)", sources, re.M)
    return f"`{found[1]}`" if found else ""


def contents_page(sections: list[tuple[str, list[Entry]]]) -> str:
    "A table of each section: its pages, what each is about, and the module that it exports."
    lines = ["# Contents", "", "Every page, what it is about, and the module of `msvae_nbdev`."]
    for caption, entries in sections:
        if not caption:
            continue
        modules = [module_of(read_nb(NOTEBOOKS / entry.path)) for entry in entries]
        with_modules = any(modules)
        lines += ["", f"## {caption}", ""]
        lines.append("| page | about |" + " module |" * with_modules)
        lines.append("| --- | --- |" + " --- |" * with_modules)
        for entry, module in zip(entries, modules):
            title, about = title_and_about(entry)
            row = f"| [{title}](/{page_name(entry.path)}.ipynb) | {about} |"
            lines.append(row + f" {module} |" * with_modules)
    return "\n".join([*lines, ""])


def write_pages(sections: list[tuple[str, list[Entry]]]) -> None:
    "All that Sphinx reads: contents, converted notebooks, the pictures beside them, the changelog."
    shutil.copytree(PROCESSED, PAGES, ignore=shutil.ignore_patterns(".*", "*.ipynb", "*.yml"))
    (PAGES / f"{CONTENTS}.md").write_text(contents_page(sections), encoding="utf-8")
    notebooks = {
        path: convert_notebook(read_nb(PROCESSED / path), page_name(path), title)
        for _, entries in sections
        for path, title in entries
    }
    anchors = {page_name(path): anchors_of(notebook) for path, notebook in notebooks.items()}
    notebooks["index.ipynb"].cells.append(mk_cell(toctrees(sections), "markdown"))
    for path, notebook in notebooks.items():
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = relink(cell.source, (NOTEBOOKS / path).parent, anchors)
        target = PAGES / f"{page_name(path)}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_nb(notebook, target)
    for name in EXTRA_PAGES:
        (PAGES / name.lower()).write_text(
            relink((ROOT / name).read_text(encoding="utf-8"), ROOT, anchors), encoding="utf-8"
        )


# --- for programs that read ---


def plain_text(notebook) -> str:
    "A notebook as Markdown: its text and its code, without the outputs and the hidden cells."
    kept = [
        cell
        for cell in notebook.cells
        if cell.source.strip() and not re.search(r"^#\|\s*(hide|default_exp)", cell.source, re.M)
    ]
    code = {
        cell.id: re.sub(r"^#\|.*\n", "", cell.source, flags=re.M).strip()
        for cell in kept
        if cell.cell_type == "code"
    }
    return "\n\n".join(
        f"```python\n{code[cell.id]}\n```" if cell.cell_type == "code" else cell.source
        for cell in kept
        if cell.cell_type in ("code", "markdown")
    )


def write_plain(sections: list[tuple[str, list[Entry]]], site: Path) -> None:
    "A Markdown twin of each page, and `llms.txt`, which lists them with what each is about."
    lines = []
    for caption, entries in sections:
        lines += ["", f"## {caption or 'Overview'}", ""]
        for entry in entries:
            text = plain_text(read_nb(NOTEBOOKS / entry.path))
            twin = f"{page_name(entry.path)}.md"
            (site / twin).write_text(f"{text}\n", encoding="utf-8")
            title, about = title_and_about(entry)
            lines.append(f"- [{title}]({twin})" + (f": {about}" if about else ""))
    text = "\n".join(["# msvae", *lines])
    (site / "llms.txt").write_text(f"{text}\n", encoding="utf-8")


# --- the site ---


def loads_from_network(site: Path) -> list[str]:  # "page: what it loads"
    "Scripts, styles, fonts and pictures that a page would fetch from elsewhere; links to click on are not among them."
    tag = re.compile(
        r"""<(?:script|link|img|iframe|source|video|audio)\b[^>]*?\b(?:src|href|srcset)=["']((?:https?:)?//[^"']+)""",
        re.IGNORECASE,
    )
    style = re.compile(r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s]+)""", re.IGNORECASE)
    patterns = {".html": [tag, style], ".css": [style]}
    return [
        f"{path.relative_to(site)}: {address}"
        for path in sorted(site.rglob("*"))
        for pattern in patterns.get(path.suffix, [])
        for address in pattern.findall(path.read_text(encoding="utf-8"))
    ]


def main() -> (
    int
):  # exit status: a warning of Sphinx is an error, and leaves the old site where it was
    sections = read_sections()
    check_sections(sections)
    proc_nbs(str(NOTEBOOKS), force=True)  # begins with an empty folder
    write_pages(sections)
    status = sphinx_build(
        [
            "-q",
            "--fail-on-warning",
            "-c",
            str(ROOT / "docs"),
            "-d",
            str(PROCESSED / ".doctrees"),
            str(PAGES),
            str(BUILT),
        ]
    )
    if status:
        return status
    shutil.copy(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", BUILT / "_static")
    if foreign := loads_from_network(BUILT):
        print(
            "\n".join(f"docs: loads from the network: {line}" for line in foreign), file=sys.stderr
        )
        return 1
    write_plain(sections, BUILT)
    shutil.rmtree(SITE, ignore_errors=True)
    shutil.move(BUILT, SITE)
    print(
        f"docs: {len(list(SITE.rglob('*.html')))} pages in {SITE}, begin at {SITE / 'index.html'}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
