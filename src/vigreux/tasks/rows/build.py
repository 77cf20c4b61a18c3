"""A task from tokenised data: a `datasets.Dataset`, or any sequence of rows with `input_ids`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from vigreux.config.task_kinds import SPECS, TaskKind
from vigreux.errors import DataError
from vigreux.tasks.kinds.registry import BUILDERS
from vigreux.tasks.rows.columns import ModelInputs, check_alike, choose_columns, column_notes, unused_note
from vigreux.tasks.rows.data_set import check_rows
from vigreux.tasks.rows.fit import check_fits
from vigreux.tasks.rows.reading import Padding, read_rows
from vigreux.tasks.stream import Sample
from vigreux.tasks.table import TokenTable
from vigreux.tasks.task import IGNORE, Task


def tokenised_task(
    kind: TaskKind,
    train: Any,
    held_out: Any,
    tokenizer: PreTrainedTokenizerBase,
    *,
    mask_share: float = 0.15,
    id2label: Mapping[int, str] | None = None,
    models: Sequence[ModelInputs] = (),
) -> Task:
    """A task from rows with `input_ids`; `vigreux.distill` describes the other columns.

    Args:
        kind: what is learned.
        train: training rows.
        held_out: held-out rows.
        tokenizer: defines the ids of padding and mask.
        mask_share: share of tokens to predict (masked-lm), if the rows have no labels.
        id2label: the classes, for kinds with classes; `None` for other kinds.
        models: the models that read the rows; the rows must fit all of them.

    Raises:
        DataError: there are no rows, a column is missing, or the models cannot take a value; the message
            names the row.
        ConfigError: masked-lm with a tokenizer that has no mask token.
    """
    builder = BUILDERS[kind]
    check_rows("train_dataset", train)
    check_rows("eval_dataset", held_out)
    columns = choose_columns("train_dataset", kind, train[0], models)
    held_columns = choose_columns("eval_dataset", kind, held_out[0], models)
    check_alike(columns, held_columns)
    notes = column_notes(columns, held_columns, models)
    unused = unused_note(columns, held_columns)
    if unused is not None:
        warnings.warn(unused, UserWarning, stacklevel=2)
        notes.append(unused)
    rows = [
        read_rows("train_dataset", train, kind, columns, Padding.of(tokenizer)),
        read_rows("eval_dataset", held_out, kind, held_columns, Padding.of(tokenizer)),
    ]
    for name, data_rows in zip(("train_dataset", "eval_dataset"), rows):
        check_fits(name, kind, data_rows.table, models)
        notes += data_rows.notes
    tables = [data_rows.table for data_rows in rows]
    scores = None
    if builder.label_rows is not None and id2label is not None:
        tables, of_classes = builder.label_rows((train, held_out), (columns, held_columns), rows, id2label)
        notes += of_classes
        scores = None if builder.scores is None else builder.scores(id2label)
    task = Task(
        kind,
        tables[0],
        tables[1],
        builder.collator(tokenizer, mask_share),
        tables[0].mean_length,
        None if id2label is None else dict(id2label),
        tuple(notes),
        has_masks=SPECS[kind].hides_tokens and bool(columns.labels),
        sequence_scores=scores,
    )
    _check_labels(task)
    return task


def _check_labels(task: Task) -> None:
    """Raises `DataError` if no token of a data set carries a loss."""
    if not task.spec.by_position:
        return
    for name, rows in (("train_dataset", task.train), ("eval_dataset", task.held_out)):
        assert isinstance(rows, TokenTable)
        samples = (Sample(rows[i], i, 0, i) for i in range(len(rows)))
        if not any(bool((task.collate([sample])["labels"] != IGNORE).any()) for sample in samples):
            raise DataError(
                f"{name}: no token of its {len(rows)} rows has a label; accepted: rows of two tokens or more,"
                " labels other than −100"
            )
