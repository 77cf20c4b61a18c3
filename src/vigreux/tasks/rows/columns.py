"""Decides which columns of rows a task uses as inputs, labels or masks, and which it ignores or refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vigreux.config.task_kinds import SPECS, TaskKind
from vigreux.errors import DataError

IDS = "input_ids"
MASK = "attention_mask"
LABELS = ("labels", "label", "label_ids")  # transformers' collators take each of these for the labels
LOSS_MASKS = ("completion_mask", "assistant_masks")  # of chats: 1 where a token carries a loss
SPECIAL_MASK = "special_tokens_mask"
TOKEN_INPUTS = ("token_type_ids", "position_ids")

# Columns that change a model's output and that no task passes on → the replacement.
REFUSED = {
    "inputs_embeds": IDS,
    "past_key_values": f"{IDS} of the whole text",
    "cache_position": "position_ids",
    "head_mask": "models without these heads",
    "cross_attn_head_mask": "models without these heads",
    "encoder_hidden_states": "a model that reads its text alone",
    "encoder_attention_mask": "a model that reads its text alone",
    "encoder_outputs": "a model that reads its text alone",
    "decoder_input_ids": "a decoder or an encoder; no task has both",
    "decoder_attention_mask": "a decoder or an encoder; no task has both",
    "decoder_inputs_embeds": "a decoder or an encoder; no task has both",
    "pixel_values": "texts; no task takes pixels yet",
    "pixel_mask": "texts; no task takes pixels yet",
    "pixel_values_videos": "texts; no task takes pixels yet",
    "input_features": "texts; no task takes sound yet",
    "input_values": "texts; no task takes sound yet",
    "perm_mask": "attention_mask",
    "target_mapping": "labels",
    "mems": f"{IDS} of the whole text",
    "loss_mask": "labels that are −100 where no loss counts",
    "logits_to_keep": "labels that are −100 where no loss counts",
    "use_cache": "rows without it",
    "return_dict": "rows without it",
    "output_attentions": "rows without it",
    "output_hidden_states": "rows without it",
}


@dataclass(frozen=True)
class ModelInputs:
    """The inputs of a model that rows must fit.

    Args:
        name: its name in messages: "the student (BertForMaskedLM)".
        columns: the names of its inputs.
        vocabulary: number of token ids with an embedding; `None` if unknown.
        predicted: number of logits per position; `None` if unknown, or for kinds that predict samples.
        limits: column → the number that its values must be below.
    """

    name: str
    columns: frozenset[str]
    vocabulary: int | None = None
    predicted: int | None = None
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Columns:
    """The use of each column of a data set.

    Args:
        mask: whether the rows have an attention mask.
        inputs: further inputs of the models.
        labels: the columns with the labels, usually one; none if the task makes its labels or has none.
        loss_masks: columns that say which tokens carry a loss.
        special: whether the rows have a mask of the tokens that are never hidden (masked-lm).
        unused: the columns that are not read.
    """

    mask: bool
    inputs: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    loss_masks: tuple[str, ...] = ()
    special: bool = False
    unused: tuple[str, ...] = ()


def choose_columns(
    name: str, kind: TaskKind, row: Mapping[str, Any], models: Sequence[ModelInputs]
) -> Columns:
    """Decides the use of each column of a data set.

    Args:
        name: the data set in messages.
        kind: what is learned.
        row: its first row.
        models: the models that read the rows; without any, token types and positions are inputs.

    Raises:
        DataError: there are no token ids, or no labels although the task needs them, or a column changes what
            is computed and no task passes it on.
    """
    names = [str(column) for column in row]
    _check_names(name, kind, names)
    input_names = (
        frozenset[str]().union(*(model.columns for model in models)) if models else set(TOKEN_INPUTS)
    )
    labels = tuple(column for column in LABELS if column in names and _is_label(kind, column, row[column]))
    if SPECS[kind].has_classes and not labels:
        raise DataError(f"{name}: no column labels or label; found {', '.join(names) or 'none'}")
    special = SPECS[kind].hides_tokens and SPECIAL_MASK in names and not labels
    reserved = {IDS, MASK, *labels, *LOSS_MASKS} | ({SPECIAL_MASK} if special else set())
    inputs = tuple(c for c in names if c in input_names and c not in reserved and c not in LABELS)
    return Columns(
        mask=MASK in names,
        inputs=inputs,
        labels=labels,
        loss_masks=tuple(column for column in LOSS_MASKS if column in names),
        special=special,
        unused=tuple(column for column in names if column not in reserved and column not in inputs),
    )


def _check_names(name: str, kind: TaskKind, names: Sequence[str]) -> None:
    listed = ", ".join(names) or "none"
    if IDS not in names:
        hint = ""
        if text := next((column for column in ("text", "sentence", "content") if column in names), None):
            call = f"data.map(lambda row: tokenizer(row[{text!r}], truncation=True))"
            hint = f"; accepted: rows of token ids: {call}"
        raise DataError(f"{name}: no column {IDS}; found {listed}{hint}")
    if refused := next((column for column in names if column in REFUSED), None):
        raise DataError(f"{name}: column {refused}: is passed on to no model; accepted: {REFUSED[refused]}")
    masks = [column for column in LOSS_MASKS if column in names]
    if masks and not SPECS[kind].is_causal:
        raise DataError(
            f"{name}: column {masks[0]}: says where causal-lm has a loss; accepted for {kind}: none"
        )


def _is_label(kind: TaskKind, column: str, value: Any) -> bool:
    """Whether the kind learns from this column. The class `label` of a row is no label of its tokens."""
    if SPECS[kind].by_position:
        return column != "label" or np.ndim(value) > 0
    return SPECS[kind].has_labels


def check_alike(train: Columns, held_out: Columns) -> None:
    """Raises `DataError` if one data set lacks a column that is used from the other one."""
    pairs = (
        ("train_dataset", "eval_dataset", train, held_out),
        ("eval_dataset", "train_dataset", held_out, train),
    )
    for name, other_name, has, lacks in pairs:
        if missing := [column for column in has.inputs if column not in lacks.inputs]:
            raise DataError(
                f"{other_name}: no column {missing[0]}, which {name} has; accepted: both or neither"
            )
        label_columns = (*has.labels, *has.loss_masks)
        if label_columns and not (lacks.labels or lacks.loss_masks):
            column = label_columns[0]
            raise DataError(f"{other_name}: no column {column}, which {name} has; accepted: both or neither")


def column_notes(train: Columns, held_out: Columns, models: Sequence[ModelInputs]) -> list[str]:
    """The columns that only one of the models takes."""
    notes = []
    for column in train.inputs:
        takes = [model.name for model in models if column in model.columns]
        without = [model.name for model in models if column not in model.columns]
        if without:
            notes.append(f"column {column}: given to {takes[0]}; {without[0]} takes none")
    return notes


def unused_note(train: Columns, held_out: Columns) -> str | None:
    """The columns that are not used, all in one line."""
    unused = tuple(dict.fromkeys(train.unused + held_out.unused))
    return f"columns that are not used: {', '.join(unused)}" if unused else None
