"""The page of commands says what the commands' help texts say."""

from pathlib import Path

from fastcore.nbio import read_nb

PAGE = Path(__file__).parents[1] / "nbs" / "reference" / "commands.ipynb"


def test_the_page_of_commands_is_fresh():
    cells = [cell for cell in read_nb(PAGE).cells if cell.cell_type == "code"]
    names = {}
    for cell in cells:
        exec(cell.source, names)
    (shown,) = cells[-1].outputs
    fresh = "".join(shown["data"]["text/markdown"]) == names["text"]
    assert fresh, f"run {PAGE.name} again, with its outputs stored (CONTRIBUTING, point 4)"
