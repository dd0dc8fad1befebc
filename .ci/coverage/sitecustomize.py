"""Counts which lines of the package a process runs. Python reads this at its start where this folder is on PYTHONPATH.

A notebook runs its exported cells itself, not the module that they were exported to. They are compiled with the module's name and line numbers, so that
both count as the same lines.
"""

import ast
import contextlib
import importlib.abc
import importlib.util
import os
import sqlite3
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "msvae_nbdev"


def bare(source: str) -> tuple:  # (code, lines before it)
    "A cell without its directives and empty lines at both ends."
    lines = source.rstrip().split("\n")
    first = next(
        (n for n, line in enumerate(lines) if line.strip() and not line.startswith("#|")), 0
    )
    return "\n".join(lines[first:]), first


def exported_cells() -> dict:  # code: (file, lines before it)
    "The cells that the modules are made of."
    cells = {}
    for path in PACKAGE.rglob("*.py"):
        lines = path.read_text(encoding="utf-8").split("\n")
        marks = [n for n, line in enumerate(lines) if line.startswith("# %% ")]
        for start, end in zip(marks, [*marks[1:], len(lines)]):
            code, before = bare("\n".join(lines[start + 1 : end]))
            cells[code] = str(path), start + 1 + before
    return cells


def count_cells(compiler: type) -> None:
    "Let IPython's compiler name the module of an exported cell."
    cells, parse, name = exported_cells(), compiler.ast_parse, compiler.cache

    def ast_parse(self, source, *rest, **options):
        code, before = bare(source)
        tree = parse(self, source, *rest, **options)
        return ast.increment_lineno(tree, cells[code][1] - before) if code in cells else tree

    def cache(self, source, *rest, **options):
        known = cells.get(bare(source)[0])
        return known[0] if known else name(self, source, *rest, **options)

    compiler.ast_parse, compiler.cache = ast_parse, cache


class AfterImport(importlib.abc.MetaPathFinder):
    "Changes IPython's compiler as soon as it is there."

    def find_spec(self, name, path=None, target=None):
        if name != "IPython.core.compilerop":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            count_cells(module.CachingCompiler)

        spec.loader.exec_module = exec_module
        return spec


def save_where_possible(counter: type) -> None:
    "Let a counter be silent that cannot write, since a test has filled the disk."
    save = counter.save

    def save_or_not(self):
        with contextlib.suppress(coverage.CoverageException, sqlite3.Error, OSError):
            save(self)

    counter.save = save_or_not


if "COVERAGE_PROCESS_START" in os.environ:
    try:
        import coverage
    except ImportError:  # before it is installed
        pass
    else:
        save_where_possible(coverage.Coverage)
        coverage.process_startup()
        sys.meta_path.insert(0, AfterImport())
