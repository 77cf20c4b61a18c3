"""Data files as records, read by their suffix.

Each error names file and line. Only regular files are opened.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from vigreux.errors import DataError, unknown
from vigreux.tasks.documents.records import Columns, Record, check_columns, checked, record

# Suffix → advice for such a file.
_ADVICE = {
    **dict.fromkeys((".gz", ".zip", ".bz2", ".xz", ".zst", ".tar", ".tgz", ".7z"), "unpack it first"),
    **dict.fromkeys((".md", ".rst", ".text"), "save it as .txt, whose paragraphs are the documents"),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "save it as .csv"),
    **dict.fromkeys((".pdf", ".doc", ".docx", ".odt", ".epub"), "save its text as .txt"),
    **dict.fromkeys(
        (".arrow", ".feather"), "give the folder that `Dataset.save_to_disk` wrote, or save it as .parquet"
    ),
    ".ndjson": "rename it to .jsonl",
}
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_file(path: Path, columns: Columns) -> Iterator[Record]:
    """The records of one file.

    Raises:
        DataError: the file does not exist, is not regular, has another suffix or cannot be read.
    """
    if not is_regular(path):
        suggestions = get_close_matches(path.name, _names_beside(path), n=1)
        hint = f"; did you mean {suggestions[0]!r}?" if suggestions else ""
        raise DataError(f"{path}: no such file{hint}")
    suffix = path.suffix.lower()
    if suffix in _ADVICE:
        raise DataError(
            f"{path}: {suffix} files are not read; {_ADVICE[suffix]}; accepted: {', '.join(READERS)}"
        )
    if not suffix:
        raise DataError(
            f"{path}: its name has no suffix, and the suffix says how to read it; accepted:"
            f" {', '.join(READERS)}"
        )
    if suffix not in READERS:
        raise DataError(unknown(f"{path}: suffix", path.suffix, READERS))
    return READERS[suffix](path, columns)


def is_regular(path: Path) -> bool:
    """Whether `path` is a file; `False` if it does not exist.

    Raises:
        DataError: it is a pipe, socket or device, which can be endless, or it cannot be examined.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a zero character in the name
        return False
    except OSError as error:
        raise DataError(f"{_short(path)}: cannot be read ({error.strerror})") from None
    if stat.S_IFMT(mode) in _KINDS:
        raise DataError(f"{path}: is {_KINDS[stat.S_IFMT(mode)]}; accepted: a regular file")
    return stat.S_ISREG(mode)


def _short(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 200 else f"{text[:100]}…{text[-60:]}"


def _names_beside(path: Path) -> list[str]:
    try:
        return [entry.name for entry in path.parent.glob("*")]
    except OSError:
        return []


# --- text files ---------------------------------------------------------------------------------------------


def _decoded(path: Path) -> str:
    """The file as text, without a byte-order mark and with newlines as line ends."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: is UTF-16; accepted: UTF-8 (iconv -f utf-16 -t utf-8 converts it)")
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
    """The offset in the whole file. (An incremental decoder counts from the start of its chunk.)"""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    raise AssertionError("the data is UTF-8")


def _read_paragraphs(path: Path, columns: Columns) -> Iterator[Record]:
    if columns.label is not None:
        raise DataError(
            f"{path}: a .txt file has no labels; accepted for data with labels: .jsonl, .csv, .parquet"
        )
    text = _decoded(path)
    line = 1
    start = 0
    # A paragraph ends with a line end that is followed by lines of white space.
    for blank in [*re.finditer(r"\n(?:[^\S\n]*\n)+", text), None]:
        paragraph = text[start : blank.start() if blank else len(text)]
        if paragraph.strip():
            first = line + paragraph[: len(paragraph) - len(paragraph.lstrip())].count("\n")
            where = f"{path}:{first}"
            yield Record(checked(paragraph.strip(), where), None, where)
        if blank:
            line += text.count("\n", start, blank.end())
            start = blank.end()


# --- JSON ---------------------------------------------------------------------------------------------------


class _Repeated(dict[str, Any]):
    """An object in which a key occurs more than once; `all_keys` lists every occurrence."""

    all_keys: list[str]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) == len(pairs):
        return plain
    repeated = _Repeated(plain)
    repeated.all_keys = [key for key, _ in pairs]
    return repeated


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise DataError(f"{where}: cannot be read: its brackets are nested too deeply") from None
    except ValueError:  # Python's limit on the digits of a number
        raise DataError(f"{where}: cannot be read: a number of more than 4,300 digits") from None


def _json_record(row: Any, columns: Columns, where: str) -> Iterator[Record]:
    if not isinstance(row, dict):
        raise DataError(f"{where}: found {type(row).__name__}; accepted: a JSON object on each line")
    if isinstance(row, _Repeated):
        check_columns(row.all_keys, columns, where)
    yield from record(row, columns, where)


def _read_json_lines(path: Path, columns: Columns) -> Iterator[Record]:
    for number, line in enumerate(_decoded(path).split("\n"), start=1):
        if line.strip():
            where = f"{path}:{number}"
            yield from _json_record(_parsed(line, where), columns, where)


def _read_json(path: Path, columns: Columns) -> Iterator[Record]:
    """A list of objects, or an object on each line."""
    text = _decoded(path)
    if not text.lstrip().startswith("["):
        yield from _read_json_lines(path, columns)
        return
    for number, row in enumerate(_parsed(text, str(path)), start=1):
        yield from _json_record(row, columns, f"{path} row {number}")


# --- tables -------------------------------------------------------------------------------------------------


def _read_csv(path: Path, columns: Columns, delimiter: str = ",") -> Iterator[Record]:
    # The default limit of this process is 131,072 characters, and documents are longer.
    csv.field_size_limit(2**31 - 1)
    text = io.StringIO(_decoded(path), newline="")
    # Strict: a quote that is never closed would make one field of the rest of the file.
    reader = csv.DictReader(text, delimiter=delimiter, strict=True)
    try:
        names = list(reader.fieldnames or ())
        if len(names) == 1 and columns.text != names[0] and (separator := re.search("[;\t|]", names[0])):
            raise DataError(f"{path}: its columns are separated by {separator[0]!r}; accepted: {delimiter!r}")
        check_columns(names, columns, str(path))
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if row.pop(None, None) is not None:  # type: ignore[call-overload]
                raise DataError(
                    f"{where}: more fields than the header's {len(names)}; accepted: quotes around a text"
                    f" that holds {delimiter!r}"
                )
            yield from record(row | _number(row, columns.label), columns, where)
    except csv.Error as error:
        # The unreadable row begins after the last row that was read.
        raise DataError(f"{path}:{reader.line_num + 1}: not CSV ({error})") from None


def _number(row: dict[str, Any], label: str | None) -> dict[str, int]:
    """The label of the row, if it is a whole number: a table writes it as text."""
    value = row[label] if label else None
    return {label: int(value)} if label and value and re.fullmatch(r"-?\d{1,18}", value) else {}


def _read_tsv(path: Path, columns: Columns) -> Iterator[Record]:
    return _read_csv(path, columns, delimiter="\t")


def _read_parquet(path: Path, columns: Columns) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        file = pq.ParquetFile(path)
        check_columns(file.schema_arrow.names, columns, str(path))
        for batch in file.iter_batches(batch_size=4096, columns=columns.names):
            for row in batch.to_pylist():
                number += 1
                yield from record(row, columns, f"{path} row {number}")
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        last_read = f" after row {number}" if number else ""
        raise DataError(f"{path}: cannot be read as parquet{last_read} ({reason[:200]})") from None


READERS: dict[str, Callable[[Path, Columns], Iterator[Record]]] = {
    ".txt": _read_paragraphs,
    ".jsonl": _read_json_lines,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".tsv": _read_tsv,
    ".json": _read_json,
}
# In a folder .json and .tsv files are often something else: settings, tables of contents.
IN_FOLDERS = (".txt", ".jsonl", ".csv", ".parquet")
