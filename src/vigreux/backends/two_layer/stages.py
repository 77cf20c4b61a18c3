"""What a stage means for a two-layer network: which targets there are, at which rate they are matched, and what a step costs."""

from __future__ import annotations

from typing import TypeGuard

from vigreux.backends.two_layer.teachers import LOGITS_LAYER, NetworkShape, layer_width
from vigreux.config.two_layer import SGDConfig
from vigreux.curriculum import Hidden, Joint, Labels, Logits, Stage, Target, hidden_part
from vigreux.distillation.projection import projection_entries
from vigreux.errors import ConfigError
from vigreux.models.two_layer import TwoLayer
from vigreux.plan.cost import StepCost

TwoLayerTarget = Labels | Logits | Hidden | Joint


def for_two_layers(target: Target) -> TypeGuard[TwoLayerTarget]:
    """Whether it is a target of two-layer networks."""
    return isinstance(target, (Labels, Logits, Hidden, Joint))


def check_stage(stage: Stage) -> None:
    """Raises `ConfigError` for a stage that two-layer networks do not have."""
    target, where = stage.target, f"stage {stage.name!r}"
    if not for_two_layers(target):
        raise ConfigError(
            f"{where}: {target} is not for two-layer networks; accepted: labels, logits, hidden, joint"
        )
    hidden = hidden_part(target)
    if hidden is not None and hidden.layer not in (1, LOGITS_LAYER):
        raise ConfigError(
            f"{where}: hidden layer {hidden.layer}; accepted: layer 1, the hidden units, or {LOGITS_LAYER}, the teacher's logits"
        )
    if isinstance(target, Hidden) and stage.depth != 1:
        raise ConfigError(
            f"{where}: hidden layer {target.layer} to depth {stage.depth}; accepted: to depth 1, the only one"
        )
    if hidden is not None and hidden != Hidden(hidden.layer, hidden.projection, hidden.scaling):
        raise ConfigError(
            f"{where}: {hidden}; accepted: positions 'all' and final_norm true, two-layer networks have neither"
        )
    if stage.frozen is not None:
        raise ConfigError(
            f"{where}: frozen {stage.frozen}; accepted: none, two-layer networks have no embeddings"
        )
    if hidden is not None and hidden.projection.kind in ("pca", "learned"):
        raise ConfigError(
            f"{where}: projection {hidden.projection.kind!r}; accepted: sparse, gaussian, orthogonal, identity"
        )
    if stage.duration.unit in ("epochs", "tokens"):
        raise ConfigError(
            f"{where}: {stage.duration} of an endless stream; accepted: steps, samples, share, plateau"
        )


def peak_rate(target: Target, settings: SGDConfig) -> float:
    """The highest learning rate of a stage.

    A joint stage has one rate η for the sum of its losses, and its hidden layer's least squares take steps of η · weight. They are
    stable below 2 / (n + 1) only, which `hidden_learning_rate` is there for: η = min(learning_rate, hidden_learning_rate / weight).
    """
    rate, of_hidden = settings.learning_rate, settings.hidden_learning_rate or settings.learning_rate
    if isinstance(target, Joint):
        return min(rate, of_hidden / target.weight)
    return of_hidden if isinstance(target, Hidden) else rate


def needs_logits(target: TwoLayerTarget) -> bool:
    """Whether a teacher is asked for its logits: to be matched, or to be projected."""
    return not isinstance(target, Hidden) or target.layer == LOGITS_LAYER


def step_cost(
    target: TwoLayerTarget, student: TwoLayer, teacher: NetworkShape | None, batch: int
) -> StepCost:
    """FLOPs of one step of a stage: the student forwards and backwards, the teacher forwards and projected."""
    own = student.n + (
        0 if isinstance(target, Hidden) else 2 * student.classes
    )  # hidden: the output layer takes no part
    asked = 2.0 * teacher_products(target, teacher, student.width) if teacher is not None else 0.0
    return StepCost(4.0 * student.width * own * batch, asked * batch)


def teacher_products(target: TwoLayerTarget, teacher: NetworkShape, width: int) -> int:
    """Multiply-adds of a teacher's answer to one sample, for a student of `width` hidden units.

    One forward pass: a joint stage reads hidden units and logits from the same.
    """
    hidden = hidden_part(target)
    projected = (
        0
        if hidden is None
        else projection_entries(hidden.projection, layer_width(teacher, hidden.layer), width)
    )
    read = teacher.width * teacher.classes if needs_logits(target) else 0
    return teacher.width * teacher.n + read + projected
