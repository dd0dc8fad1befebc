"""Cases: an input, what becomes of it, and the code that makes the one and returns the other.

A test file has its cases in one `Cases`. The tables of the how-to page "Your own scans" are made of them: `python tests/test_reading.py`
writes the table of that file anew, and its test fails where the table is stale.
"""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "data" / "cases"


@dataclass(frozen=True)
class Case:
    "An input and what becomes of it."

    kind: str  # heading on the page
    given: str  # the input
    happens: str  # what is read, refused or said
    run: Callable  # of an empty folder; returns what happens


class Cases(list):
    "The cases of a test file, and their table in data/cases."

    def __init__(self, name: str):
        self.file = FOLDER / f"{name}.tsv"

    def __call__(self, kind: str, given: str, happens: str) -> Callable:
        "Make a case of a function."

        def add(run):
            self.append(Case(kind, given, happens, run))
            return run

        return add

    def names(self) -> list:
        "What pytest calls them."
        return [f"{case.kind}: {case.given}" for case in self]

    def table(self) -> str:
        "kind, input, what happens; tab-separated."
        text = io.StringIO()
        rows = csv.writer(text, delimiter="\t", lineterminator="\n")
        rows.writerow(["kind", "input", "what happens"])
        rows.writerows([case.kind, case.given, case.happens] for case in self)
        return text.getvalue()

    def is_up_to_date(self) -> bool:
        "Whether the table in data/cases is that of these cases."
        return self.file.exists() and self.file.read_text(encoding="utf-8") == self.table()

    def write(self) -> None:
        "Write the table in data/cases."
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(self.table(), encoding="utf-8")


def write_file(path: Path, content: str | bytes | None = None) -> None:
    "A file with its folder."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content or b"")
