"""Reads the data sets that a Python caller passes, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vigreux.errors import DataError

ROWS_ACCEPTED = "a datasets.Dataset or a list of rows, each a dict with input_ids"
# Rows of a datasets.Dataset that are read together: several times faster than one by one.
_AT_ONCE = 1000


def check_rows(name: str, data: Any) -> None:
    """Raises `DataError` unless `data` has a length and can be indexed by number."""
    problem = _no_rows(data)
    if problem is not None:
        raise DataError(f"{name}: {problem}")
    try:
        count = len(data)
        row = data[0] if count else None
    except Exception as error:
        reason = " ".join(str(error).split())[:100]
        raise DataError(
            f"{name}: a {type(data).__name__} gives no row 0 ({type(error).__name__}: {reason}); accepted:"
            f" {ROWS_ACCEPTED}"
        ) from error
    if count == 0:
        raise DataError(f"{name}: no rows")
    if not isinstance(row, Mapping):
        raise DataError(f"{name}: row 0 is a {type(row).__name__}; accepted: {ROWS_ACCEPTED}")


def _no_rows(data: Any) -> str | None:
    """The type of `data` and its replacement, if it is not a collection of rows; `None` if it is one."""
    import datasets
    import torch.utils.data

    kind = type(data).__name__
    if data is None:
        return f"missing; accepted: {ROWS_ACCEPTED} (nothing is split off)"
    if isinstance(data, str) or hasattr(data, "__fspath__"):
        return (
            f"{str(data)[:80]!r} is a name or path; accepted: its rows, as datasets.load_dataset gives them"
        )
    if isinstance(data, Mapping):
        if any(isinstance(value, datasets.Dataset | datasets.IterableDataset) for value in data.values()):
            return f"a {kind} of {', '.join(map(str, data))[:80]}; accepted: one of these"
        return f"a {kind} of columns; accepted: rows: datasets.Dataset.from_dict(dict(columns))"
    if type(data).__module__.split(".")[0] in ("pandas", "polars"):
        return f"a {kind}; accepted: datasets.Dataset.from_{type(data).__module__.split('.')[0]}(frame)"
    streamed = isinstance(data, datasets.IterableDataset | torch.utils.data.IterableDataset)
    if streamed or not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        return (
            f"{kind} has no rows by number; accepted: {ROWS_ACCEPTED}: datasets.Dataset.from_list(list(rows))"
        )
    return None


def each_row(name: str, data: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each row with its name for messages. All rows must have the columns of the first."""
    import datasets

    rows = _in_batches(data) if isinstance(data, datasets.Dataset) else (data[i] for i in range(len(data)))
    columns: set[str] | None = None
    for i, row in enumerate(rows):
        where = f"{name}: row {i}"
        if not isinstance(row, Mapping):
            raise DataError(f"{where} is a {type(row).__name__}; accepted: {ROWS_ACCEPTED}")
        if columns is None:
            columns = set(row)
        if different := columns ^ set(row):
            column = sorted(map(str, different))[0]
            without = where if column in columns else f"{name}: row 0"
            raise DataError(
                f"{without} has no column {column}, which other rows have; accepted: the same columns in all"
                " rows"
            )
        yield where, row


def _in_batches(data: Any) -> Iterator[dict[str, Any]]:
    """The rows of a `datasets.Dataset`, in its format."""
    for start in range(0, len(data), _AT_ONCE):
        columns = data[start : start + _AT_ONCE]
        for i in range(min(_AT_ONCE, len(data) - start)):
            yield {name: values[i] for name, values in columns.items()}
