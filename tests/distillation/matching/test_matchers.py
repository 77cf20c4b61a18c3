"""Every target has a matcher, and a literal table of what follows from each."""

from __future__ import annotations

from typing import get_args

import pytest

from vigreux.curriculum import Embedding, Hidden, Joint, Labels, Logits, Target
from vigreux.curriculum.targets import TARGETS
from vigreux.distillation.matching import MATCHERS, matcher_of

JOINT = Joint(Hidden(2), Logits())


def test_every_target_has_a_name_and_a_matcher() -> None:
    assert set(TARGETS.values()) == set(MATCHERS) == set(get_args(Target))


@pytest.mark.parametrize(
    ("target", "signals", "student_depth", "teacher_depths", "trains_whole", "explains_variance"),
    [
        (Labels(), [], None, (), True, False),
        (Logits(), ["logits"], None, (None,), True, False),
        (Hidden(2), ["hidden 2 (gaussian/0)"], 1, (2,), False, True),
        (Hidden(2, divergence="cosine"), ["hidden 2 (gaussian/0)"], 1, (2,), False, False),
        (Embedding(), ["mean-pooled embedding (gaussian/0)"], 4, (6,), True, True),
        (JOINT, ["logits", "hidden 2 (gaussian/0)"], None, (None, 2), True, False),
    ],
    ids=str,
)
def test_what_a_target_means(
    target: Target,
    signals: list[str],
    student_depth: int | None,
    teacher_depths: tuple[int | None, ...],
    trains_whole: bool,
    explains_variance: bool,
) -> None:
    """For a stage of depth 1, a student of 4 blocks and a teacher of 6."""
    matcher = matcher_of(target)
    assert [signal.cache_name(before_head=False) for signal in matcher.signals] == signals
    assert matcher.student_depth(1, 4) == student_depth
    assert matcher.teacher_depths(6) == teacher_depths
    assert matcher.trains_whole is trains_whole
    assert matcher.explains_variance is explains_variance
    assert (matcher.vectors is None) is isinstance(target, Labels | Logits)
