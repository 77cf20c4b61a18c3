"""Sections of a configuration that transformers and two-layer networks share: loss, extraction and budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from vigreux.checks import (
    Accepts,
    Blocks,
    Depth,
    PositiveInt,
    PositiveNumber,
    Seed,
    Share,
    ShareFromZero,
    check_fields,
)
from vigreux.curriculum import Divergence, Logits, Projection, ProjectionKind, Scaling, Temperature
from vigreux.errors import ConfigError

Carry = Literal["per-stage", "carried"]
Stages = Annotated[list[dict[str, Any]], Field(min_length=1)]
Steps = Annotated[list[PositiveInt], Field(min_length=1)]
Seconds = Annotated[
    float, Field(gt=0, le=1e9, allow_inf_nan=False), Accepts("a positive number up to 1e9 (30 years)")
]


@dataclass(frozen=True)
class LossConfig:
    """How stages match the teacher's logits (see `vigreux.curriculum.Logits`).

    Args:
        temperature: softens the teacher's distribution; 1e-20 makes it hard labels.
        student_temperature: softens the student's; the papers keep 1.
        alpha: weight of the cross-entropy with the labels.
        top_k: keep the teacher's k most likely entries.
        divergence: soft-cross-entropy, forward-kl, reverse-kl or jensen-shannon.
    """

    temperature: Temperature = 1.0
    student_temperature: Temperature = 1.0
    alpha: ShareFromZero = 0.0
    top_k: PositiveInt | None = None
    divergence: Divergence = "soft-cross-entropy"

    def __post_init__(self) -> None:
        check_fields(self, "loss")

    def target(self) -> Logits:
        """The stage target that these settings describe."""
        return Logits(self.temperature, self.alpha, self.top_k, self.divergence, self.student_temperature)


@dataclass(frozen=True)
class ExtractionConfig:
    """The hidden stages of curriculum extraction.

    Args:
        layers: teacher layer → student depth, both rising. Default: evenly spread.
        stages: number of hidden stages, if `layers` is not set.
        hidden_share: share of the budget for all hidden stages together.
        projection: gaussian, orthogonal, sparse, pca, identity or learned.
        projection_seed: seed of the projection.
        scaling: unit, per-dimension or none.
    """

    layers: dict[Depth, Depth] | None = None
    stages: Blocks | None = None
    hidden_share: Share = 0.2
    projection: ProjectionKind = "pca"
    projection_seed: Seed = 0
    scaling: Scaling = "unit"

    def __post_init__(self) -> None:
        check_fields(self, "extraction")

    def projected(self) -> Projection:
        """The projection of every hidden stage, and of projected embeddings."""
        return Projection(self.projection, self.projection_seed)


@dataclass(frozen=True)
class BudgetConfig:
    """How much a curriculum may spend: exactly one of the three.

    Args:
        steps: optimiser steps.
        flops: floating-point operations of student and teacher together.
        seconds: wall time on this machine, turned into steps by timing each stage first.
    """

    steps: PositiveInt | None = None
    flops: PositiveNumber | None = None
    seconds: Seconds | None = None

    def __post_init__(self) -> None:
        check_fields(self, "budget")
        units = [name for name in ("steps", "flops", "seconds") if getattr(self, name) is not None]
        if len(units) > 1:
            raise ConfigError(
                f"budget: {' and '.join(units)} are set; accepted: one of steps, flops, seconds (null for"
                " the others)"
            )
