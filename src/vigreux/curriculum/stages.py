"""A curriculum is a sequence of stages. A stage says who teaches, what is matched, how deep, and for how long.

Every method of the papers is a short list of stages, made by the builders in `vigreux.curriculum.recipes`; nothing else in the
library knows method names. All types are frozen and pure (no torch), and are checked when they are built.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from vigreux.checks import (
    Accepts,
    Depth,
    FileName,
    Location,
    NonNegativeInt,
    PositiveInt,
    PositiveNumber,
    Seed,
    ShareFromZero,
    check_fields,
    check_value,
)
from vigreux.errors import ConfigError, shown

DurationUnit = Literal["steps", "samples", "tokens", "epochs", "share", "plateau"]
Divergence = Literal["forward-kl", "soft-cross-entropy", "reverse-kl", "jensen-shannon"]
ProjectionKind = Literal["gaussian", "orthogonal", "sparse", "pca", "identity", "learned"]
Scaling = Literal["unit", "per-dimension", "none"]
Pooling = Literal["mean", "cls", "last"]
Positions = Literal["all", "predicted"]
Temperature = Annotated[
    float,
    Field(ge=1e-30, le=1e6, allow_inf_nan=False),
    Accepts("a positive number from 1e-30 to 1e6 (1e-20 is the papers' smallest)"),
]
Alpha = Annotated[
    float,
    Field(ge=0, lt=1, allow_inf_nan=False),
    Accepts("a number from 0 to below 1 (for labels alone use the target 'labels')"),
]
Layer = Annotated[
    int,
    Field(ge=0, le=10**4),
    Accepts("a whole number from 0 (embeddings) to the teacher's number of blocks"),
]
Weight = Annotated[
    float,
    Field(gt=0, le=1e6, allow_inf_nan=False),
    Accepts("a positive number up to 1e6 (without hidden states: the target 'logits')"),
]

MIN_DELTA = 0.01  # of a plateau: the smallest relative improvement that counts, where nothing else is said

# --- how long -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Duration:
    """How long a stage lasts: a value and its unit. Use the constructors (`Duration.steps(500)`).

    `share` is a fraction of the whole run's budget, resolved by `resolve_steps` once the budget is known; `plateau` ends
    when the evaluated loss has not improved by `min_delta` in `value` evaluations, and at `limit` steps in any case.
    """

    value: PositiveNumber
    unit: DurationUnit
    min_delta: ShareFromZero = 0.0  # plateau only: the smallest relative improvement that counts
    limit: NonNegativeInt = 0  # plateau only: steps after which the stage ends in any case

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
            raise ConfigError(
                "duration.plateau: needs limit, the steps after which the stage ends in any case"
            )

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
        """Until `patience` evaluations in a row improve the loss by less than `min_delta` (relative), at most `limit` steps."""
        return cls(patience, "plateau", min_delta, limit)

    def __str__(self) -> str:
        if self.unit == "share":
            return f"{100 * self.value:g} % of the budget"
        if self.unit == "plateau":
            return f"plateau of {self.value:g} evaluations, at most {self.limit} steps"
        return f"{self.value:g} {self.unit}" if self.unit == "epochs" else f"{int(self.value)} {self.unit}"


# --- who teaches ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TeacherRef:
    """Who teaches: the labels, the final teacher, a checkpoint of its run (by step), or another model (a path or hub id)."""

    kind: Literal["labels", "final", "checkpoint", "model"]
    step: NonNegativeInt | None = None
    model: Location | None = None

    def __post_init__(self) -> None:
        check_fields(self, "teacher")
        if (self.kind == "checkpoint") != (self.step is not None):
            raise ConfigError(
                f"teacher: a step belongs to a checkpoint, and only to one (kind {self.kind!r}, step {self.step!r})"
            )
        if (self.kind == "model") != (self.model is not None):
            raise ConfigError(
                f"teacher: a model path belongs to kind 'model', and only to it (found {self.kind!r})"
            )

    @classmethod
    def labels(cls) -> TeacherRef:
        """No teacher model: the data's own labels."""
        return cls("labels")

    @classmethod
    def final(cls) -> TeacherRef:
        """The trained teacher."""
        return cls("final")

    @classmethod
    def checkpoint(cls, step: int) -> TeacherRef:
        """The checkpoint the teacher's run kept at `step`."""
        return cls("checkpoint", step=step)

    @classmethod
    def other(cls, model: str) -> TeacherRef:
        """Another model with the same vocabulary or classes: a directory or a hub id."""
        return cls("model", model=model)

    def __str__(self) -> str:
        return {"checkpoint": f"checkpoint {self.step}", "model": str(self.model)}.get(self.kind, self.kind)


# --- what is matched ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Projection:
    """A fixed map from teacher width `d_T` to student width `d_S`, a function of its kind and seed alone (PCA: and of the data).

    Stages with equal projections share one matrix. `learned` is trained with the stage and thrown away after it; no kind is
    saved inside the student.
    """

    kind: ProjectionKind = "gaussian"
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self, "projection")

    def __str__(self) -> str:
        return self.kind if self.kind in ("pca", "identity") else f"{self.kind}/{self.seed}"


@dataclass(frozen=True)
class Labels:
    """Cross-entropy with the data's labels."""

    def __str__(self) -> str:
        return "labels"


@dataclass(frozen=True)
class Logits:
    """The teacher's distribution over classes or tokens.

    `L = α · CE(student, label) + (1 − α) · D(softmax(f_T / τ), softmax(f_S / τ_S)) · τ_S²`, with `τ` the `temperature` and
    `τ_S` the `student_temperature`.

    The papers soften the teacher alone (`τ_S = 1`); Hinton et al. (2015) soften both (`τ_S = τ`), and the factor keeps their
    gradient scale. `top_k` keeps the teacher's k most likely entries, renormalised.
    """

    temperature: Temperature = 1.0
    alpha: Alpha = 0.0
    top_k: PositiveInt | None = None
    divergence: Divergence = "soft-cross-entropy"
    student_temperature: Temperature = 1.0

    def __post_init__(self) -> None:
        check_fields(self, "logits")

    def __str__(self) -> str:
        extra = [f"τ={self.temperature:g}"] if self.temperature != 1 else []
        extra += [f"α={self.alpha:g}"] if self.alpha else []
        extra += [f"top {self.top_k}"] if self.top_k else []
        extra += [self.divergence] if self.divergence != "soft-cross-entropy" else []
        return f"logits ({', '.join(extra)})" if extra else "logits"


@dataclass(frozen=True)
class Hidden:
    """The teacher's hidden states after block `layer`, projected to the student's width: `mean (h_S − s · h_T P)²`.

    `layer` counts as Hugging Face `hidden_states` does: 0 is the embeddings, `L` the last block (with the final norm, where
    the architecture has one); of a two-layer network 1 is its hidden layer and 2 its logits. `scaling` sets `s`: `unit` divides by
    the standard deviation of the projected targets (one scalar, measured on the first training batches), `per-dimension` by each
    dimension's own, `none` leaves them. `positions` says over which tokens the mean goes: `all` but padding, or those that the task
    asks for (`predicted`: the masked ones of a masked language model). Without `final_norm` the last hidden state of either model,
    where it is matched, is the one that its final norm would be given.
    """

    layer: Layer
    projection: Projection = field(default_factory=Projection)
    scaling: Scaling = "unit"
    positions: Positions = "all"
    final_norm: bool = True

    def __post_init__(self) -> None:
        check_fields(self, "hidden")

    def __str__(self) -> str:
        extra = ["predicted tokens"] if self.positions == "predicted" else []
        extra += [] if self.final_norm else ["before the final norm"]
        return f"hidden {self.layer} ({', '.join([str(self.projection), *extra])})"


@dataclass(frozen=True)
class Embedding:
    """The teacher's pooled sentence embedding, projected to the student's width."""

    pooling: Pooling = "mean"
    projection: Projection = field(default_factory=Projection)
    scaling: Scaling = "unit"

    def __post_init__(self) -> None:
        check_fields(self, "embedding")

    def __str__(self) -> str:
        return f"{self.pooling}-pooled embedding ({self.projection})"


@dataclass(frozen=True)
class Joint:
    """Hidden states and logits at once: `L = L_logits + weight · L_hidden`. The stage's depth says which states of the student.

    What a curriculum without an order would match; the ablation of curriculum extraction (arXiv 2503.17494).
    """

    hidden: Hidden
    logits: Logits
    weight: Weight = 1.0

    def __post_init__(self) -> None:
        check_fields(self, "joint")

    def __str__(self) -> str:
        weight = f"{self.weight:g} × " if self.weight != 1 else ""
        return f"{self.logits} + {weight}{self.hidden}"


Target = Labels | Logits | Hidden | Embedding | Joint


def hidden_part(target: Target) -> Hidden | None:
    """What a target matches of hidden states, alone or beside the logits; `None` where it matches none."""
    if isinstance(target, Joint):
        return target.hidden
    return target if isinstance(target, Hidden) else None


# --- the stage and the curriculum -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """One complete training run on the first `depth` blocks of the student (`None`: the whole student).

    Of a joint target `depth` says which of the student's hidden states is matched; the whole student runs. What the student's
    hidden state `frozen` depends on keeps its weights (0: the embeddings, and a head that is tied to them; `None`: all is trained).
    """

    name: FileName
    teacher: TeacherRef
    target: Target
    depth: Depth | None
    duration: Duration
    frozen: Depth | None = None

    def __post_init__(self) -> None:
        where = f"stage {shown(self.name)}"
        check_fields(self, where)
        if isinstance(self.target, Labels) != (self.teacher.kind == "labels"):
            raise ConfigError(
                f"{where}: the target 'labels' goes with the teacher 'labels', any other target with a model"
            )
        if self.depth is not None and not isinstance(self.target, (Hidden, Joint)):
            raise ConfigError(
                f"{where}: depth {self.depth} needs a hidden target; {self.target} is matched by the whole student"
            )
        if self.frozen is not None and self.depth is not None and self.frozen >= self.depth:
            raise ConfigError(
                f"{where}: frozen {self.frozen}; accepted: 0 (embeddings) up to below the stage's depth"
            )


Curriculum = tuple[Stage, ...]


def check_curriculum(
    curriculum: Curriculum, *, student_layers: int | None = None, teacher_layers: int | None = None
) -> None:
    """Raises `ConfigError` unless the stages have distinct names and fit the two models and one budget."""
    if not curriculum:
        raise ConfigError("curriculum: no stages")
    names = [stage.name for stage in curriculum]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"curriculum: two stages are named {twice[0]!r}")
    shares = sum(stage.duration.value for stage in curriculum if stage.duration.unit == "share")
    if shares > 1 + 1e-9:
        raise ConfigError(f"curriculum: the stages' shares add up to {shares:g}; accepted: at most 1")
    for stage in curriculum:
        hidden = hidden_part(stage.target)
        if hidden is not None and teacher_layers is not None and hidden.layer > teacher_layers:
            raise ConfigError(
                f"stage {stage.name!r}: hidden layer {hidden.layer} is outside the teacher, which has {teacher_layers} blocks"
            )
        if stage.depth is not None and student_layers is not None and stage.depth > student_layers:
            raise ConfigError(
                f"stage {stage.name!r}: depth {stage.depth} is outside the student, which has {student_layers} blocks"
            )
        if stage.frozen is not None and student_layers is not None and stage.frozen > student_layers:
            raise ConfigError(
                f"stage {stage.name!r}: frozen {stage.frozen} is outside the student, which has {student_layers} blocks"
            )


def shared_projection(curriculum: Curriculum) -> Projection | None:
    """The projection of the first stage that matches hidden states, which projected embeddings take; `None` without one."""
    hidden = (hidden_part(stage.target) for stage in curriculum)
    return next((target.projection for target in hidden if target is not None), None)


def resolve_steps(
    curriculum: Curriculum,
    budget: int,
    *,
    batch_size: int,
    train_samples: int | None,
    tokens_per_sample: int = 1,
) -> tuple[int, ...]:
    """Optimiser steps of each stage; a plateau stage counts with its limit.

    Shares are cut at the rounded cumulative share, so that a curriculum of shares that add to 1 takes exactly `budget` steps.
    Raises `ConfigError` where a stage gets no step, or is counted in epochs of data that have no end (`train_samples` is `None`).
    """
    steps: list[int] = []
    cumulative = 0.0
    for stage in curriculum:
        value, unit = stage.duration.value, stage.duration.unit
        if unit == "share":
            start, cumulative = round(cumulative * budget), cumulative + value
            steps.append(round(cumulative * budget) - start)
        else:
            if unit == "epochs" and train_samples is None:
                raise ConfigError(
                    f"stage {stage.name!r}: epochs of data that are drawn without end; accepted: steps, samples, tokens"
                )
            samples = {
                "samples": value,
                "tokens": value / tokens_per_sample,
                "epochs": value * (train_samples or 0),
            }
            exact = {"steps": value, "plateau": float(stage.duration.limit)}
            steps.append(int(exact[unit]) if unit in exact else math.ceil(samples[unit] / batch_size - 1e-9))
        if steps[-1] < 1:
            raise ConfigError(
                f"stage {stage.name!r}: {stage.duration} of a budget of {budget} steps is no step at all"
            )
    return tuple(steps)


def table(curriculum: Curriculum) -> str:
    """The stages as an aligned text table: name, teacher, target, depth, duration."""
    rows = [("stage", "teacher", "target", "depth", "duration")]
    rows += [(s.name, str(s.teacher), str(s.target), _depth(s), str(s.duration)) for s in curriculum]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )


def _depth(stage: Stage) -> str:
    depth = "whole" if stage.depth is None else str(stage.depth)
    return depth if stage.frozen is None else f"{depth}, {stage.frozen} frozen"
