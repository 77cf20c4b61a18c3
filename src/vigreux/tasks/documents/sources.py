"""Documents from files, directories, assets and `datasets` names, as records.

Each error names file and line.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from vigreux.downloads.assets import asset_path, is_asset
from vigreux.downloads.hub import hub_or_cache
from vigreux.errors import DataError, unknown
from vigreux.tasks.documents.files import IN_FOLDERS, READERS, is_regular, read_file
from vigreux.tasks.documents.records import Columns, MakeRecord, Record, check_columns, record, text_record

__all__ = ["Record", "read_records", "read_with_notes"]

_ASSETS = ("asset:wikipedia", "asset:wikipedia-topics", "asset:state-of-the-union", "asset:hamlet")
_ACCEPTED = f"{', '.join(READERS)}, a directory of these, {', '.join(_ASSETS)}, or a `datasets` name"


def read_records(
    source: str,
    *,
    text_field: str = "text",
    label_field: str | None = None,
    make_record: MakeRecord = text_record,
) -> list[Record]:
    """All documents of `source`, except those with only white space.

    Args:
        source: a `.txt` file (its documents are paragraphs between blank lines); a `.jsonl`, `.json`, `.csv`,
            `.tsv` or `.parquet` file; a directory of `.txt`, `.jsonl`, `.csv` and `.parquet` files (read in
            the order of their paths); a directory that `Dataset.save_to_disk` wrote; `asset:NAME` of a text;
            or `NAME[:CONFIG[:SPLIT]]` for `datasets.load_dataset` (the default split is `train`).
        text_field: the column that holds the text.
        label_field: the column that holds the label; `None` reads no labels.
        make_record: makes a record of a row.

    Raises:
        DataError: the source does not exist, has no documents, is not UTF-8, or lacks a column, a text or a
            label.
    """
    return read_with_notes(source, text_field, label_field, make_record)[0]


def read_with_notes(
    source: str,
    text_field: str = "text",
    label_field: str | None = None,
    make_record: MakeRecord = text_record,
) -> tuple[list[Record], list[str]]:
    """`read_records`, and notes on columns and files that are not used."""
    if not source.strip():
        raise DataError(f"task.data: nothing given; accepted: {_ACCEPTED}")
    columns = Columns(text_field, label_field, make_record)
    notes: list[str] = []
    records = list(_read(source, columns, notes))
    if not records:
        raise DataError(f"{source}: no documents (the file is empty or holds only white space)")
    return records, [f"{source}: {note}" for note in [*notes, *columns.notes()]]


def _read(source: str, columns: Columns, notes: list[str]) -> Iterable[Record]:
    if is_asset(source):
        return _read_asset(source, columns)
    path = Path(source).expanduser()
    if not is_regular(path) and path.is_dir():
        if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
            return _read_saved(path, columns, notes)
        return _read_directory(path, columns, notes)
    looks_like_path = source.startswith((".", "/", "~")) or source.endswith("/") or source.count("/") > 1
    if path.exists() or path.suffix.lower() in READERS or looks_like_path:
        return read_file(path, columns)
    return _read_dataset(source, columns)


# --- directories --------------------------------------------------------------------------------------------


def _read_directory(folder: Path, columns: Columns, notes: list[str]) -> Iterator[Record]:
    files, ignored = _files_below(folder)
    if not files:
        hint = ""
        if readable := [path for path in ignored if path.suffix.lower() in READERS]:
            hint = f"; name {readable[0].suffix} files one by one, as a list"
        raise DataError(f"{folder}: holds no file that can be read; accepted: {', '.join(IN_FOLDERS)}{hint}")
    if ignored:
        suffixes = Counter(path.suffix or "no suffix" for path in ignored)
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(6))
        notes.append(
            f"{len(ignored)} other file{'s are' if len(ignored) > 1 else ' is'} not read"
            f" ({kinds}; such as {ignored[0].name!r})"
        )
    for file in files:
        yield from read_file(file, columns)


def _files_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files to read and all other files, both in the order of their paths, without hidden files."""

    def complain(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None

    files: list[Path] = []
    ignored: list[Path] = []
    for directory, _, names in os.walk(folder, onerror=complain):
        for name in names:
            path = Path(directory, name)
            if not name.startswith("."):
                (files if path.suffix.lower() in IN_FOLDERS else ignored).append(path)
    return sorted(files), sorted(ignored)


# --- assets and `datasets` ----------------------------------------------------------------------------------


def _read_asset(source: str, columns: Columns) -> Iterable[Record]:
    if source not in _ASSETS:
        raise DataError(unknown("task.data", source, _ASSETS))
    if columns.label is not None and source != "asset:wikipedia-topics":
        raise DataError(f"{source} has no labels; accepted for data with labels: asset:wikipedia-topics")
    if source.startswith("asset:wikipedia"):
        return _read_wikipedia(source)
    path = asset_path(source)
    return _read_directory(path, columns, []) if path.is_dir() else read_file(path, columns)


def _read_wikipedia(source: str) -> Iterator[Record]:
    """The introductions of articles; with topics, only those of articles that have a topic."""
    with_topics = source == "asset:wikipedia-topics"
    articles = json.loads(asset_path(source).read_text("utf-8"))
    for title, article in articles.items():
        if not (with_topics and article["topic"] == "Uncategorized"):
            yield Record(
                article["extract"], article["topic"] if with_topics else None, f"{source} article {title!r}"
            )


def _read_dataset(source: str, columns: Columns) -> Iterator[Record]:
    import datasets

    name, config, split = [*source.split(":"), "", ""][:3]
    try:
        with hub_or_cache():
            data = datasets.load_dataset(name, config or None, split=split or "train")
    except Exception as error:  # the name is user input: any error of `datasets` becomes one line
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        suggestions = get_close_matches(
            name, [p.name for p in Path().glob("*") if p.is_dir() or p.suffix in READERS], n=1
        )
        hint = f"; did you mean {suggestions[0]!r}, here?" if suggestions else ""
        raise DataError(
            f"task.data: `datasets` cannot load {source!r} ({reason}){hint}; accepted: {_ACCEPTED}"
        ) from None
    yield from _rows(data, columns, source)


def _read_saved(folder: Path, columns: Columns, notes: list[str]) -> Iterator[Record]:
    """Reads a data set that `save_to_disk` wrote.

    If `folder` contains several splits, `train` is read.
    """
    import datasets

    try:
        data = datasets.load_from_disk(str(folder))
    except Exception as error:  # the folder can be damaged in any way: any error becomes one line
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{folder}: cannot be read as a data set ({reason[:200]})") from None
    if isinstance(data, datasets.DatasetDict):
        splits = list(data)
        if "train" not in data:
            raise DataError(
                f"{folder}: no split 'train'; accepted: the folder of a split: {', '.join(splits)}"
            )
        if len(splits) > 1:
            notes.append(f"the split 'train' is read, of {', '.join(splits)}")
        data = data["train"]
    yield from _rows(data, columns, str(folder))


def _rows(data: Any, columns: Columns, source: str) -> Iterator[Record]:
    check_columns(data.column_names, columns, source)
    if columns.label is not None:
        columns.class_names = _class_names(data.features[columns.label])
    for number, row in enumerate(data.select_columns(columns.names), start=1):
        yield from record(row, columns, f"{source} row {number}")


def _class_names(feature: Any) -> list[str] | None:
    """The class names of a column of class numbers, or of lists of these; `None` without names."""
    return getattr(getattr(feature, "feature", feature), "names", None)
