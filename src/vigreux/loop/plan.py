"""The plan of a run: the steps of each stage and the cost of one step, fixed when the run begins."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vigreux.errors import CheckpointError
from vigreux.plan.cost import StepCost


@dataclass(frozen=True)
class StagePlan:
    """The number of steps of one stage, and the cost of one step."""

    steps: int
    cost: StepCost


def plan_text(plan: Sequence[StagePlan]) -> str:
    """The plan as plan.json stores it.

    Measured seconds differ from one measurement to the next, so a resumed run must use the first plan.
    """
    return json.dumps([dataclasses.asdict(stage) for stage in plan], indent=1)


def read_plan(text: str, path: Path) -> list[StagePlan]:
    """The plan that `plan_text` wrote into `path`. Raises `CheckpointError` if it is damaged."""
    try:
        return [StagePlan(int(stage["steps"]), StepCost(**stage["cost"])) for stage in json.loads(text)]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: is damaged ({' '.join(str(error).split())}); use another output"
        ) from error
