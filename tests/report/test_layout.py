"""Tables in Markdown and on the terminal."""

from __future__ import annotations

from rich.console import Console

from vigreux.report.layout import markdown_table, terminal_table


def test_markdown() -> None:
    assert markdown_table(["", "loss"], [["a|b", "1.0"], ["c", ""]]) == (
        "| | loss |\n|---|--:|\n| a\\|b | 1.0 |\n| c | |\n"
    )
    assert markdown_table(["a", "b"], [], align="rl").splitlines()[1] == "|--:|---|"


def test_terminal_text_is_no_markup() -> None:
    console = Console(width=60, record=True)
    console.print(terminal_table(["[name]", "loss"], [["[bold]", "1.0"]], justify="right", title="students"))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert lines[0] == "students"
    assert any(line.split() == ["[name]", "loss"] for line in lines)
    assert any(line.split() == ["[bold]", "1.0"] for line in lines)
