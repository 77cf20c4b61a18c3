"""Checks that the rows fit the models that read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vigreux.config.task_kinds import SPECS, TaskKind
from vigreux.errors import DataError
from vigreux.tasks.rows.columns import IDS, MASK, ModelInputs
from vigreux.tasks.rows.values import LARGEST_ID
from vigreux.tasks.table import TokenTable
from vigreux.tasks.task import IGNORE


def check_fits(name: str, kind: TaskKind, table: TokenTable, models: Sequence[ModelInputs]) -> None:
    """Raises `DataError` unless every model can read the rows.

    A model needs an embedding for each id and an output for each label. It must take an attention mask if the
    rows bring one, or if they differ in length and so are padded.
    """
    lengths = np.diff(table.ends, prepend=0)
    for model in models:
        if MASK not in model.columns:
            if MASK in table.columns:
                raise DataError(
                    f"{name}: {MASK} hides tokens, and {model.name} takes no {MASK}; accepted: rows without a"
                    " mask"
                )
            if not SPECS[kind].is_causal and lengths.min() != lengths.max():
                raise DataError(
                    f"{name}: rows of {lengths.min()} to {lengths.max()} tokens, and {model.name} takes no"
                    f" {MASK}; accepted: rows of one length"
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
    name: str, column: str, table: TokenTable, values: np.ndarray, below: int | None, counted: str
) -> None:
    """Raises `DataError` unless all values (total, …) are from 0 to `below` − 1, the size of `counted`."""
    below = LARGEST_ID if below is None else below
    wrong = ((values < 0) | (values >= below)).reshape(len(values), -1)  # (total, …)
    if wrong.any():
        token = int(wrong.any(axis=1).argmax())
        row = int(np.searchsorted(table.ends, token, side="right"))
        value = int(values[token].reshape(-1)[wrong[token]][0])
        raise DataError(f"{name}: row {row}: {column}: {value}; accepted: 0 to {below - 1}, {counted}")
