"""Phase transitions on curves where they are known, and the checkpoints chosen from them.

studies/selection.py measures the same over many more curves; what is asserted here in shares is its result on
fewer seeds.
"""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies.selection import (
    STEPS,
    Case,
    cases,
    hierarchical,
    measure,
    noisy,
    noisy_stairs,
    parity,
    sigmoid,
)

from vigreux.curriculum import Duration, Logits, TeacherRef
from vigreux.curriculum.recipes import progressive
from vigreux.curriculum.serialize import from_yaml
from vigreux.errors import ConfigError, DataError
from vigreux.selection import (
    FEWEST,
    Curve,
    PhaseTransition,
    choose_checkpoints,
    find_transitions,
    select_checkpoints,
    why_none,
)
from vigreux.selection.line import PENALTY, find_breaks, local_noise
from vigreux.selection.transitions import MOST

CASES = {case.name: case for case in cases()}


def middles(curve: Curve) -> list[float]:
    return [transition.middle for transition in find_transitions(curve)]


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# --- curves -------------------------------------------------------------------------------------------------


def test_curves_that_are_none():
    twelve = list(range(12))
    assert Curve.of(twelve, [0.5] * 12, rises=True).steps.dtype == np.float64
    for steps, values, message in (
        (twelve[:11], [0.5] * 11, "11 evaluations; accepted: at least 12"),
        (twelve, [0.5] * 11, "as many steps as values"),
        ([0, 1, 2, 2, *range(3, 11)], [0.5] * 12, "the steps do not rise"),
        (twelve, [0.5] * 5 + [math.nan] + [0.5] * 6, "the value at step 5 is not finite"),
    ):
        with pytest.raises(DataError, match=message):
            Curve.of(steps, values, rises=True)


# --- transitions of exact curves ----------------------------------------------------------------------------


def test_an_exact_sigmoid_is_found_where_it_is():
    (found,) = find_transitions(Curve(STEPS, 0.5 + 0.5 * sigmoid(STEPS, 6.5e6, 6e5), rises=True))
    assert found.start == pytest.approx(6.2e6, abs=6e4)
    assert found.middle == pytest.approx(6.5e6, abs=2e4)
    assert found.end == pytest.approx(6.8e6, abs=6e4)
    assert (found.before, found.after) == pytest.approx((0.5, 1.0), abs=0.02)
    assert found.sharpness == pytest.approx(0.8 * 7.9e6 / (found.end - found.start))
    assert list(found.tenths) == sorted(found.tenths)
    assert found.way(found.middle) == pytest.approx(0.5)
    assert found.holds(found.start)
    assert not found.holds(found.end + 1)


def test_a_jump_lies_between_two_evaluations():
    (found,) = find_transitions(Curve.of(range(20), [0.5] * 12 + [1.0] * 8, rises=True))
    assert (found.start, found.middle, found.end) == pytest.approx((11.1, 11.5, 11.9))
    assert (found.before, found.after) == pytest.approx((0.5, 1.0))


def test_the_fewest_evaluations_are_enough_for_a_clear_jump():
    values = [0.5, 0.51, 0.49, 0.5, 0.5, 0.49, 1.0, 1.0, 0.99, 1.0, 1.0, 1.0]
    assert middles(Curve.of(range(FEWEST), values, rises=True)) == pytest.approx([5.5], abs=0.1)


def test_four_evaluations_before_a_transition_are_enough_and_three_are_not():
    values = [0.502, 0.506, 0.501, 0.504, 0.644, *[1.0] * 17]
    (found,) = find_transitions(Curve.of(range(5, 115, 5), values, rises=True))
    assert (found.before, found.after) == pytest.approx((0.504, 1.0), abs=0.01)
    assert found.middle == pytest.approx(26.5, abs=0.5)
    late = Curve.of(range(5, 105, 5), values[2:], rises=True)
    assert find_transitions(late) == []
    assert "from the 4th evaluation on" in why_none(late)


def test_the_transient_of_a_loss_is_no_transition():
    """A parity teacher's loss: level at first, then steep down to chance; a drop follows much later."""
    start = [1.48, 1.34, 0.95, 0.81, 0.79, 0.78, 0.75, 0.73, 0.74, 0.73]
    values = np.array(start + [0.71] * 20 + [0.6, 0.45, 0.2, 0.08] + [0.01] * 20) + np.random.default_rng(
        0
    ).normal(0, 0.005, 54)
    assert middles(Curve.of(range(54), values, rises=False)) == pytest.approx([31.5], abs=1)


def test_a_loss_falls_as_an_accuracy_rises():
    rising = Curve(STEPS, 0.5 * sigmoid(STEPS, 3e6, 5e5), rises=True)
    (up,), (down,) = find_transitions(rising), find_transitions(Curve(STEPS, -rising.values, rises=False))
    assert down.tenths == up.tenths
    assert (down.before, down.after) == (-up.before, -up.after)
    assert down.change == up.change


@pytest.mark.parametrize(
    "values",
    [
        np.full(80, 0.5),
        STEPS / 8e6,
        -(STEPS**-0.5),
        np.log(STEPS),
        1 - np.exp(-STEPS / 1e6),
        -sigmoid(STEPS, 4e6, 4e5),
    ],
    ids=["flat", "line", "power", "log", "saturating", "gets worse"],
)
def test_steady_curves_have_none(values):
    assert find_transitions(Curve(STEPS, values, rises=True)) == []


def test_what_a_curve_without_transitions_does_instead():
    rng = np.random.default_rng(0)
    assert why_none(Curve(STEPS, rng.normal(0.5, 0.01, 80), rises=True)).startswith(
        "the curve is flat, at 0.5"
    )
    falling = Curve(STEPS, 3 - 1e-7 * STEPS + rng.normal(0, 0.01, 80), rises=False)
    assert why_none(falling).startswith("the curve goes from 2.99")
    assert "without a stretch, from the 4th evaluation on, that is 3 times as steep" in why_none(falling)


def test_many_evaluations_are_averaged_and_take_no_longer():
    steps = np.arange(1.0, 20_001)
    curve = Curve(
        steps, sigmoid(steps, 12_000, 500) + np.random.default_rng(0).normal(0, 0.02, len(steps)), rises=True
    )
    assert len(steps) > 10 * MOST
    assert middles(curve) == pytest.approx([12_000], abs=50)


@given(
    st.integers(0, 400),
    st.floats(1e-6, 1e6),
    st.floats(-1e6, 1e6),
    st.floats(1e-3, 1e3),
    st.floats(-100, 100),
)
def test_units_do_not_matter(seed, step_unit, step_origin, unit, origin):
    curve = hierarchical(3e5).draw(np.random.default_rng(seed))
    scaled = Curve(step_origin + step_unit * curve.steps, origin + unit * curve.values, rises=True)
    found, again = find_transitions(curve), find_transitions(scaled)
    assert len(found) == len(again)
    for a, b in zip(found, again):
        assert (np.array(b.tenths) - step_origin) / step_unit == pytest.approx(np.array(a.tenths), rel=1e-3)
        assert (b.after - origin) / unit == pytest.approx(a.after, abs=1e-3)


# --- transitions under noise --------------------------------------------------------------------------------


@given(st.data())
def test_every_stair_well_above_the_noise_is_found(data):
    plateaus = data.draw(st.lists(st.integers(15, 30), min_size=2, max_size=5))
    heights = data.draw(st.lists(st.floats(7, 60), min_size=len(plateaus) - 1, max_size=len(plateaus) - 1))
    smallest = 0.07 * sum(heights)  # below a twentieth of all that changes a stair is not meant to count
    levels = np.cumsum([0.0, *(max(height, smallest) for height in heights)])
    seed = data.draw(st.integers(0, 2**32 - 1))
    values = np.repeat(levels, plateaus) + np.random.default_rng(seed).normal(0, 1, sum(plateaus))
    true = np.cumsum(plateaus)[:-1] - 0.5
    found = middles(Curve.of(range(len(values)), values, rises=True))
    assert found == pytest.approx(list(true), abs=1.5)


@pytest.mark.parametrize(("plateau", "share"), [(12, 0.8), (20, 0.97), (30, 0.97)])
def test_stairs_of_five_standard_deviations(plateau, share):
    assert measure(noisy_stairs(5, plateau), seeds=100, compare=False)["found"] >= share


@pytest.mark.parametrize("evaluations", [12, 20, 80])
def test_noise_alone_has_none(evaluations):
    case = Case("noise", noisy(np.full(evaluations, 0.5), 0.01, steps=np.arange(1.0, evaluations + 1)))
    assert 1 - measure(case, seeds=500, compare=False)["right"] <= 0.01


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("steady: ")])
def test_steady_curves_under_noise(name):
    assert measure(CASES[name], seeds=60, compare=False)["right"] >= 0.9


@pytest.mark.parametrize(
    "name", [name for name in CASES if name.startswith(("parity", "hier", "loss", "evaluated", "a spike"))]
)
def test_known_transitions_and_no_others(name):
    assert measure(CASES[name], seeds=40, compare=False)["right"] >= 0.85


def test_the_papers_teacher_gets_a_checkpoint_inside_its_transition():
    """6M and 7M steps are outside of it, 6.5M inside (Panigrahi et al. 2024, section 3)."""
    case = parity(6.5, 0.6, "")
    for seed in range(50):
        (choice,) = select_checkpoints(
            case.draw(np.random.default_rng(seed)), range(100_000, 8_000_001, 100_000)
        )
        assert 6_400_000 <= choice.step <= 6_600_000
        assert not choice.transition.holds(6_000_000)
        assert not choice.transition.holds(7_000_000)


def test_noise_is_measured_where_it_is():
    rng = np.random.default_rng(0)
    steady = np.array([local_noise(rng.normal(0, 1, 80)).mean() for _ in range(300)])
    assert steady.mean() == pytest.approx(1, abs=0.05)
    assert steady.std() < 0.2
    # an accuracy that reaches 1: no noise from there on, and the noise before it is not averaged away
    noise = local_noise(np.concatenate([rng.normal(0.5, 0.01, 40), np.ones(120)]))
    assert noise[:20] == pytest.approx(np.full(20, 0.01), rel=0.5)
    assert (noise[-60:] < 0.002).all()
    assert local_noise(np.linspace(0, 1, 50)) == pytest.approx(np.full(50, 0.002))


# --- the plain twin of the line's breaks --------------------------------------------------------------------


def plain_cost(steps, values, noise, breaks):
    """Weighted squares around each piece's straight line, by `polyfit`, and the price of the pieces."""
    total = 0.0
    for a, b in breaks:
        if b - a > 2:
            line = np.polyfit(steps[a:b], values[a:b], 1, w=1 / noise[a:b])
            total += float((((values[a:b] - np.polyval(line, steps[a:b])) / noise[a:b]) ** 2).sum())
    return total + PENALTY * math.log(len(steps)) * len(breaks)


def plain_optimum(steps, values, noise):
    """The least cost of all ways to break the curve, by dynamic programming over all last pieces."""
    best = [0.0]
    price = PENALTY * math.log(len(steps))
    for b in range(1, len(steps) + 1):
        n = [plain_cost(steps, values, noise, [(a, b)]) - price for a in range(b)]
        best.append(min(best[a] + n[a] + price for a in range(b)))
    return best[-1]


@given(st.integers(0, 10_000), st.integers(8, 22))
def test_breaks_are_the_best_there_are(seed, count):
    rng = np.random.default_rng(seed)
    steps = np.cumsum(rng.uniform(0.5, 2, count))
    values = np.cumsum(rng.choice([0.0, 0.0, 5.0, -4.0], count)) + rng.normal(0, 1, count)
    noise = rng.uniform(0.5, 1.5, count)
    breaks = find_breaks(steps, values, noise)
    assert [a for a, _ in breaks] == [0, *(b for _, b in breaks[:-1])]
    assert breaks[-1][1] == count
    assert plain_cost(steps, values, noise, breaks) == pytest.approx(
        plain_optimum(steps, values, noise), rel=1e-6
    )


# --- checkpoints --------------------------------------------------------------------------------------------


def transition(start: float, end: float, change: float = 0.5) -> PhaseTransition:
    return PhaseTransition(tuple(np.linspace(start, end, 9)), 0.5, 0.5 + change, 10.0)


SMALL, LARGE, MIDDLE = transition(100, 180, 0.1), transition(300, 380, 0.6), transition(500, 580, 0.3)
EVERY_10 = range(0, 1000, 10)


@pytest.mark.parametrize(
    ("shots", "steps"),
    [
        (None, [140, 340, 540]),
        (2, [340]),
        (3, [340, 540]),
        (4, [140, 340, 540]),
        (5, [140, 320, 360, 540]),  # a third and two thirds of 0.1 … 0.9 lie at 323 and 357
        (6, [140, 320, 360, 520, 560]),
        (7, [120, 160, 320, 360, 520, 560]),
    ],
)
def test_which_checkpoints_are_chosen(shots, steps):
    chosen = choose_checkpoints([SMALL, LARGE, MIDDLE], EVERY_10, shots)
    assert [choice.step for choice in chosen] == steps
    assert all(choice.transition.holds(choice.step) for choice in chosen)


def test_the_way_made_counts_not_the_middle_of_the_steps():
    late = replace(LARGE, tenths=(300, 340, 350, 360, 365, 368, 371, 374, 380))
    (choice,) = choose_checkpoints([late], EVERY_10)
    assert choice.step == 360
    assert choice.way == pytest.approx(0.4)


def test_a_transition_that_is_full_leaves_its_turn_to_the_next():
    available = [140, 340, 510, 520, 540, 560]
    assert [choice.step for choice in choose_checkpoints([SMALL, LARGE, MIDDLE], available, 5)] == [
        140,
        340,
        520,
        560,
    ]
    assert [choice.step for choice in choose_checkpoints([SMALL, LARGE, MIDDLE], available, 7)] == available
    with pytest.raises(ConfigError) as error:
        choose_checkpoints([SMALL, LARGE, MIDDLE], available, 8)
    assert (
        one_line(error) == "shots: 8 asks for 7 checkpoints; accepted: at most 7, as 6 lie inside transitions"
    )


@pytest.mark.parametrize(
    ("available", "shots", "message"),
    [
        (EVERY_10, 1, r"shots: 1; accepted: from 2"),
        (EVERY_10, 0, r"shots: 0; accepted: from 2"),
        (
            [200, 290, 390],
            2,
            r"from step 300 to 380 \(the nearest is 290\); accepted: a run that keeps one at least every 80"
            " steps",
        ),
        ([], None, r"from step 300 to 380 \(none is kept\)"),
        ([340, 540], None, r"from step 100 to 180 \(the nearest is 340\)"),
    ],
)
def test_checkpoints_that_cannot_be_chosen(available, shots, message):
    with pytest.raises(ConfigError, match=message) as error:
        choose_checkpoints([SMALL, LARGE, MIDDLE], available, shots)
    one_line(error)
    assert choose_checkpoints(
        [SMALL, LARGE, MIDDLE], [300, 340, 540], 3
    )  # a checkpoint on the edge is inside


def test_no_transition_to_choose_from():
    with pytest.raises(
        ConfigError,
        match=r"no phase transition: the curve is flat, at 0.5; accepted: checkpoints named by hand",
    ):
        select_checkpoints(Curve(STEPS, np.full(80, 0.5), rises=True), [1, 2], 2)


# --- progressive till saturation ----------------------------------------------------------------------------


def test_till_saturation_is_a_duration():
    """docs/selection.md's recipe, from Python and from YAML."""
    stage = Duration.plateau(5, limit=2_000_000)
    curriculum = progressive([6_300_000, 6_500_000], stage=stage, final=stage)
    assert [(s.teacher, s.target, s.duration) for s in curriculum] == [
        (TeacherRef.checkpoint(6_300_000), Logits(), stage),
        (TeacherRef.checkpoint(6_500_000), Logits(), stage),
        (TeacherRef.final(), Logits(), stage),
    ]
    entries = [
        f"- {{name: checkpoint-{n}, teacher: {{checkpoint: {n}}}, target: logits, duration: PLATEAU}}"
        for n in (6300000, 6500000)
    ]
    text = "\n".join([*entries, "- {name: final, target: logits, duration: PLATEAU}"])
    assert from_yaml(text.replace("PLATEAU", "{plateau: 5, limit: 2000000}")) == curriculum


def test_importing_it_loads_nothing_heavy():
    heavy = {"torch", "numba", "ruptures", "scipy", "matplotlib"}
    code = f"import sys, vigreux.selection; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
