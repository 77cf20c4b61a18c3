"""Accuracy by boundary level against a count of one position at a time."""

import math
from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vigreux.errors import DataError
from vigreux.probes.boundaries import IGNORE, LevelAccuracy, accuracy_by_level, at_least


def counted(batches):
    """Level → [right, count], position by position."""
    found = defaultdict(lambda: [0, 0])
    for batch in batches:
        for p, y, level in zip(*(np.asarray(part).flatten().tolist() for part in batch)):
            if y != IGNORE:
                found[level][0] += p == y
                found[level][1] += 1
    return found


@given(
    seed=st.integers(0, 999),
    sizes=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), min_size=1, max_size=4),
)
def test_the_same_as_one_position_at_a_time(seed, sizes):
    draw = np.random.default_rng(seed)
    batches = [
        (
            draw.integers(0, 3, size),
            draw.choice([0, 1, 2, IGNORE], size),
            draw.integers(0, 5, size).astype(np.int8),
        )
        for size in sizes
    ]
    expected = counted(batches)
    if not expected:
        with pytest.raises(DataError, match="no position carries a label"):
            accuracy_by_level(batches)
        return
    found = accuracy_by_level(iter(batches))
    assert [(s.level, s.right, s.count) for s in found] == [
        (level, *expected[level]) for level in range(max(expected) + 1)
    ]


def test_by_hand():
    """Token 3 ends its non-terminals of levels 1 and 2, token 1 of level 1 alone; the last position asks for
    nothing.
    """
    labels, levels = torch.tensor([[1, 2, 0, 1, IGNORE]]), torch.tensor([[0, 1, 0, 2, -1]])
    found = accuracy_by_level([(torch.tensor([[1, 0, 2, 1, IGNORE]]), labels, levels)])
    assert found == (LevelAccuracy(0, 1, 2), LevelAccuracy(1, 0, 1), LevelAccuracy(2, 1, 1))
    assert [score.accuracy for score in found] == [0.5, 0.0, 1.0]
    assert [at_least(found, level).accuracy for level in range(3)] == [0.5, 0.5, 1.0]
    assert at_least(found, 1) == LevelAccuracy(1, 1, 2)


def test_a_level_without_tokens():
    found = accuracy_by_level([([1], [1], [2])])
    assert [score.count for score in found] == [0, 0, 1]
    assert math.isnan(found[0].accuracy)
    assert at_least(found, 0).accuracy == 1


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (
            ([1, 2], [1], [0]),
            r"boundaries: predictions \(2,\), labels \(1,\), levels \(1,\); accepted: one shape",
        ),
        (([1], [1], [-1]), "boundaries: level -1; accepted: from 0"),
        (([1], [IGNORE], [0]), "no position carries a label; accepted: at least one"),
    ],
)
def test_what_cannot_be_counted(batch, message):
    with pytest.raises(DataError, match=message):
        accuracy_by_level([batch])
