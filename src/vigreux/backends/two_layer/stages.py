"""A stage of a two-layer network: the layers that it trains, its learning rate, and the cost of a step."""

from __future__ import annotations

from dataclasses import dataclass

from vigreux.backends.two_layer.teachers import LOGITS_LAYER, NetworkShape, layer_width
from vigreux.config.two_layer import SGDConfig
from vigreux.curriculum import Hidden, Joint, Labels, Logits, Stage, Target
from vigreux.distillation.projection import projection_entries
from vigreux.errors import ConfigError
from vigreux.models.two_layer import TwoLayer
from vigreux.plan.cost import StepCost


@dataclass(frozen=True)
class Matching:
    """A target, split by the two layers of a network.

    Args:
        hidden: the target of the hidden layer; `None` if the layer only follows the output's gradient.
        logits: the target of the output layer; `None` for labels, and if the output is not trained.
        trains_output: whether the output layer is trained.
        weight: the weight of the hidden layer's loss relative to the output's.
    """

    hidden: Hidden | None
    logits: Logits | None
    trains_output: bool
    weight: float = 1.0

    @property
    def reads_logits(self) -> bool:
        """Whether the stage reads a teacher's logits, to match them or to project them."""
        return self.trains_output or (self.hidden is not None and self.hidden.layer == LOGITS_LAYER)


def matching_of(target: Target, stage_name: str = "") -> Matching:
    """The `Matching` of a target. Raises `ConfigError` if two-layer networks do not support the target."""
    if isinstance(target, Labels | Logits):
        return Matching(None, target if isinstance(target, Logits) else None, True)
    if isinstance(target, Hidden):
        return Matching(target, None, False)
    if isinstance(target, Joint):
        return Matching(target.hidden, target.logits, True, target.weight)
    raise ConfigError(
        f"stage {stage_name!r}: {target} is not for two-layer networks; accepted: labels, logits, hidden,"
        " joint"
    )


def check_stage(stage: Stage) -> None:
    """Raises `ConfigError` if two-layer networks do not support the stage."""
    matching = matching_of(stage.target, stage.name)
    where = f"stage {stage.name!r}"
    if matching.hidden is not None:
        _check_hidden(matching.hidden, where)
        if not matching.trains_output and stage.depth != 1:
            raise ConfigError(
                f"{where}: hidden layer {matching.hidden.layer} to depth {stage.depth}; accepted: to depth 1,"
                " the only one"
            )
    if stage.frozen is not None:
        raise ConfigError(
            f"{where}: frozen {stage.frozen}; accepted: none, two-layer networks have no embeddings"
        )
    if stage.duration.unit in ("epochs", "tokens"):
        raise ConfigError(
            f"{where}: {stage.duration} of an endless stream; accepted: steps, samples, share, plateau"
        )


def _check_hidden(hidden: Hidden, where: str) -> None:
    if hidden.layer not in (1, LOGITS_LAYER):
        raise ConfigError(
            f"{where}: hidden layer {hidden.layer}; accepted: layer 1, the hidden units, or {LOGITS_LAYER},"
            " the teacher's logits"
        )
    if hidden.divergence != "mse":
        raise ConfigError(
            f"{where}: hidden.divergence: {hidden.divergence!r}; accepted: 'mse', the least squares of"
            " two-layer networks"
        )
    if hidden != Hidden(hidden.layer, hidden.projection, hidden.scaling):
        raise ConfigError(
            f"{where}: {hidden}; accepted: positions 'all' and final_norm true, two-layer networks have"
            " neither"
        )
    if hidden.projection.kind in ("pca", "learned"):
        raise ConfigError(
            f"{where}: projection {hidden.projection.kind!r}; accepted: sparse, gaussian, orthogonal,"
            " identity"
        )


def peak_rate(target: Target, settings: SGDConfig) -> float:
    """The highest learning rate of a stage.

    A joint stage has one rate η for the sum of its losses. Its hidden layer's least squares take steps of
    η · weight, which are stable only below 2 / (n + 1). `hidden_learning_rate` keeps them there:
    η = min(learning_rate, hidden_learning_rate / weight).
    """
    matching = matching_of(target)
    rate = settings.learning_rate
    hidden_rate = settings.hidden_learning_rate or rate
    if matching.hidden is None:
        return rate
    return min(rate, hidden_rate / matching.weight) if matching.trains_output else hidden_rate


def step_cost(target: Target, student: TwoLayer, teacher: NetworkShape | None, batch: int) -> StepCost:
    """FLOPs of one step: the student's forward and backward pass; the teacher's forward pass, projected."""
    inputs = student.n
    if matching_of(target).trains_output:
        inputs += 2 * student.classes
    teacher_flops = 0.0
    if teacher is not None:
        teacher_flops = 2.0 * teacher_products(target, teacher, student.width)
    return StepCost(4.0 * student.width * inputs * batch, teacher_flops * batch)


def teacher_products(target: Target, teacher: NetworkShape, width: int) -> int:
    """Multiply-adds of a teacher's answer to one sample, for a student of `width` hidden units.

    This is one forward pass: a joint stage reads hidden units and logits from the same pass.
    """
    matching = matching_of(target)
    products = teacher.width * teacher.n
    if matching.reads_logits:
        products += teacher.width * teacher.classes
    if matching.hidden is not None:
        layer = layer_width(teacher, matching.hidden.layer)
        products += projection_entries(matching.hidden.projection, layer, width)
    return products
