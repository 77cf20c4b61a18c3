import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigreux.curriculum import Curriculum, Duration, Labels, Stage, TeacherRef, resolve_steps
from vigreux.errors import ConfigError
from vigreux.plan.budget import steps_for_budget
from vigreux.plan.cost import Cost, StageCost, memory_estimate
from vigreux.units import human, human_bytes, human_flops, human_time

SIZES = {"batch_size": 10, "train_samples": 1000, "tokens_per_sample": 4}


def stages(*durations: Duration) -> Curriculum:
    return tuple(
        Stage(f"stage {i}", TeacherRef.labels(), Labels(), None, duration)
        for i, duration in enumerate(durations)
    )


def total(curriculum: Curriculum, per_step: list[float], steps: int) -> float:
    return math.fsum(n * each for n, each in zip(resolve_steps(curriculum, steps, **SIZES), per_step))


# --- accounts -----------------------------------------------------------------------------------------------


def test_totals() -> None:
    cost = Cost((StageCost("a", 10, 3e12, 1e12, 5.0), StageCost("b", 20, 6e12, 0.0, 7.5)), bytes_kept=45)
    assert cost.stages[0].flops == 4e12
    assert (cost.steps, cost.student_flops, cost.teacher_flops, cost.flops, cost.seconds) == (
        30,
        9e12,
        1e12,
        10e12,
        12.5,
    )


def test_time_is_not_known_unless_every_stage_has_one() -> None:
    assert Cost((StageCost("a", 1, 1, 1, 5.0), StageCost("b", 1, 1, 1))).seconds is None
    assert Cost((StageCost("a", 1, 1, 1, 0.0),)).seconds == 0.0


def test_memory_is_weights_gradients_states_teacher_and_activations() -> None:
    assert memory_estimate(100, 100) == 4 * 400  # AdamW: weight, gradient, two states
    assert memory_estimate(100, 60, optimizer_states=0) == 4 * 160
    assert (
        memory_estimate(100, 100, bytes_per=2, teacher_parameters=1000, teacher_bytes_per=1, activations=7)
        == 800 + 1000 + 7
    )


# --- steps for a budget -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("durations", "per_step", "budget", "steps"),
    [
        ([Duration.share(1.0)], [2.0], 10.0, 5),
        ([Duration.share(1.0)], [2.0], 11.9, 5),
        ([Duration.share(1.0)], [0.1], 0.3, 3),  # although 3 × 0.1 > 0.3 in binary
        ([Duration.share(0.5), Duration.share(0.5)], [1.0, 3.0], 40.0, 20),
        (
            [Duration.share(0.5)],
            [1.0],
            4.0,
            9,
        ),  # round(4.5) = 4: the largest number of steps that costs no more
        # Five steps are 1 + 3 + 1, six are 2 + 2 + 2: more steps, and cheaper.
        ([Duration.share(0.25), Duration.share(0.5), Duration.share(0.25)], [1.0, 100.0, 1.0], 302.0, 5),
        ([Duration.steps(10), Duration.share(1.0)], [1.0, 2.0], 30.0, 10),
        ([Duration.samples(100), Duration.tokens(40), Duration.share(1.0)], [1.0, 5.0, 1.0], 20.0, 5),
        ([Duration.epochs(0.05), Duration.share(1.0)], [1.0, 1.0], 6.0, 1),
        ([Duration.plateau(2, limit=10), Duration.share(1.0)], [1.0, 1.0], 15.0, 5),
        ([Duration.steps(3)], [0.1], 0.3, 3),
        (
            [Duration.steps(10), Duration.steps(5)],
            [1.0, 1.0],
            15.0,
            15,
        ),  # nothing to resolve: their own steps
    ],
)
def test_steps_for_budget(
    durations: list[Duration], per_step: list[float], budget: float, steps: int
) -> None:
    assert steps_for_budget(stages(*durations), per_step, budget, **SIZES) == steps


@given(
    shares=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    unused=st.sampled_from((0, 3)),
    fixed=st.sampled_from((0, 7)),
    per_step=st.lists(st.sampled_from((0.5, 1.0, 3.0, 20.0)), min_size=5, max_size=5),
    budget=st.floats(400, 3000),
)
def test_no_other_number_of_steps_comes_closer_within_the_budget(
    shares: list[int], unused: int, fixed: int, per_step: list[float], budget: float
) -> None:
    durations = [Duration.share(share / (sum(shares) + unused)) for share in shares]
    curriculum = stages(*durations, *([Duration.steps(fixed)] if fixed else []))
    per_step = per_step[: len(curriculum)]
    steps = steps_for_budget(curriculum, per_step, budget, **SIZES)
    possible = []
    for n in range(1, 12_000):
        try:
            possible.append(total(curriculum, per_step, n))
        except ConfigError:
            continue
        if possible[-1] > 2 * budget:
            break
    assert total(curriculum, per_step, steps) == max(cost for cost in possible if cost <= budget)


def test_a_budget_that_is_too_small_is_said() -> None:
    fixed = stages(Duration.steps(10), Duration.share(1.0))
    with pytest.raises(
        ConfigError, match="budget: 9 is less than the 10 that the stages of fixed length cost"
    ):
        steps_for_budget(fixed, [1.0, 1.0], 9.0, **SIZES)
    with pytest.raises(
        ConfigError,
        match="budget: 10 buys no step of some stage; the shortest run of every stage costs about 11",
    ):
        steps_for_budget(fixed, [1.0, 1.0], 10.0, **SIZES)
    assert steps_for_budget(fixed, [1.0, 1.0], 11.0, **SIZES) == 1
    unequal = stages(Duration.share(0.01), Duration.share(0.99))
    with pytest.raises(ConfigError, match="about 51"):
        steps_for_budget(unequal, [1.0, 1.0], 50.0, **SIZES)
    assert steps_for_budget(unequal, [1.0, 1.0], 51.0, **SIZES) == 51


# --- text ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "unit", "text"),
    [
        (1.234e12, "FLOP", "1.23 TFLOP"),
        (45e6, "B", "45 MB"),
        (0, "B", "0 B"),
        (999, "B", "999 B"),
        (999.6, "B", "1 kB"),
        (999_499, "B", "999 kB"),
        (999_500, "B", "1 MB"),
        (3e21, "FLOP", "3 ZFLOP"),
        (2e27, "FLOP", "2e+03 YFLOP"),
    ],
)
def test_human(n: float, unit: str, text: str) -> None:
    assert human(n, unit) == text


def test_human_flops_and_bytes() -> None:
    assert human_flops(1.5e9) == "1.5 GFLOP"
    assert human_bytes(90_900_000) == "90.9 MB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.00042, "0.42 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (12.34, "12.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (80, "1 min 20 s"),
        (119.7, "2 min"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h"),
        (7500, "2 h 5 min"),
        (86_399, "24 h"),
        (86_400, "1 d"),
        (273_600, "3 d 4 h"),
    ],
)
def test_human_time(seconds: float, text: str) -> None:
    assert human_time(seconds) == text


def test_importing_costs_loads_nothing_heavy() -> None:
    code = (
        "import vigreux.plan.cost, sys; print({'torch', 'scipy', 'numpy', 'transformers'} & set(sys.modules))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "set()"
    )
