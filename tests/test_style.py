"""The habits of the house: how long a cell is, how wide a line, what an exported cell holds."""

import ast
import importlib
import json
import re
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
NOTEBOOKS = [
    path
    for path in sorted((ROOT / "nbs").rglob("*.ipynb"))
    if ".ipynb_checkpoints" not in path.parts
]
EXPORTED = re.compile(r"^#\| *export\b", re.MULTILINE)


def cells(path: Path, kind: str = "code") -> list[str]:
    "The sources of a notebook's cells."
    return [
        "".join(cell["source"])
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == kind
    ]


def exported_cells() -> list[tuple[Path, str]]:
    "Every exported cell without its directives; imports have cells of their own and are left out."
    found = [
        (path, re.sub(r"^#\|.*\n", "", source, flags=re.MULTILINE).strip())
        for path in NOTEBOOKS
        for source in cells(path)
        if EXPORTED.search(source)
    ]
    return [
        (path, source)
        for path, source in found
        if not all(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(source).body)
    ]


def test_exported_cells_are_short():
    lengths = np.array([len(source.splitlines()) for _, source in exported_cells()])
    assert np.median(lengths) <= 12
    assert np.quantile(lengths, 0.9) <= 28
    assert [
        f"{path.name}: {source.splitlines()[0]}"
        for path, source in exported_cells()
        if len(source.splitlines()) > 60
    ] == []


def test_an_exported_cell_holds_one_public_definition():
    definitions = (ast.FunctionDef, ast.ClassDef)
    crowded = []
    for path, source in exported_cells():
        public = [
            node.name
            for node in ast.parse(source).body
            if isinstance(node, definitions) and not node.name.startswith("_")
        ]
        if len(public) > 1:
            crowded.append(f"{path.name}: {', '.join(public)}")
    assert crowded == []


def test_lines_are_narrow():
    lines = [line for path in NOTEBOOKS for source in cells(path) for line in source.splitlines()]
    assert sum(len(line) > 100 for line in lines) < 0.01 * len(lines)


def test_chapters_fit_into_a_head():
    lengths = {
        path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / "msvae_nbdev").rglob("*.py")
        if path.name != "_modidx.py"
    }
    assert {path: lines for path, lines in lengths.items() if lines > 400} == {}


def test_chapters_are_numbered_within_their_part():
    for part in {path.parent for path in NOTEBOOKS}:
        numbers = [path.name[:3] for path in sorted(part.glob("[0-9]*.ipynb"))]
        first = 1 if part.name == "studies" else 0
        assert numbers == [f"{first + number:02}_" for number in range(len(numbers))], part.name


def test_first_steps_are_few():
    shown = [
        source
        for source in cells(ROOT / "nbs" / "tutorials" / "00_first_steps.ipynb")
        if not source.startswith("#| hide")
    ]
    assert sum(bool(line.strip()) for source in shown for line in source.splitlines()) <= 15


def test_names_that_are_imported_late_exist():
    "Imports inside functions, and those of tests and studies, of names that have moved."
    files = [*(ROOT / "tests").glob("*.py"), *(ROOT / "studies").rglob("*.py")]
    files += [path for path in (ROOT / "msvae_nbdev").rglob("*.py") if path.name != "_modidx.py"]
    missing = []
    for path in files:
        package = [*path.relative_to(ROOT).with_suffix("").parts][:-1]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom):
                continue
            above = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            if module.startswith("msvae_nbdev") and module.count(".") > 0:
                known = vars(importlib.import_module(module))
                missing += [
                    f"{path.name}: {module}.{name.name}"
                    for name in node.names
                    if name.name not in (*known, "*")
                    and not (ROOT / module.replace(".", "/") / f"{name.name}.py").exists()
                ]
    assert missing == []
