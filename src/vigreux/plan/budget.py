"""The steps that a budget of steps, FLOPs or seconds buys. Pure arithmetic."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from vigreux.config.shared import BudgetConfig
from vigreux.curriculum import Curriculum, Stage, resolve_steps
from vigreux.errors import ConfigError
from vigreux.plan.cost import StageCost, StepCost

BUDGETS = "one of budget.steps, budget.flops, budget.seconds"  # the accepted budgets, for messages

_ROUNDING = 1 + 1e-12  # so that 3 × 0.1 does not exceed 0.3


def steps_for_budget(
    curriculum: Curriculum,
    per_step: Sequence[float],
    budget: float,
    *,
    batch_size: int,
    train_samples: int | None,
    tokens_per_sample: int = 1,
) -> int:
    """The number of steps, for `resolve_steps`, whose cost comes closest to `budget` without exceeding it.

    Stages whose duration is a share of the budget grow and shrink with it. All others are fixed and paid
    first.

    Args:
        curriculum: the stages.
        per_step: cost of one step of each stage, in the unit of `budget` (FLOPs of student and teacher, or
            seconds).
        budget: the most that the run may cost.
        batch_size, train_samples, tokens_per_sample: as for `resolve_steps`.

    Raises:
        ConfigError: the fixed stages alone, or together with one step of each other stage, cost more than
            the budget.
    """
    assert len(per_step) == len(curriculum)
    sizes: dict[str, Any] = {
        "batch_size": batch_size,
        "train_samples": train_samples,
        "tokens_per_sample": tokens_per_sample,
    }
    priced = list(zip(curriculum, per_step))
    fixed = [(stage, cost) for stage, cost in priced if stage.duration.unit != "share"]
    shares = [(stage, cost) for stage, cost in priced if stage.duration.unit == "share"]
    fixed_steps = resolve_steps(tuple(stage for stage, _ in fixed), 0, **sizes)
    spent = math.fsum(steps * cost for steps, (_, cost) in zip(fixed_steps, fixed))
    if spent > budget * _ROUNDING:
        raise ConfigError(
            f"budget: {budget:.4g} is less than the {spent:.4g} that the stages of fixed length cost"
        )
    return _largest_within(budget, spent, shares) if shares else sum(fixed_steps)


def _largest_within(budget: float, spent: float, shares: Sequence[tuple[Stage, float]]) -> int:
    """The number of steps at which the stages of `shares` cost the most within the rest of the budget.

    The cost is linear in that number, apart from the rounding of each stage. Rounding moves the cost by less
    than one step of every stage, and not always upwards. Therefore all numbers within that distance are
    tried.
    """
    stages = tuple(stage for stage, _ in shares)
    rate = math.fsum(stage.duration.value * cost for stage, cost in shares)
    slack = math.fsum(cost for _, cost in shares)

    def total_cost(steps: int) -> float:
        """Infinite if a stage gets no step."""
        try:
            resolved = resolve_steps(stages, steps, batch_size=1, train_samples=1)
        except ConfigError:
            return math.inf
        return math.fsum(n * cost for n, (_, cost) in zip(resolved, shares))

    remaining = budget - spent
    first = max(1, math.floor((remaining - slack) / rate))
    last = math.ceil((remaining + slack) / rate)
    affordable = []
    for steps in range(first, last + 1):
        cost = total_cost(steps)
        if spent + cost <= budget * _ROUNDING:
            affordable.append((cost, steps))
    if not affordable:
        shortest = spent + next(cost for cost in map(total_cost, itertools.count(1)) if cost < math.inf)
        raise ConfigError(
            f"budget: {budget:.4g} buys no step of some stage; the shortest run of every stage costs about"
            f" {shortest:.4g}"
        )
    return max(affordable)[1]


def check_budget(budget: BudgetConfig, stages: Curriculum | None, *, accepted: str = BUDGETS) -> None:
    """Raises `ConfigError` if stages are shares of a budget and there is none.

    Args:
        budget: may be empty if no stage is a share of a budget.
        stages: `None` for a recipe that is not resolved yet; its stages are shares.
        accepted: the budgets that the run accepts, for the message.
    """
    needs_budget = stages is None or any(stage.duration.unit == "share" for stage in stages)
    if needs_budget and budget == BudgetConfig():
        raise ConfigError(f"budget: missing; accepted: {accepted}")


def steps_within(
    budget: BudgetConfig, curriculum: Curriculum, costs: Sequence[StepCost | StageCost], **sizes: Any
) -> tuple[int, ...]:
    """Steps of each stage under a budget.

    Args:
        budget: in steps, FLOPs or seconds; may be empty if no stage is a share of a budget.
        curriculum: the stages.
        costs: of one step of each stage.
        sizes: as for `vigreux.curriculum.resolve_steps`.

    Raises:
        ConfigError: the budget is missing, or buys no step of some stage.
    """
    check_budget(budget, curriculum)
    steps = budget.steps or 0
    if budget.flops is not None:
        steps = steps_for_budget(curriculum, [cost.flops for cost in costs], budget.flops, **sizes)
    elif budget.seconds is not None:
        steps = steps_for_budget(curriculum, [cost.seconds or 0.0 for cost in costs], budget.seconds, **sizes)
    return resolve_steps(curriculum, steps, **sizes)
