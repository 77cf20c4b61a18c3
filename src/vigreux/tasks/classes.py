"""The classes of a classifier by name, and how the classes of two models match.

Models name their classes in their config (`id2label`). Two models of one data set can number them
differently. Every comparison of class ids uses `match_classes`: student with teachers, teacher with data,
cache with run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vigreux.errors import ConfigError

Classes = tuple[str, ...]  # names in the order of their ids

_SHOWN = 8  # the maximum number of names in a message


class ClassMatch(NamedTuple):
    """How the classes of one model match those of another.

    Args:
        order: this model's id of each class of the other model; `None` if the ids are equal.
        note: a note for the user, or `None`.
    """

    order: tuple[int, ...] | None
    note: str | None = None


def classes_of(config: Any, where: str) -> Classes:
    """The names of a classifier's classes, in the order of their ids.

    Args:
        config: the config of the model.
        where: names the model in messages.

    Raises:
        ConfigError: the outputs are not classes (see `check_outputs`), the ids are not 0 … C − 1, two classes
            share a name, or `id2label` and `label2id` contradict each other.
    """
    check_outputs(config, where)
    return named_classes(config.id2label, where, getattr(config, "label2id", None))


def check_outputs(config: Any, where: str) -> None:
    """Raises `ConfigError` unless the model of this config predicts one of at least two classes."""
    check_problem_type(config, where)
    outputs = getattr(config, "num_labels", None)
    if outputs is None or outputs < 2:
        raise ConfigError(
            f"{where}: has {outputs} output, which is a score and not a class; accepted: a classifier of at"
            " least 2 classes"
        )


def check_problem_type(config: Any, where: str) -> None:
    """Raises `ConfigError` for a model that predicts scores, or several labels at once."""
    problem = getattr(config, "problem_type", None)
    if problem in ("regression", "multi_label_classification"):
        raise ConfigError(
            f"{where}: its config has problem_type {problem!r}; accepted: single_label_classification, one"
            " class a text"
        )


def named_classes(
    id2label: Mapping[int, object], where: str, label2id: Mapping[str, object] | None = None
) -> Classes:
    """Class names in the order of their ids, checked (see `classes_of`)."""
    if sorted(id2label) != list(range(len(id2label))):
        raise ConfigError(
            f"{where}: id2label has the ids {_listed(sorted(id2label))}; accepted: 0 to {len(id2label) - 1}"
        )
    names = tuple(str(id2label[i]) for i in range(len(id2label)))
    if label2id and not _is_generic_map(label2id):
        _check_inverse(names, label2id, where)
    plain = [_plain(name) for name in names]
    if twice := [name for name, key in zip(names, plain) if plain.count(key) > 1]:
        raise ConfigError(
            f"{where}: two classes have the name {twice[0]!r} (case aside); accepted: another name for each"
        )
    return names


def is_generic(names: Sequence[str]) -> bool:
    """Whether the names are mere ids: LABEL_0, LABEL_1, … (the default of transformers), or 0, 1, …"""
    return all(_plain(name) in (f"label_{i}", str(i)) for i, name in enumerate(names))


def match_classes(model: Sequence[str], target: Sequence[str], where: str, other: str) -> ClassMatch:
    """Matches the classes of a model with target classes by name, ignoring case and surrounding spaces.

    `logits[:, order]` of the model are in the order of `target`. Names that are mere ids (see `is_generic`)
    are matched by id.

    Args:
        model: the model's classes.
        target: the classes in the desired order of the logits.
        where: names the model in messages.
        other: names the owner of the target classes in messages.

    Raises:
        ConfigError: the numbers of classes or their names differ.
    """
    ids = {_plain(name): i for i, name in enumerate(model)}
    keys = [_plain(name) for name in target]
    if ids.keys() == set(keys):
        order = tuple(ids[key] for key in keys)
        if order == tuple(range(len(order))):
            return ClassMatch(None)
        return ClassMatch(order, f"{where}: its classes are ordered by name as those of {other}")
    if len(model) == len(target) and (is_generic(model) or is_generic(target)):
        nameless_model, named_model = (where, other) if is_generic(model) else (other, where)
        return ClassMatch(
            None,
            f"{nameless_model}: its classes have no names; class i is taken for class i of {named_model}",
        )
    different = "other" if len(model) == len(target) else str(len(model))
    raise ConfigError(
        f"{where}: has {different} classes ({_listed(model)}); accepted: the {len(target)} classes of"
        f" {other}, in any order: {_listed(target)}"
    )


def find_class(label: str, ids: Mapping[str, int]) -> int | None:
    """The id of a class by its name. An exact match comes before one that ignores case and spaces."""
    if label in ids:
        return ids[label]
    return next((i for name, i in ids.items() if _plain(name) == _plain(label)), None)


def _check_inverse(names: Classes, label2id: Mapping[str, object], where: str) -> None:
    """Raises `ConfigError` if `label2id` and `id2label` differ."""
    ids = {_plain(name): i for i, name in enumerate(names)}
    for name, i in label2id.items():
        if str(ids.get(_plain(str(name)))) != str(i):
            raise ConfigError(
                f"{where}: label2id gives {name!r} the id {i}, id2label has {_listed(names)}; accepted: maps"
                " that agree"
            )


def _is_generic_map(label2id: Mapping[str, object]) -> bool:
    """Whether this is the default of transformers, LABEL_i."""
    return all(_plain(str(name)) == f"label_{i}" for name, i in label2id.items())


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()


def _listed(values: Sequence[object]) -> str:
    names = ", ".join(str(value) for value in values[:_SHOWN])
    return names + (f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else "")
