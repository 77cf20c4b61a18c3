"""Reads a caller's rows into a `TokenTable`: checks values, cuts padding, aligns labels with the logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from vigreux.config.task_kinds import SPECS, TaskKind
from vigreux.errors import DataError
from vigreux.tasks.rows.columns import IDS, MASK, SPECIAL_MASK, Columns
from vigreux.tasks.rows.data_set import each_row
from vigreux.tasks.rows.values import model_input, token_ids, token_labels, zeros_and_ones
from vigreux.tasks.table import TokenTable
from vigreux.tasks.task import IGNORE


@dataclass(frozen=True)
class Padding:
    """The id that pads rows, for the check of rows without an attention mask.

    Args:
        id: the tokenizer's padding token, else its end-of-text token, a common substitute; `None` without
            both.
        shared: whether that token has another use (end of text), so that a single one at the end is not
            padding.
    """

    id: int | None
    shared: bool

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Padding:
        """The padding of a tokenizer."""
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
        """Whether the ids (n,) of a row begin or end with padding."""
        count = 2 if self.shared else 1
        if self.id is None or len(ids) < count:
            return False
        return bool((ids[:count] == self.id).all() or (ids[-count:] == self.id).all())


@dataclass(frozen=True)
class TokenRow:
    """One row, with or without its padding.

    Args:
        ids: (n,) int64.
        visible: (n,) bool, False where the attention mask hides the token.
        inputs: column → (n, …) for the tokens or () for the row.
        labels: (n,) int64, the label of each token, −100 for none; `None` for a row without labels of tokens.
        classes: the values of the columns that name its class.
    """

    ids: np.ndarray
    visible: np.ndarray
    inputs: dict[str, np.ndarray]
    labels: np.ndarray | None
    classes: tuple[Any, ...] = ()

    def without_padding(self) -> TokenRow:
        """The row from its first visible token to its last. Hidden tokens between them stay."""
        if self.visible[0] and self.visible[-1]:
            return self
        visible = np.flatnonzero(self.visible)
        span = slice(int(visible[0]), int(visible[-1]) + 1)
        inputs = {column: value[span] if value.ndim else value for column, value in self.inputs.items()}
        labels = None if self.labels is None else self.labels[span]
        return TokenRow(self.ids[span], self.visible[span], inputs, labels, self.classes)


@dataclass(frozen=True)
class Rows:
    """The rows of a data set.

    Args:
        table: the rows without class ids.
        classes: for each row, the values of the columns that name its class (kinds that predict samples).
        notes: notes for the user.
    """

    table: TokenTable
    classes: list[tuple[Any, ...]]
    notes: tuple[str, ...] = ()


def read_rows(name: str, data: Any, kind: TaskKind, columns: Columns, padding: Padding) -> Rows:
    """Reads and checks every row, once.

    Zeros of the attention mask before the first 1 and after the last are padding. They are cut off, together
    with the other values of these tokens. Other zeros stay, as a column. Labels of tokens are aligned with
    the logits.

    Raises:
        DataError: a value that `vigreux.distill` does not describe; the message names the row.
    """
    rows: list[TokenRow] = []
    hidden_labels = 0
    for where, values in each_row(name, data):
        padded = read_row(where, values, kind, columns, padding)
        row = padded.without_padding()
        if padded.labels is not None and row.labels is not None and not padded.visible.all():
            labels = row.labels
            if SPECS[kind].is_causal:
                labels = np.where(row.visible, labels, IGNORE)
            hidden_labels += int((padded.labels != IGNORE).sum()) - int((labels != IGNORE).sum())
        rows.append(row)
    by_token, by_row = _split_columns(name, rows)
    if not all(row.visible.all() for row in rows):
        by_token[MASK] = [row.visible.astype(np.int64) for row in rows]
    align = next_labels if SPECS[kind].is_causal else _unchanged
    aligned = [align(row.labels, row.visible) for row in rows if row.labels is not None]
    table = TokenTable.of_rows(
        [row.ids for row in rows], columns=by_token, row_columns=by_row, token_labels=aligned or None
    )
    notes = (
        (f"{name}: {hidden_labels} labels of tokens that {MASK} hides carry no loss",)
        if hidden_labels
        else ()
    )
    return Rows(table, [row.classes for row in rows], notes)


def read_row(
    where: str, row: Mapping[str, Any], kind: TaskKind, columns: Columns, padding: Padding
) -> TokenRow:
    """One row with its padding, its values checked."""
    ids = token_ids(where, row[IDS])
    visible = np.ones(len(ids), dtype=bool)
    if columns.mask:
        visible = zeros_and_ones(f"{where}: {MASK}", row[MASK], len(ids))
    elif padding.fills(ids):
        raise DataError(
            f"{where}: begins or ends with padding (id {padding.id}); accepted: a column {MASK}, or rows"
            " without padding"
        )
    if not visible.any():
        raise DataError(f"{where}: {MASK}: hides every token; accepted: at least one 1")
    inputs = {
        column: model_input(f"{where}: {column}", row[column], len(ids), whole=column.endswith("_ids"))
        for column in columns.inputs
    }
    if columns.special:
        inputs[SPECIAL_MASK] = zeros_and_ones(f"{where}: {SPECIAL_MASK}", row[SPECIAL_MASK], len(ids))
    if SPECS[kind].predicts == "samples":
        return TokenRow(ids, visible, inputs, None, tuple(row[column] for column in columns.labels))
    return TokenRow(ids, visible, inputs, _labels_of_tokens(where, row, columns, ids))


def _labels_of_tokens(
    where: str, row: Mapping[str, Any], columns: Columns, ids: np.ndarray
) -> np.ndarray | None:
    """(n,) the row's labels, or its ids, −100 where a loss mask is 0; `None` for a row without both."""
    if not columns.labels and not columns.loss_masks:
        return None
    labels = ids
    for i, column in enumerate(columns.labels):
        values = token_labels(f"{where}: {column}", row[column], len(ids))
        if i and not np.array_equal(values, labels):
            raise DataError(
                f"{where}: {columns.labels[0]} and {column} differ; accepted: one of these columns"
            )
        labels = values
    for column in columns.loss_masks:
        labels = np.where(zeros_and_ones(f"{where}: {column}", row[column], len(ids)), labels, IGNORE)
    return labels


def next_labels(labels: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """(n,) the label that each position t of a causal model predicts: `labels[t + 1]`.

    It is −100 at the end and where the mask hides this token or the next.
    """
    following = np.full_like(labels, IGNORE)
    following[:-1] = np.where(visible[:-1] & visible[1:], labels[1:], IGNORE)
    return following


def _unchanged(labels: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """The labels of models that predict the position itself, hidden from attention or not."""
    return labels


def _split_columns(
    name: str, rows: Sequence[TokenRow]
) -> tuple[dict[str, list[np.ndarray]], dict[str, list[int]]]:
    """The inputs of tokens and the inputs of rows, by column."""
    by_token: dict[str, list[np.ndarray]] = {}
    by_row: dict[str, list[int]] = {}
    for column, first in rows[0].inputs.items():
        values = [row.inputs[column] for row in rows]
        for i, value in enumerate(values):
            if value.ndim != first.ndim or value.shape[1:] != first.shape[1:]:
                raise DataError(
                    f"{name}: row {i}: {column}: another shape than in row 0; accepted: one value per token"
                    " in all rows"
                )
        if first.ndim:
            by_token[column] = values
        else:
            by_row[column] = [value.item() for value in values]
    return by_token, by_row
