"""The values of a row's columns, checked and turned into arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from vigreux.errors import DataError
from vigreux.tasks.rows.columns import IDS

LARGEST_ID = np.iinfo(np.int32).max  # ids are stored as int32


def numbers(where: str, value: Any, *, whole: bool = True) -> np.ndarray:
    """The numbers of one value, int64 or float32.

    Raises:
        DataError: `None`, text, lists of different lengths; if `whole` is set, also floats and truth values.
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
        raise DataError(f"{where}: {str(first)[:60]!r} is no whole number; accepted: whole numbers")
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int64)


def token_ids(where: str, value: Any) -> np.ndarray:
    """(n,) int64, n ≥ 1."""
    ids = numbers(f"{where}: {IDS}", value)
    if ids.ndim == 2 and len(ids) == 1:
        raise DataError(
            f"{where}: {IDS}: shape {ids.shape}; accepted: ({ids.shape[1]},), a list of ids and not a list of"
            " lists"
        )
    if ids.ndim != 1:
        raise DataError(f"{where}: {IDS}: shape {ids.shape}; accepted: one list of ids per row")
    if len(ids) == 0:
        raise DataError(f"{where}: {IDS}: is empty; accepted: at least one token")
    if ids.max() > LARGEST_ID:
        raise DataError(f"{where}: {IDS}: {ids.max()}; accepted: ids of the tokenizer")
    return ids


def zeros_and_ones(where: str, value: Any, length: int) -> np.ndarray:
    """(length,) bool, from a mask of 0 and 1."""
    values = numbers(where, value, whole=False)
    if values.shape != (length,):
        raise DataError(f"{where}: shape {values.shape}; accepted: ({length},), one number per token")
    wrong = (values != 0) & (values != 1)
    if wrong.any():
        raise DataError(f"{where}: {values[wrong][0].item()}; accepted: 0 (hidden) and 1")
    return values.astype(bool)


def token_labels(where: str, value: Any, length: int) -> np.ndarray:
    """(length,) int64: the label of each token, as transformers aligns them."""
    labels = numbers(where, value)
    if labels.shape != (length,):
        raise DataError(
            f"{where}: shape {labels.shape}; accepted: ({length},), one label per token, −100 for none"
        )
    return labels


def model_input(where: str, value: Any, length: int, *, whole: bool) -> np.ndarray:
    """(length, …), one value per token, or (), one for the row."""
    values = numbers(where, value, whole=whole)
    if values.ndim and len(values) != length:
        raise DataError(
            f"{where}: {len(values)} values for {length} tokens; accepted: one per token, or no such column"
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"{where}: a value is not finite")
    return values
