"""The class ids of rows that a Python caller hands over: numbers, names, or a `datasets.ClassLabel` with names of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from vigreux.errors import DataError, unknown
from vigreux.tasks.classes import find_class, is_generic, match_classes, named_classes
from vigreux.tasks.rows.columns import Columns
from vigreux.tasks.rows.reading import Rows

_NAMES = ("train_dataset", "eval_dataset")


def class_ids(
    data: Sequence[Any], columns: Sequence[Columns], rows: Sequence[Rows], id2label: Mapping[int, str]
) -> tuple[list[np.ndarray], list[str]]:
    """The class ids (n,) of both data sets, and notes.

    Args:
        data: training and held-out data; a `datasets.Dataset` may name its classes.
        columns: of each.
        rows: of each, as they were read.
        id2label: the model's classes.

    Raises:
        DataError: a label that is no class, columns that differ, numbers that could be ids or names.
        ConfigError: a `ClassLabel` whose names are not the model's.
    """
    names = named_classes(id2label, "the student")
    given, notes = [], list[str]()
    for name, of, use, read in zip(_NAMES, data, columns, rows):
        features = getattr(of, "features", None) or {}
        labels, said = _labels(name, use.labels, read.classes, features, names)
        given.append(labels)
        notes += said
    numbers = {label for labels in given for label in labels if isinstance(label, int)}
    by_name = _numbers_are_names(numbers, names)
    ids = {label: i for i, label in enumerate(names)}
    found = [
        np.array([_class_id(f"{name}: row {i}", label, ids, by_name) for i, label in enumerate(labels)])
        for name, labels in zip(_NAMES, given)
    ]
    return found, list(dict.fromkeys(notes))


def _labels(
    name: str,
    columns: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    features: Mapping[str, Any],
    names: Sequence[str],
) -> tuple[list[int | str], list[str]]:
    """Each row's label, a number or a name; those of a `ClassLabel` with names by name."""
    own, notes = {}, list[str]()
    for column in columns:
        classes = getattr(features.get(column), "names", None)
        if classes:
            own[column], said = match_names(f"{name}: {column}", classes, names)
            notes += said
    labels = []
    for i, values in enumerate(rows):
        row = [
            _plain(f"{name}: row {i}", value, own.get(column), names)
            for column, value in zip(columns, values)
        ]
        if len(set(row)) > 1:
            raise DataError(
                f"{name}: row {i}: {columns[0]} and {columns[1]} differ; accepted: one of these columns"
            )
        labels.append(row[0])
    return labels, notes


def match_names(where: str, own: Sequence[str], names: Sequence[str]) -> tuple[list[str] | None, list[str]]:
    """The model's name of each class of a `ClassLabel`, and notes; `None` where the names say no more than ids."""
    ids = {label: i for i, label in enumerate(names)}
    by_name = [find_class(label, ids) for label in own]
    if all(i is not None for i in by_name):
        same = by_name == list(range(len(by_name)))
        note = [] if same else [f"{where}: its classes are taken by name, in the student's order"]
        return [names[i] for i in by_name if i is not None], note
    match = match_classes(own, names, where, "the student")
    return None, [] if match.note is None else [match.note]


def _plain(where: str, value: Any, own: Sequence[str] | None, names: Sequence[str]) -> int | str:
    """A label as a number or a name; truth values are names where classes are called so, else the ids of two classes."""
    if isinstance(value, Tensor | np.ndarray | np.generic) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool):
        plain = [label.strip().casefold() for label in names]
        value = str(value) if "true" in plain else int(value) if len(names) == 2 else value
    if isinstance(value, str):
        return value
    accepted = f"a whole number from 0 to {len(names) - 1}, or the name of a class"
    if isinstance(value, float):
        accepted += "; scores are not learned yet, and class ids are whole (astype(int))"
    elif np.ndim(value):
        raise DataError(
            f"{where} has several labels; accepted: {accepted}; several at once are not learned yet"
        )
    if isinstance(value, bool) or not isinstance(value, int):
        raise DataError(f"{where} has the label {' '.join(repr(value).split())[:60]}; accepted: {accepted}")
    if own is None:
        return value
    if not 0 <= value < len(own):
        raise DataError(f"{where} has the label {value}; accepted: 0 to {len(own) - 1}")
    return own[value]


def _numbers_are_names(numbers: set[int], names: Sequence[str]) -> bool:
    """Whether numbers among the labels are names of classes (stars 1 to 5) rather than ids.

    Raises:
        DataError: they could be either.
    """
    if not numbers or is_generic(names) or not all(str(number) in names for number in numbers):
        return False
    if all(0 <= number < len(names) for number in numbers):
        number = min(numbers)
        if all(names[number] == str(number) for number in numbers):
            return False
        raise DataError(
            f"labels: {number} is the id of the class {names[number]!r} and the name of another; accepted: names as text"
        )
    return True


def _class_id(where: str, label: int | str, ids: Mapping[str, int], by_name: bool) -> int:
    if isinstance(label, str) or by_name:
        found = find_class(str(label), ids)
        if found is None:
            raise DataError(f"{where}: {unknown('label', label, ids)}")
        return found
    if not 0 <= label < len(ids):
        raise DataError(f"{where} has the label {label}; accepted: 0 to {len(ids) - 1}")
    return label
