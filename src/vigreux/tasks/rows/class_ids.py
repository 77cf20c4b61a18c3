"""The class ids of rows from Python: numbers, names, or a `datasets.ClassLabel` with names."""

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
        columns: the columns of both data sets.
        rows: the rows of both data sets.
        id2label: the model's classes.

    Raises:
        DataError: a label is no class, two columns of labels differ, or numbers could be ids or names.
        ConfigError: the names of a `ClassLabel` are not the model's.
    """
    names = named_classes(id2label, "the student")
    both_labels: list[list[int | str]] = []
    notes: list[str] = []
    for name, data_set, data_columns, data_rows in zip(_NAMES, data, columns, rows):
        features = getattr(data_set, "features", None) or {}
        labels, of_labels = _labels(name, data_columns.labels, data_rows.classes, features, names)
        both_labels.append(labels)
        notes += of_labels
    numbers = {label for labels in both_labels for label in labels if isinstance(label, int)}
    by_name = _numbers_are_names(numbers, names)
    ids = {label: i for i, label in enumerate(names)}
    both_ids = [
        np.array([_class_id(f"{name}: row {i}", label, ids, by_name) for i, label in enumerate(labels)])
        for name, labels in zip(_NAMES, both_labels)
    ]
    return both_ids, list(dict.fromkeys(notes))


def _labels(
    name: str,
    columns: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    features: Mapping[str, Any],
    names: Sequence[str],
) -> tuple[list[int | str], list[str]]:
    """The label of each row, a number or a name; labels of a `ClassLabel` with names by name."""
    class_labels: dict[str, list[str] | None] = {}
    notes: list[str] = []
    for column in columns:
        classes = getattr(features.get(column), "names", None)
        if classes:
            class_labels[column], of_classes = match_names(f"{name}: {column}", classes, names)
            notes += of_classes
    labels = []
    for i, values in enumerate(rows):
        row = [
            _plain(f"{name}: row {i}", value, class_labels.get(column), names)
            for column, value in zip(columns, values)
        ]
        if len(set(row)) > 1:
            raise DataError(
                f"{name}: row {i}: {columns[0]} and {columns[1]} differ; accepted: one of these columns"
            )
        labels.append(row[0])
    return labels, notes


def match_names(
    where: str, classes: Sequence[str], names: Sequence[str]
) -> tuple[list[str] | None, list[str]]:
    """The model's name of each class of a `ClassLabel`, and notes; `None` if the names are mere ids."""
    ids = {label: i for i, label in enumerate(names)}
    by_name = [find_class(label, ids) for label in classes]
    if all(i is not None for i in by_name):
        same_order = by_name == list(range(len(by_name)))
        note = [] if same_order else [f"{where}: its classes are taken by name, in the student's order"]
        return [names[i] for i in by_name if i is not None], note
    match = match_classes(classes, names, where, "the student")
    return None, [] if match.note is None else [match.note]


def _plain(where: str, value: Any, classes: Sequence[str] | None, names: Sequence[str]) -> int | str:
    """A label as a number or a name.

    Truth values are names if classes have these names, else the ids of two classes. `classes` are the class
    names of a `ClassLabel`, whose numbers become names.
    """
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
    if classes is None:
        return value
    if not 0 <= value < len(classes):
        raise DataError(f"{where} has the label {value}; accepted: 0 to {len(classes) - 1}")
    return classes[value]


def _numbers_are_names(numbers: set[int], names: Sequence[str]) -> bool:
    """Whether numbers among the labels are names of classes (stars 1 to 5) rather than ids.

    Raises:
        DataError: they could be both.
    """
    if not numbers or is_generic(names) or not all(str(number) in names for number in numbers):
        return False
    if all(0 <= number < len(names) for number in numbers):
        number = min(numbers)
        if all(names[number] == str(number) for number in numbers):
            return False
        raise DataError(
            f"labels: {number} is the id of the class {names[number]!r} and the name of another; accepted:"
            " names as text"
        )
    return True


def _class_id(where: str, label: int | str, ids: Mapping[str, int], by_name: bool) -> int:
    if isinstance(label, str) or by_name:
        class_id = find_class(str(label), ids)
        if class_id is None:
            raise DataError(f"{where}: {unknown('label', label, ids)}")
        return class_id
    if not 0 <= label < len(ids):
        raise DataError(f"{where} has the label {label}; accepted: 0 to {len(ids) - 1}")
    return label
