"""Renders tables: Markdown for pages, and rich tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table

RULES = {"l": "---", "r": "--:"}


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> str:
    """A Markdown table that ends with a newline.

    Args:
        header: The names of the columns.
        rows: One text for each column.
        align: One letter for each column, l (left) or r (right). Default: the first left, the others right.
    """
    align = align or "l" + "r" * (len(header) - 1)
    lines = [_line(header), "|" + "|".join(RULES[letter] for letter in align) + "|"]
    lines += [_line(row) for row in rows]
    return "\n".join(lines) + "\n"


def _line(texts: Sequence[str]) -> str:
    escaped = (text.replace("|", "\\|") for text in texts)
    return "|" + "|".join(f" {text} " if text else " " for text in escaped) + "|"


def terminal_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]] = (),
    *,
    justify: Literal["left", "right"] = "left",
    title: str | None = None,
) -> Table:
    """A table for the terminal. Texts are not read as markup.

    Args:
        header: The names of the columns.
        rows: One text for each column.
        justify: The side to which all columns but the first are justified.
        title: A line above the table.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(escape(name), justify="left" if index == 0 else justify)
    for row in rows:
        table.add_row(*map(escape, row))
    return table
