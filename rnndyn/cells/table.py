"""The table of cells, written by the cells themselves."""

from collections.abc import Mapping

from rnndyn.cells.base import Cell

_COLUMNS = (
    ("mechanism", "mechanism"),
    ("state", "state_shape"),
    ("exact", "exact"),
    ("checked against", "checked"),
    ("source", "paper"),
)


def render(cells: Mapping[str, type[Cell]]) -> str:
    """A Markdown table, one row a cell, from the class attributes that `Cell` documents."""
    titles = ["name", "class", *(title for title, _ in _COLUMNS)]
    rows = [titles, ["---"] * len(titles)]
    for name, cls in cells.items():
        described = [getattr(cls, attribute) for _, attribute in _COLUMNS]
        rows.append([f"`{name}`", f"`{cls.__name__}`", *described])
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)
