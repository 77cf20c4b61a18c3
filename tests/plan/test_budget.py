"""Steps within a budget, and a budget that is missing. The solver behind it is tested in test_cost.py."""

from __future__ import annotations

import pytest

from vigreux.config.shared import BudgetConfig
from vigreux.curriculum import Duration, Labels, Stage, TeacherRef
from vigreux.errors import ConfigError
from vigreux.plan.budget import check_budget, steps_within
from vigreux.plan.cost import StepCost

SIZES = {"batch_size": 8, "train_samples": 48, "tokens_per_sample": 10}


def stage(name: str, duration: Duration) -> Stage:
    return Stage(name, TeacherRef.labels(), Labels(), None, duration)


HALVES = (stage("a", Duration.share(0.5)), stage("b", Duration.share(0.5)))
FIXED = (stage("a", Duration.steps(5)),)
COSTS = (StepCost(0.5, 0.5, 10.0), StepCost(2.0, 1.0, 30.0))


@pytest.mark.parametrize(
    ("budget", "steps"),
    [
        (BudgetConfig(steps=10), (5, 5)),
        (BudgetConfig(flops=20), (5, 5)),
        (BudgetConfig(flops=16), (4, 4)),
        (BudgetConfig(seconds=200), (5, 5)),
    ],
)
def test_steps_within_a_budget(budget: BudgetConfig, steps: tuple[int, ...]) -> None:
    """A literal table: two stages, of which a step costs 1 and 3 FLOPs, or 10 and 30 seconds."""
    assert steps_within(budget, HALVES, COSTS, **SIZES) == steps


def test_a_budget_that_is_too_small() -> None:
    with pytest.raises(
        ConfigError,
        match="budget: 3 buys no step of some stage; the shortest run of every stage costs about 4",
    ):
        steps_within(BudgetConfig(flops=3), HALVES, COSTS, **SIZES)
    with pytest.raises(ConfigError, match="14 is less than the 15 that the stages of fixed length cost"):
        steps_within(BudgetConfig(flops=14), FIXED, COSTS[1:], **SIZES)
    assert steps_within(BudgetConfig(flops=15), FIXED, COSTS[1:], **SIZES) == (5,)


def test_a_budget_that_is_missing() -> None:
    """Stages that say how long they last need none; a recipe's stages are shares."""
    assert steps_within(BudgetConfig(), FIXED, COSTS[:1], **SIZES) == (5,)
    with pytest.raises(ConfigError, match=r"budget: missing; accepted: one of budget\.steps, budget\.flops"):
        steps_within(BudgetConfig(), HALVES, COSTS, **SIZES)
    with pytest.raises(ConfigError, match=r"budget: missing; accepted: budget\.steps$"):
        check_budget(BudgetConfig(), None, accepted="budget.steps")
    check_budget(BudgetConfig(steps=1), None)
