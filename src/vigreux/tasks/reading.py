"""Documents from files, directories, assets and `datasets` names, as plain records; every fault names its file and line."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from vigreux.assets import asset_path, is_asset
from vigreux.errors import DataError, unknown

Label = str | int
_ASSETS = ("asset:wikipedia", "asset:wikipedia-topics", "asset:state-of-the-union", "asset:hamlet")
_ACCEPTED = f".txt, .jsonl, .csv, .parquet, a directory of these, {', '.join(_ASSETS)}, or a `datasets` name"


class Record(NamedTuple):
    """One document.

    Args:
        text: not empty.
        label: class name or number; `None` where none was asked for.
        where: file and line (or row), for messages.
    """

    text: str
    label: Label | None
    where: str


class _Columns(NamedTuple):
    """The columns that are read; `label` is `None` where no labels are wanted."""

    text: str
    label: str | None


def read_records(source: str, *, text_field: str = "text", label_field: str | None = None) -> list[Record]:
    """All documents of `source`; those of white space alone are left out.

    Args:
        source: a `.txt` file (paragraphs between blank lines are its documents), a `.jsonl`, `.csv` or `.parquet` file, a
            directory of such files (read in the order of their paths), `asset:NAME` of a text, or
            `NAME[:CONFIG[:SPLIT]]` for `datasets.load_dataset` (split `train` unless given).
        text_field: the column that holds the text.
        label_field: the column that holds the label; `None` reads no labels.

    Raises:
        DataError: nothing there, no documents, not UTF-8, a line that cannot be read, a missing column, text or label.
    """
    if not source:
        raise DataError(f"task.data: nothing given; accepted: {_ACCEPTED}")
    records = list(_read(source, _Columns(text_field, label_field)))
    if not records:
        raise DataError(f"{source}: no documents (the file is empty or holds only white space)")
    return records


def _read(source: str, columns: _Columns) -> Iterable[Record]:
    path = Path(source).expanduser()
    if is_asset(source):
        return _read_asset(source, columns)
    if path.is_dir():
        return _read_directory(path, columns)
    if path.exists() or path.suffix in _READERS or source.startswith((".", "/", "~")):
        return _read_file(path, columns)
    return _read_dataset(source, columns)


# --- files ----------------------------------------------------------------------------------------------------------


def _read_directory(folder: Path, columns: _Columns) -> Iterator[Record]:
    files = sorted(p for p in folder.rglob("*") if p.suffix in _READERS and not p.name.startswith("."))
    if not files:
        raise DataError(f"{folder}: holds no file that can be read; accepted: {', '.join(_READERS)}")
    for file in files:
        yield from _read_file(file, columns)


def _read_file(path: Path, columns: _Columns) -> Iterator[Record]:
    if not path.exists():
        near = get_close_matches(path.name, [p.name for p in path.parent.glob("*")], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DataError(f"{path}: no such file{hint}")
    if path.suffix not in _READERS:
        raise DataError(unknown(f"{path}: suffix", path.suffix, _READERS))
    return _READERS[path.suffix](path, columns)


def _decoded(path: Path) -> str:
    """The file as text; a byte-order mark is dropped, line ends become newlines."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if (offset := data.find(b"\0")) >= 0:
        raise DataError(f"{path}: a zero byte at offset {offset}: this is not text; accepted: UTF-8")
    try:
        return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig").read()
    except UnicodeDecodeError:
        offset = _first_bad_byte(data)
        raise DataError(
            f"{path}: byte 0x{data[offset]:02x} at offset {offset} is not UTF-8; accepted: UTF-8"
        ) from None


def _first_bad_byte(data: bytes) -> int:
    """Offset in the whole file: an incremental decoder counts from its own chunk."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    raise AssertionError("the data is UTF-8")


def _read_paragraphs(path: Path, columns: _Columns) -> Iterator[Record]:
    if columns.label is not None:
        raise DataError(
            f"{path}: a .txt file has no labels; accepted for classification: .jsonl, .csv, .parquet"
        )
    text = _decoded(path)
    line, start = 1, 0
    for blank in [
        *re.finditer(r"\n(?:[^\S\n]*\n)+", text),
        None,
    ]:  # a line end, then lines of white space alone
        paragraph = text[start : blank.start() if blank else len(text)]
        if paragraph.strip():
            first = line + paragraph[: len(paragraph) - len(paragraph.lstrip())].count("\n")
            yield Record(paragraph.strip(), None, f"{path}:{first}")
        if blank:
            line, start = line + text.count("\n", start, blank.end()), blank.end()


def _read_json_lines(path: Path, columns: _Columns) -> Iterator[Record]:
    for number, line in enumerate(_decoded(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: not JSON ({error.msg} at column {error.colno})") from None
        if not isinstance(row, dict):
            raise DataError(
                f"{path}:{number}: found {type(row).__name__}; accepted: a JSON object on each line"
            )
        yield from _record(row, columns, f"{path}:{number}")


def _read_csv(path: Path, columns: _Columns) -> Iterator[Record]:
    reader = csv.DictReader(io.StringIO(_decoded(path), newline=""))
    _check_columns(reader.fieldnames or (), columns, str(path))
    try:
        for row in reader:
            label = row[columns.label] if columns.label else None
            numbered = row | {columns.label: int(label)} if label and re.fullmatch(r"-?\d+", label) else row
            yield from _record(numbered, columns, f"{path}:{reader.line_num}")
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not CSV ({error})") from None


def _read_parquet(path: Path, columns: _Columns) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a parquet file ({str(error).splitlines()[0]})") from None
    _check_columns(file.schema_arrow.names, columns, str(path))
    rows = (row for part in file.iter_batches(columns=[c for c in columns if c]) for row in part.to_pylist())
    for number, row in enumerate(rows, start=1):
        yield from _record(row, columns, f"{path} row {number}")


_READERS = {
    ".txt": _read_paragraphs,
    ".jsonl": _read_json_lines,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


# --- assets and `datasets` ------------------------------------------------------------------------------------------


def _read_asset(source: str, columns: _Columns) -> Iterable[Record]:
    if source not in _ASSETS:
        raise DataError(unknown("task.data", source, _ASSETS))
    if columns.label is not None and source != "asset:wikipedia-topics":
        raise DataError(f"{source} has no labels; accepted for classification: asset:wikipedia-topics")
    if source.startswith("asset:wikipedia"):
        return _read_wikipedia(source)
    path = asset_path(source)
    return _read_directory(path, columns) if path.is_dir() else _read_file(path, columns)


def _read_wikipedia(source: str) -> Iterator[Record]:
    """Introductions of articles; the topics leave "Uncategorized" out."""
    with_topics = source == "asset:wikipedia-topics"
    articles = json.loads(asset_path(source).read_text("utf-8"))
    for title, article in articles.items():
        if not (with_topics and article["topic"] == "Uncategorized"):
            yield Record(
                article["extract"], article["topic"] if with_topics else None, f"{source} article {title!r}"
            )


def _read_dataset(source: str, columns: _Columns) -> Iterator[Record]:
    import datasets

    name, config, split = [*source.split(":"), "", ""][:3]
    try:
        data = datasets.load_dataset(name, config or None, split=split or "train")
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"task.data: `datasets` cannot load {source!r} ({reason}); accepted: {_ACCEPTED}"
        ) from None
    _check_columns(data.column_names, columns, source)
    names = getattr(data.features[columns.label], "names", None) if columns.label else None
    for number, row in enumerate(data.select_columns([c for c in columns if c]), start=1):
        where = f"{source} row {number}"
        yield from _record(row if names is None else _named(row, columns, names, where), columns, where)


def _named(row: Mapping[str, Any], columns: _Columns, names: list[str], where: str) -> dict[str, Any]:
    """The row with its class number turned into the class's name; −1 is how hidden labels are published."""
    number = row[columns.label or ""]
    if number is None or not 0 <= number < len(names):
        raise DataError(f"{where}: label {number!r}; accepted: 0 to {len(names) - 1}")
    return {**row, columns.label or "": names[number]}


# --- one row --------------------------------------------------------------------------------------------------------


def _check_columns(found: Iterable[str], columns: _Columns, where: str) -> None:
    names = list(found)
    if columns.text not in names:
        raise DataError(f"{where}: {unknown('task.text_field', columns.text, names)}")
    if columns.label is not None and columns.label not in names:
        raise DataError(f"{where}: {unknown('task.label_field', columns.label, names)}")


def _record(row: Mapping[str, Any], columns: _Columns, where: str) -> Iterator[Record]:
    """The row's document, or nothing where its text is white space."""
    _check_columns(row, columns, where)
    text = row[columns.text]
    if not isinstance(text, str):
        raise DataError(f"{where}: {columns.text!r} is {type(text).__name__}; accepted: text")
    if text.strip():
        yield Record(text, _label(row[columns.label], columns.label, where) if columns.label else None, where)


def _label(value: object, field: str, where: str) -> Label:
    """A class name or number; a float that is whole is a number (a table with gaps makes floats of its integers)."""
    if isinstance(value, str):
        value = value.strip()
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        raise DataError(f"{where}: the label {field!r} is missing")
    if isinstance(value, str):
        return value
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    raise DataError(f"{where}: label {field!r} is {value!r}; accepted: text or a whole number")
