"""Rows that a Python caller hands over → a `TokenTable`: every value checked, padding cut off, labels aligned with the logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from vigreux.config.task_kinds import SPECS, TaskKind
from vigreux.errors import DataError
from vigreux.tasks.rows.columns import IDS, MASK, SPECIAL_MASK, Columns, ModelInputs
from vigreux.tasks.table import TokenTable
from vigreux.tasks.task import IGNORE

_LARGEST = np.iinfo(np.int32).max  # ids are kept as int32
_AT_ONCE = (
    1000  # rows of a datasets.Dataset that are read together, which is several times faster than one by one
)
ROWS_ACCEPTED = "a datasets.Dataset or a list of rows, each a dict with input_ids"


@dataclass(frozen=True)
class Padding:
    """The id that fills rows up, for the check of rows without an attention mask.

    Args:
        id: of the tokenizer's padding token, else of its end of text, which people pad with then; `None`: it has neither.
        shared: whether that token has another use (end of text), so that one at a row's end says nothing.
    """

    id: int | None
    shared: bool

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Padding:
        """Of a tokenizer."""
        names = (
            "bos_token_id",
            "eos_token_id",
            "unk_token_id",
            "sep_token_id",
            "cls_token_id",
            "mask_token_id",
        )
        uses = [getattr(tokenizer, name, None) for name in names]
        padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        return cls(padding, padding in uses)

    def fills(self, ids: np.ndarray) -> bool:
        """Whether the ids (n,) of a row begin or end in padding."""
        count = 2 if self.shared else 1
        if self.id is None or len(ids) < count:
            return False
        return bool((ids[:count] == self.id).all() or (ids[-count:] == self.id).all())


# --- data sets ------------------------------------------------------------------------------------------------------


def check_rows(name: str, data: Any) -> None:
    """Raises `DataError` unless `data` has a length and is indexed by number, as `distill` reads it."""
    what = _no_rows(data)
    if what is not None:
        raise DataError(f"{name}: {what}")
    try:
        count = len(data)
        row = data[0] if count else None
    except Exception as error:
        reason = " ".join(str(error).split())[:100]
        raise DataError(
            f"{name}: a {type(data).__name__} gives no row 0 ({type(error).__name__}: {reason}); accepted: {ROWS_ACCEPTED}"
        ) from error
    if count == 0:
        raise DataError(f"{name}: no rows")
    if not isinstance(row, Mapping):
        raise DataError(f"{name}: row 0 is a {type(row).__name__}; accepted: {ROWS_ACCEPTED}")


def _no_rows(data: Any) -> str | None:
    """What `data` is, and what to hand over instead, where it is no collection of rows."""
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
        if any(isinstance(part, datasets.Dataset | datasets.IterableDataset) for part in data.values()):
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
    """Every row and where it stands; all have the columns of the first."""
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
                f"{without} has no column {column}, which others have; accepted: the same in all rows"
            )
        yield where, row


def _in_batches(data: Any) -> Iterator[dict[str, Any]]:
    """The rows of a `datasets.Dataset`, in its own format."""
    for start in range(0, len(data), _AT_ONCE):
        columns = data[start : start + _AT_ONCE]
        for i in range(min(_AT_ONCE, len(data) - start)):
            yield {name: values[i] for name, values in columns.items()}


# --- values ---------------------------------------------------------------------------------------------------------


def numbers(where: str, value: Any, *, whole: bool = True) -> np.ndarray:
    """The numbers of one value, int64 or float32.

    Raises:
        DataError: `None`, text, lists of different lengths; where `whole`, floats and truth values too.
    """
    if value is None:
        raise DataError(f"{where}: is missing (None)")
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.float().numpy() if value.is_floating_point() else value.numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"{where}: lists of different lengths; accepted: one list of numbers") from error
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    if whole or array.dtype.kind not in "fb":
        first = next(
            (x for x in array.flat if type(x) is not int and not isinstance(x, np.integer)), array.flat[0]
        )
        first = first.item() if isinstance(first, np.generic) else first
        raise DataError(f"{where}: {str(first)[:60]!r} is no whole number; accepted: whole numbers alone")
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int64)


def token_ids(where: str, value: Any) -> np.ndarray:
    """(n,) int64, n ≥ 1."""
    ids = numbers(f"{where}: {IDS}", value)
    if ids.ndim == 2 and len(ids) == 1:
        raise DataError(
            f"{where}: {IDS}: shape {ids.shape}; accepted: ({ids.shape[1]},): a list of ids, not a list of such lists"
        )
    if ids.ndim != 1:
        raise DataError(f"{where}: {IDS}: shape {ids.shape}; accepted: one list of ids a row")
    if len(ids) == 0:
        raise DataError(f"{where}: {IDS}: is empty; accepted: at least one token")
    if ids.max() > _LARGEST:
        raise DataError(f"{where}: {IDS}: {ids.max()}; accepted: ids of the tokenizer")
    return ids


def zeros_and_ones(where: str, value: Any, length: int) -> np.ndarray:
    """(length,) bool, from a mask of 0 and 1."""
    values = numbers(where, value, whole=False)
    if values.shape != (length,):
        raise DataError(f"{where}: shape {values.shape}; accepted: ({length},), one number a token")
    wrong = (values != 0) & (values != 1)
    if wrong.any():
        raise DataError(f"{where}: {values[wrong][0].item()}; accepted: 0 (hidden) and 1")
    return values.astype(bool)


def token_labels(where: str, value: Any, length: int) -> np.ndarray:
    """(length,) int64: the label of each token, in transformers' convention."""
    labels = numbers(where, value)
    if labels.shape != (length,):
        raise DataError(
            f"{where}: shape {labels.shape}; accepted: ({length},), one label a token, −100 for none"
        )
    return labels


def model_input(where: str, value: Any, length: int, *, whole: bool) -> np.ndarray:
    """(length, …), one value a token, or (), one for the row."""
    values = numbers(where, value, whole=whole)
    if values.ndim and len(values) != length:
        raise DataError(
            f"{where}: {len(values)} values for {length} tokens; accepted: one a token, or no such column"
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"{where}: a value is not finite")
    return values


# --- tables ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TokenRow:
    """One row, as it is handed over or without its padding.

    Args:
        ids: (n,) int64.
        seen: (n,) bool, False where the attention mask hides the token.
        inputs: by column, (n, …) for the tokens or () for the row.
        labels: (n,) int64, the label of each token, −100 for none; `None`: the row brings none.
        classes: the values of the columns that name its class.
    """

    ids: np.ndarray
    seen: np.ndarray
    inputs: dict[str, np.ndarray]
    labels: np.ndarray | None
    classes: tuple[Any, ...] = ()

    def without_padding(self) -> TokenRow:
        """The row from its first seen token to its last; what is hidden between stays."""
        if self.seen[0] and self.seen[-1]:
            return self
        shown = np.flatnonzero(self.seen)
        part = slice(int(shown[0]), int(shown[-1]) + 1)
        inputs = {column: value[part] if value.ndim else value for column, value in self.inputs.items()}
        labels = None if self.labels is None else self.labels[part]
        return TokenRow(self.ids[part], self.seen[part], inputs, labels, self.classes)


@dataclass(frozen=True)
class Rows:
    """The rows of a data set.

    Args:
        table: without class ids.
        classes: of each row the values of the columns that name its class (classification).
        notes: what the user should know.
    """

    table: TokenTable
    classes: list[tuple[Any, ...]]
    notes: tuple[str, ...] = ()


def read_rows(name: str, data: Any, kind: TaskKind, columns: Columns, padding: Padding) -> Rows:
    """Reads and checks every row, once.

    The attention mask's zeros before the first 1 and after the last are padding. They are cut off, together with all
    that stands beside them. Zeros between stay, as a column. Labels of tokens are aligned with the logits.

    Raises:
        DataError: a value that is none of those described in `vigreux.distill`; the message names the row.
    """
    rows, silent = [], 0
    for where, given in each_row(name, data):
        whole = read_row(where, given, kind, columns, padding)
        row = whole.without_padding()
        if whole.labels is not None and row.labels is not None and not whole.seen.all():
            before, labels = int((whole.labels != IGNORE).sum()), row.labels
            if SPECS[kind].is_causal:
                labels = np.where(row.seen, labels, IGNORE)
            silent += before - int((labels != IGNORE).sum())
        rows.append(row)
    by_token, by_row = _split_columns(name, rows)
    if not all(row.seen.all() for row in rows):
        by_token[MASK] = [row.seen.astype(np.int64) for row in rows]
    align = next_labels if SPECS[kind].is_causal else _as_they_are
    aligned = [align(row.labels, row.seen) for row in rows if row.labels is not None]
    table = TokenTable.of_rows(
        [row.ids for row in rows], columns=by_token, row_columns=by_row, token_labels=aligned or None
    )
    hidden = (f"{name}: {silent} labels of tokens that {MASK} hides carry no loss",) if silent else ()
    return Rows(table, [row.classes for row in rows], hidden)


def read_row(
    where: str, row: Mapping[str, Any], kind: TaskKind, columns: Columns, padding: Padding
) -> TokenRow:
    """One row with its padding, its values checked."""
    ids = token_ids(where, row[IDS])
    seen = np.ones(len(ids), dtype=bool)
    if columns.mask:
        seen = zeros_and_ones(f"{where}: {MASK}", row[MASK], len(ids))
    elif padding.fills(ids):
        raise DataError(
            f"{where}: begins or ends with padding (id {padding.id}); accepted: a column {MASK}, or rows without padding"
        )
    if not seen.any():
        raise DataError(f"{where}: {MASK}: hides every token; accepted: at least one 1")
    inputs = {
        column: model_input(f"{where}: {column}", row[column], len(ids), whole=column.endswith("_ids"))
        for column in columns.inputs
    }
    if columns.special:
        inputs[SPECIAL_MASK] = zeros_and_ones(f"{where}: {SPECIAL_MASK}", row[SPECIAL_MASK], len(ids))
    if SPECS[kind].predicts == "samples":
        return TokenRow(ids, seen, inputs, None, tuple(row[column] for column in columns.labels))
    return TokenRow(ids, seen, inputs, _labels_of_tokens(where, row, columns, ids))


def _labels_of_tokens(
    where: str, row: Mapping[str, Any], columns: Columns, ids: np.ndarray
) -> np.ndarray | None:
    """(n,) the labels that the row brings: its own, or its ids, −100 where a mask of the loss says 0."""
    if not columns.labels and not columns.loss_masks:
        return None
    labels = ids
    for i, column in enumerate(columns.labels):
        given = token_labels(f"{where}: {column}", row[column], len(ids))
        if i and not np.array_equal(given, labels):
            raise DataError(
                f"{where}: {columns.labels[0]} and {column} differ; accepted: one of these columns"
            )
        labels = given
    for column in columns.loss_masks:
        labels = np.where(zeros_and_ones(f"{where}: {column}", row[column], len(ids)), labels, IGNORE)
    return labels


def next_labels(labels: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(n,) what each position of a causal model predicts: `labels[t + 1]`.

    −100 at the end, and where the mask hides this token or the next.
    """
    following = np.full_like(labels, IGNORE)
    following[:-1] = np.where(seen[:-1] & seen[1:], labels[1:], IGNORE)
    return following


def _as_they_are(labels: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Masked language models predict the token of the position itself, hidden from attention or not."""
    return labels


def _split_columns(
    name: str, rows: Sequence[TokenRow]
) -> tuple[dict[str, list[np.ndarray]], dict[str, list[int]]]:
    """The inputs of tokens and those of rows, by column."""
    by_token: dict[str, list[np.ndarray]] = {}
    by_row: dict[str, list[int]] = {}
    for column, first in rows[0].inputs.items():
        values = [row.inputs[column] for row in rows]
        for i, value in enumerate(values):
            if value.ndim != first.ndim or value.shape[1:] != first.shape[1:]:
                raise DataError(
                    f"{name}: row {i}: {column}: another shape than in row 0; accepted: one value a token in all rows"
                )
        if first.ndim:
            by_token[column] = values
        else:
            by_row[column] = [value.item() for value in values]
    return by_token, by_row


# --- checks against the models --------------------------------------------------------------------------------------


def check_fits(name: str, kind: TaskKind, table: TokenTable, models: Sequence[ModelInputs]) -> None:
    """Raises `DataError` unless every model has an embedding for each id and an output for each label, and can be shown
    which tokens are hidden: those of a mask, and the padding of rows of different lengths."""
    lengths = np.diff(table.ends, prepend=0)
    for model in models:
        if MASK not in model.columns:
            if MASK in table.columns:
                raise DataError(
                    f"{name}: {MASK} hides tokens, and {model.name} takes no {MASK}; accepted: rows without"
                )
            if not SPECS[kind].is_causal and lengths.min() != lengths.max():
                raise DataError(
                    f"{name}: rows of {lengths.min()} to {lengths.max()} tokens, and {model.name} takes no {MASK};"
                    " accepted: rows of one length"
                )
        embeddings = f"the embeddings of {model.name}"
        _check_range(name, IDS, table, table.tokens, model.vocabulary, embeddings)
        for column, values in table.columns.items():
            if column.endswith("_ids"):
                _check_range(name, column, table, values, model.limits.get(column), embeddings)
        if table.token_labels is not None:
            labels = np.where(table.token_labels == IGNORE, 0, table.token_labels)
            _check_range(
                name, "labels", table, labels, model.predicted, f"the outputs of {model.name}, and −100"
            )
        elif model.predicted is not None:
            _check_range(name, IDS, table, table.tokens, model.predicted, f"the outputs of {model.name}")


def _check_range(
    name: str, column: str, table: TokenTable, values: np.ndarray, below: int | None, what: str
) -> None:
    """Raises unless all values (total, …) are from 0 to `below` − 1."""
    below = _LARGEST if below is None else below
    wrong = ((values < 0) | (values >= below)).reshape(len(values), -1)  # (total, …)
    if wrong.any():
        place = int(wrong.any(axis=1).argmax())
        row = int(np.searchsorted(table.ends, place, side="right"))
        value = int(values[place].reshape(-1)[wrong[place]][0])
        raise DataError(f"{name}: row {row}: {column}: {value}; accepted: 0 to {below - 1}, {what}")
