"""Which checkpoints the students of a tree are taught by, and how their accuracies are read; nothing is
trained.
"""

import numpy as np
import pytest

from vigreux.claims.c06_features import beats, half_way, none_learned
from vigreux.claims.common.hierarchical import (
    BOTH_INSIDE,
    ONE_INSIDE,
    ONE_SHOT,
    SCALES,
    THREE_SHOT,
    TWO_SHOT,
    checkpoints_of_methods,
)
from vigreux.config.curricula import from_config
from vigreux.config.two_layer import TwoLayerConfig
from vigreux.selection import Curve, find_transitions

STEPS = np.arange(10, 1010, 10)


def rises(*middles_and_sizes: tuple[float, float]) -> Curve:
    """A curve from 0.125 that rises by each size about its middle."""
    values = 0.125 + sum(size / (1 + np.exp(-(STEPS - middle) / 12)) for middle, size in middles_and_sizes)
    return Curve.of(STEPS, values + np.random.default_rng(0).normal(0, 0.001, len(STEPS)), rises=True)


def test_checkpoints_of_a_curve_with_two_transitions():
    curve = rises((300, 0.3), (700, 0.575))
    small, large = find_transitions(curve)
    found = checkpoints_of_methods(curve, list(range(10, 1000, 10)))
    assert found[ONE_SHOT] == []
    assert found[TWO_SHOT] == [700]
    assert found[THREE_SHOT] == [300, 700]
    assert len(found[BOTH_INSIDE]) == 2
    assert all(large.holds(step) for step in found[BOTH_INSIDE])
    middle, after = found[ONE_INSIDE]
    assert middle == 700
    assert after > large.end
    assert small.end < large.start


def test_three_shot_takes_both_from_the_only_transition():
    found = checkpoints_of_methods(rises((500, 0.875)), list(range(10, 1000, 10)))
    assert found[THREE_SHOT] == found[BOTH_INSIDE]


def test_after_is_the_last_checkpoint_of_a_teacher_that_never_learns_everything():
    assert checkpoints_of_methods(rises((500, 0.6)), list(range(10, 1000, 10)))[ONE_INSIDE] == [500, 990]


@pytest.mark.parametrize("preset", SCALES)
def test_progressive_fits_into_the_budget(preset):
    scale = SCALES[preset]
    checkpoints, shot = scale.progressive()
    assert shot * len(checkpoints) < scale.steps
    assert checkpoints[-1] < scale.teacher_steps
    assert not any(step % scale.every for step in checkpoints)


def test_a_student_of_two_checkpoints():
    scale = SCALES["laptop"]
    config = scale.student([100, 200], 1000, 100, 2)
    stages = from_config(config, student_layers=1, teacher_layers=1, series=[100, 200])
    assert [(stage.teacher.step, stage.duration.value) for stage in stages] == [
        (100, 1000),
        (200, 1000),
        (None, scale.steps - 2000),
    ]
    assert (config.seed, config.task.seed, config.student.width) == (2, scale.task_seed, 100)


def test_one_shot_has_no_checkpoint():
    config: TwoLayerConfig = SCALES["laptop"].student([], 1000, 100, 0)
    assert config.curriculum == "one-shot"


def test_half_way_of_each_feature():
    assert half_way([1, 2, 3, 4], [[0.0, 0.3, 0.4, 0.5], [0.0, 0.1, 0.2, 0.9]]) == [2, 4]


def test_failed_in_every_seed():
    assert none_learned([0.1, 0.9499])
    assert not none_learned([0.1, 0.95])


def test_neither_beats_the_other_where_both_learn_everything():
    assert not beats([1.0, 1.0], [1.0, 0.99])
    assert beats([1.0, 1.0], [1.0, 0.9])
