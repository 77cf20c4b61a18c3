"""How long a stage lasts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vigreux.checks import (
    NonNegativeInt,
    PositiveInt,
    PositiveNumber,
    ShareFromZero,
    check_fields,
    check_value,
)
from vigreux.errors import ConfigError

DurationUnit = Literal["steps", "samples", "tokens", "epochs", "share", "plateau"]

MIN_DELTA = 0.01  # default of `Duration.plateau`


@dataclass(frozen=True)
class Duration:
    """How long a stage lasts: a value and its unit. Use the constructors (`Duration.steps(500)`).

    A share is a fraction of the whole run's budget; `resolve_steps` turns it into steps once the budget is
    known. A plateau ends when the evaluated loss has not improved by `min_delta` in `value` evaluations, or
    after `limit` steps.

    Args:
        value: the number of units.
        unit: steps, samples, tokens, epochs, share or plateau.
        min_delta: the smallest relative improvement that counts (plateau only).
        limit: the largest number of steps (plateau only).

    Raises:
        ConfigError: the unit does not accept the value.
    """

    value: PositiveNumber
    unit: DurationUnit
    min_delta: ShareFromZero = 0.0
    limit: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_fields(self, "duration", names={"value": str(self.unit)})
        if self.unit in ("steps", "samples", "tokens", "plateau"):
            whole = int(self.value) if self.value == int(self.value) else self.value
            check_value(f"duration.{self.unit}", whole, PositiveInt)
        if self.unit == "share" and self.value > 1:
            raise ConfigError(
                f"duration.share: {self.value!r} is more than the whole budget; accepted: 0 < share <= 1"
            )
        if self.unit == "plateau" and self.limit <= 0:
            raise ConfigError("duration.plateau: needs limit, the largest number of steps of the stage")

    @classmethod
    def steps(cls, n: int) -> Duration:
        """`n` optimiser steps."""
        return cls(n, "steps")

    @classmethod
    def samples(cls, n: int) -> Duration:
        """`n` training samples, rounded up to whole steps."""
        return cls(n, "samples")

    @classmethod
    def tokens(cls, n: int) -> Duration:
        """`n` tokens, rounded up to whole steps; a sample counts as its block size."""
        return cls(n, "tokens")

    @classmethod
    def epochs(cls, x: float) -> Duration:
        """`x` passes over the training set, rounded up to whole steps."""
        return cls(x, "epochs")

    @classmethod
    def share(cls, x: float) -> Duration:
        """A fraction `0 < x <= 1` of the run's budget."""
        return cls(x, "share")

    @classmethod
    def plateau(cls, patience: int, limit: int, min_delta: float = MIN_DELTA) -> Duration:
        """Until `patience` evaluations gain less than the share `min_delta`, or `limit` steps."""
        return cls(patience, "plateau", min_delta, limit)

    def __str__(self) -> str:
        if self.unit == "share":
            return f"{100 * self.value:g} % of the budget"
        if self.unit == "plateau":
            return f"plateau of {self.value:g} evaluations, at most {self.limit} steps"
        if self.unit == "epochs":
            return f"{self.value:g} epochs"
        return f"{int(self.value)} {self.unit}"
