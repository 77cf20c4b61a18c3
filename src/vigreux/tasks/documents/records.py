"""Turns a row of a data file into a record: its text, its label if labels are read, its file and line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vigreux.errors import DataError, unknown

Label = str | int

# The maximum number of characters of a document: a tokenizer needs about 15 s and 2 GB for these.
LONGEST = 10_000_000
_NAMED = 8  # the maximum number of columns in a message

# Columns with more than one text per row. They are not supported yet; a message says what to do.
_CONVERSATIONS = ("messages", "conversations", "conversation", "dialog", "dialogue", "chat")
_PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("question", "context"),
    ("question", "sentence"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("query", "passage"),
    ("query", "document"),
    ("anchor", "positive"),
    ("chosen", "rejected"),
)


class Record(NamedTuple):
    """One document.

    Args:
        text: the text, which is not empty.
        label: class name or number; `None` for a document without a label.
        where: file and line (or row), for messages.
        words: the words of the text, for data that comes in words.
        word_labels: the class name or number of each word.
    """

    text: str
    label: Label | None
    where: str
    words: tuple[str, ...] = ()
    word_labels: tuple[Label, ...] = ()


@dataclass
class Columns:
    """The columns that are read, and the names of the others.

    Args:
        text: the column that holds the text.
        label: the column that holds the label; `None` reads no labels.
        make_record: makes a record of a row (see `text_record`).
        class_names: the names of the classes, if the data set has class numbers with names.
        unused: the other columns, in the order of their first appearance.
    """

    text: str
    label: str | None
    make_record: MakeRecord
    class_names: Sequence[str] | None = None
    unused: dict[str, None] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The columns that are read."""
        return [self.text] if self.label is None else [self.text, self.label]

    def notes(self) -> list[str]:
        """Notes on the columns that are not read."""
        if not self.unused:
            return []
        pair = next((pair for pair in _PAIRS if self.text in pair and self._other(pair) in self.unused), None)
        if pair is not None:
            return [
                f"{_listed(self.unused)} not used: pairs of texts are not read, and the models see"
                f" {self.text!r} alone"
            ]
        return [f"{_listed(self.unused)} not used"]

    def _other(self, pair: tuple[str, str]) -> str:
        return pair[1] if pair[0] == self.text else pair[0]


def _listed(names: Iterable[str]) -> str:
    """`the column 'a' is`, `the columns 'a', 'b' and 3 more are`."""
    names = list(names)
    listed = ", ".join(repr(name) for name in names[:_NAMED])
    if len(names) > _NAMED:
        listed += f" and {len(names) - _NAMED} more"
    return f"the columns {listed} are" if len(names) > 1 else f"the column {listed} is"


# --- columns ------------------------------------------------------------------------------------------------


def check_columns(names: Iterable[str], columns: Columns, where: str) -> None:
    """Checks that the columns to read exist, and stores the names of the others.

    Raises:
        DataError: a column is missing or occurs twice.
    """
    names = list(names)
    text_missing = columns.text not in names
    label_missing = columns.label is not None and columns.label not in names
    if text_missing and (form := _several_texts(names, columns.text)):
        raise DataError(f"{where}: {form}")
    if text_missing and label_missing:
        accepted = ", ".join(map(str, names[:_NAMED])) or "none"
        raise DataError(
            f"{where}: task.text_field: no column {columns.text!r}; task.label_field: no column"
            f" {columns.label!r}; columns: {accepted}"
        )
    if text_missing:
        other_columns = [name for name in names if name != columns.label]
        raise DataError(f"{where}: {unknown('task.text_field', columns.text, other_columns)}")
    if label_missing:
        other_columns = [name for name in names if name != columns.text]
        if not other_columns:
            raise DataError(
                f"{where}: no column {columns.label!r}; this kind of task needs labels, in a column that"
                " task.label_field names"
            )
        raise DataError(f"{where}: {unknown('task.label_field', columns.label, other_columns)}")
    for name in columns.names:
        if names.count(name) > 1:
            raise DataError(f"{where}: the column {name!r} occurs {names.count(name)} times; accepted: once")
    if len(columns.unused) < 1000:  # each row of a .jsonl file can have other keys
        columns.unused.update((str(name), None) for name in names if name not in columns.names)


def _several_texts(names: list[str], text_field: str) -> str | None:
    """The message for rows that hold conversations or pairs of texts; `None` for other rows."""
    requested = [name for name in re.split(r"[\s,\[\]'\"+]+", text_field) if name]
    if len(requested) > 1 and all(name in names for name in requested):
        return f"task.text_field: {text_field!r}; accepted: one column, which holds the whole text"
    if chats := [name for name in names if name in _CONVERSATIONS]:
        return conversations(chats[0])
    pair = next((pair for pair in _PAIRS if pair[0] in names and pair[1] in names), None)
    if pair is not None:
        return (
            f"no column {text_field!r}; pairs of texts such as {pair[0]!r} and {pair[1]!r} are not read;"
            " accepted: one column with the whole text, named by task.text_field"
        )
    return None


def conversations(name: str) -> str:
    """The message for a column of conversations."""
    return (
        f"{name!r} holds conversations, which are not read; accepted: one column with each conversation as"
        " one text (the tokenizer's apply_chat_template makes it)"
    )


# --- rows ---------------------------------------------------------------------------------------------------


def record(row: Mapping[str, Any], columns: Columns, where: str) -> Iterator[Record]:
    """The document of the row, or nothing if its text is white space.

    Raises:
        DataError: a column, the text or the label is missing, has another type or cannot be used.
    """
    check_columns(row, columns, where)
    yield from columns.make_record(row, columns, where)


def text_record(row: Mapping[str, Any], columns: Columns, where: str) -> Iterator[Record]:
    """A document of one text and, if labels are read, one label."""
    text = row[columns.text]
    if not isinstance(text, str):
        if isinstance(text, list) and text and isinstance(text[0], Mapping):
            raise DataError(f"{where}: {conversations(columns.text)}")
        raise DataError(f"{where}: {columns.text!r} is {type(text).__name__}; accepted: text")
    if text.strip():
        label = None if columns.label is None else read_label(row[columns.label], columns, where)
        yield Record(checked(text, where), label, where)


def checked(text: str, where: str) -> str:
    """`text`, if a tokenizer can take it.

    Raises:
        DataError: the text contains half of a surrogate pair, which is not a character, or it is too long.
    """
    if len(text) > LONGEST:
        raise DataError(
            f"{where}: a document of {len(text):,} characters; accepted: at most {LONGEST:,} (cut it into"
            " several)"
        )
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = f"U+{ord(text[error.start]):04X} at character {error.start}"
            raise DataError(
                f"{where}: {half} is half of a surrogate pair; accepted: whole characters"
            ) from None
    return text


def read_label(value: Any, columns: Columns, where: str) -> Label:
    """A class name or number.

    If the classes of the data set have names, a number becomes its name. A whole float counts as an integer,
    because a table with gaps stores integers as floats.
    """
    name = columns.label
    if columns.class_names is not None:
        # Data sets publish hidden labels as −1.
        if value is None or not 0 <= value < len(columns.class_names):
            raise DataError(f"{where}: label {value!r}; accepted: 0 to {len(columns.class_names) - 1}")
        value = columns.class_names[value]
    if isinstance(value, str):
        value = value.strip()
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        raise DataError(f"{where}: the label {name!r} is missing")
    if isinstance(value, str):
        return checked(value, where)
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    raise DataError(f"{where}: label {name!r} is {str(value)[:60]}; accepted: text or a whole number")


MakeRecord = Callable[[Mapping[str, Any], Columns, str], Iterator[Record]]
