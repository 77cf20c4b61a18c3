"""Tasks from data that is tokenised already: a `datasets.Dataset`, or any sequence of rows with `input_ids`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from vigreux.config import TaskKind
from vigreux.errors import ConfigError, DataError
from vigreux.tasks.embedding import TextCollator
from vigreux.tasks.encoding import padding_id
from vigreux.tasks.labelled import LabelledCollator
from vigreux.tasks.table import TokenTable
from vigreux.tasks.task import Collator, Task
from vigreux.tasks.text import CausalCollator, MaskedCollator

Rows = Sequence[Mapping[str, Any]]


def tokenised_task(
    kind: TaskKind,
    train: Rows,
    held_out: Rows,
    tokenizer: PreTrainedTokenizerBase,
    *,
    mask_share: float = 0.15,
    id2label: dict[int, str] | None = None,
) -> Task:
    """A task from rows with `input_ids` and, for classification, an integer `label` or `labels`.

    Causal labels and masks are made here from `input_ids`, as in `vigreux.tasks.text`; columns of that name are not read.

    Args:
        kind: what is learned.
        train: training rows.
        held_out: held-out rows.
        tokenizer: gives the ids of padding and mask.
        mask_share: share of tokens to predict (masked-lm).
        id2label: the classes (classification).

    Raises:
        DataError: no rows, a column is missing, or a label is outside the classes.
        ConfigError: masked-lm with a tokenizer that has no mask token.
    """
    classes = len(id2label) if kind == "classification" and id2label is not None else None
    table, held = (
        _table(name, rows, classes) for name, rows in (("train_dataset", train), ("eval_dataset", held_out))
    )
    pad_id = padding_id(tokenizer)
    collate: Collator
    if kind == "masked-lm":
        if tokenizer.mask_token_id is None:
            raise ConfigError("processing_class: masked-lm needs a mask token, and this tokenizer has none")
        collate = MaskedCollator(
            pad_id, tokenizer.mask_token_id, len(tokenizer), tuple(tokenizer.all_special_ids), mask_share
        )
    else:
        collators: dict[str, Callable[[int], Collator]] = {
            "causal-lm": CausalCollator,
            "classification": LabelledCollator,
            "embedding": TextCollator,
        }
        collate = collators[kind](pad_id)
    return Task(kind, table, held, collate, table.mean_length, id2label if classes is not None else None)


def _table(name: str, rows: Rows, classes: int | None) -> TokenTable:
    if len(rows) == 0:
        raise DataError(f"{name}: no rows")
    columns = list(rows[0])
    if "input_ids" not in columns:
        raise DataError(f"{name}: no column input_ids; found {', '.join(columns)}")
    if classes is None:
        return TokenTable.of_rows(row["input_ids"] for row in rows)
    column = next((c for c in ("labels", "label") if c in columns), None)
    if column is None:
        raise DataError(f"{name}: no column labels or label; found {', '.join(columns)}")
    labels = [int(row[column]) for row in rows]
    if wrong := [(i, label) for i, label in enumerate(labels) if not 0 <= label < classes]:
        raise DataError(
            f"{name}: row {wrong[0][0]} has the label {wrong[0][1]}; accepted: 0 to {classes - 1}"
        )
    return TokenTable.of_rows((row["input_ids"] for row in rows), labels)
