"""The configuration of a run on a parity task: two-layer networks trained online. Pure, like `vigreux.config`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from vigreux.config import BudgetConfig, Carry, ExtractionConfig, LossConfig
from vigreux.errors import ConfigError, unknown

BooleanKind = Literal["parity", "hierarchical-parity"]
Decay = Literal["constant", "cosine"]
OnlineLoss = Literal["cross-entropy", "hinge"]
Match = Literal["before-relu", "after-relu"]
ONLINE_KINDS: tuple[str, ...] = get_args(BooleanKind)


@dataclass(frozen=True)
class BooleanTaskConfig:
    """A classification of uniform vectors in {±1}^n.

    Args:
        kind: parity or hierarchical-parity.
        n: length of an input.
        k: coordinates of the support; of each feature for hierarchical parity.
        classes: of hierarchical parity, a power of two: a tree with `classes − 1` features.
        support: the coordinates of parity, from 0; default drawn by `seed`.
        features: the sets of coordinates of hierarchical parity, node by node in heap order; default drawn by `seed`.
        seed: draws the support or the features.
        data_seed: of the endless stream of samples, which all students of a comparison share.
        eval_samples: held-out samples.
    """

    kind: BooleanKind = "parity"
    n: int = 100
    k: int = 6
    classes: int = 8
    support: list[int] | None = None
    features: list[list[int]] | None = None
    seed: int = 0
    data_seed: int = 0
    eval_samples: int = 4096

    def __post_init__(self) -> None:
        _among("task.kind", self.kind, BooleanKind)
        _from_one("task", self, "n", "k", "eval_samples")
        if self.seed < 0 or self.data_seed < 0:
            raise ConfigError("task.seed, task.data_seed: accepted: whole numbers from 0")


@dataclass(frozen=True)
class OnlineTeacherConfig:
    """The trained network.

    Args:
        model: the run folder of `vigreux teach`, or a folder with model.safetensors and config.json.
        checkpoints: a folder with `checkpoint-STEP` folders; default those of the run folder.
    """

    model: str = ""
    checkpoints: str | None = None


@dataclass(frozen=True)
class NetworkConfig:
    """The network that is trained.

    Args:
        width: hidden units.
        dtype: float32 or float64.
    """

    width: int = 100
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        _from_one("student", self, "width")


@dataclass(frozen=True)
class SGDConfig:
    """Online SGD.

    Args:
        learning_rate: of the stages that match labels or logits.
        hidden_learning_rate: of the stages that match the hidden layer; default `learning_rate`. A joint stage of weight w runs at
            the smaller of `learning_rate` and `hidden_learning_rate / w`.
        decay: constant, or cosine to 0 after a linear warm-up.
        warmup_share: of the steps, for the cosine.
        weight_decay: of all parameters.
        batch_size: samples a step.
        loss: cross-entropy or hinge.
        match: what hidden stages match: the hidden layer before or after its relu.
        threads: for wide networks; default all cores.
        eval_every: steps between evaluations.
        save_every: steps between checkpoints; default 20 of a run.
        keep_checkpoints: keep all of them, as teachers for progressive distillation.
    """

    learning_rate: float = 5e-3
    hidden_learning_rate: float | None = None
    decay: Decay = "cosine"
    warmup_share: float = 0.06
    weight_decay: float = 0.0
    batch_size: int = 1
    loss: OnlineLoss = "cross-entropy"
    match: Match = "before-relu"
    threads: int | None = None
    eval_every: int = 100_000
    save_every: int | None = None
    keep_checkpoints: bool = False

    def __post_init__(self) -> None:
        for name, kind in (("decay", Decay), ("loss", OnlineLoss), ("match", Match)):
            _among(f"training.{name}", getattr(self, name), kind)
        _from_one("training", self, "batch_size", "threads", "eval_every", "save_every")
        for name in ("learning_rate", "hidden_learning_rate"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"training.{name}: {value!r}; accepted: a positive number")
        if not 0 <= self.warmup_share < 1:
            raise ConfigError(
                f"training.warmup_share: {self.warmup_share!r}; accepted: 0 <= warmup_share < 1"
            )
        if not 0 <= self.weight_decay * self.learning_rate <= 0.1:
            raise ConfigError(
                f"training.weight_decay: {self.weight_decay!r}; accepted: 0 to 0.1 / learning_rate"
            )


def _parity_extraction() -> ExtractionConfig:
    return ExtractionConfig(projection="sparse")


@dataclass(frozen=True)
class OnlineConfig:
    """Everything one run needs.

    Args:
        task: what is learned.
        teacher: who teaches; not needed for `supervised`.
        student: what is trained.
        curriculum: supervised, one-shot, progressive, p-shot, extraction, a YAML file of stages, or the stages themselves.
        loss: how logits are matched.
        extraction: the hidden stage of extraction.
        checkpoints: steps of the teacher's checkpoints that progressive and p-shot use; default all of the series (progressive).
        budget: how many steps.
        schedule: whether the learning-rate schedule starts anew at each stage (per-stage) or runs once over all (carried).
        training: online SGD.
        seed: of the student's initial weights.
        output: the run folder.
    """

    task: BooleanTaskConfig = field(default_factory=BooleanTaskConfig)
    teacher: OnlineTeacherConfig = field(default_factory=OnlineTeacherConfig)
    student: NetworkConfig = field(default_factory=NetworkConfig)
    curriculum: str | list[dict[str, Any]] = "extraction"
    loss: LossConfig = field(default_factory=LossConfig)
    extraction: ExtractionConfig = field(default_factory=_parity_extraction)
    checkpoints: list[int] | None = None
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    schedule: Carry = "carried"
    training: SGDConfig = field(default_factory=SGDConfig)
    seed: int = 0
    output: str = "runs/student"

    def __post_init__(self) -> None:
        if self.budget.flops is not None or self.budget.seconds is not None:
            raise ConfigError("budget: parity runs are counted in steps; accepted: budget.steps")
        if self.loss.divergence not in ("soft-cross-entropy", "forward-kl") or self.loss.top_k is not None:
            raise ConfigError(
                "loss: parity runs match all logits by soft-cross-entropy (forward-kl has the same gradient)"
            )
        if self.loss.student_temperature != 1:
            raise ConfigError(
                f"loss.student_temperature: {self.loss.student_temperature!r}; accepted for parity runs: 1"
            )


def as_teaching(config: OnlineConfig) -> OnlineConfig:
    """The run that trains a teacher: on labels, all checkpoints kept."""
    training = replace(config.training, keep_checkpoints=True)
    return replace(
        config, curriculum="supervised", training=training, teacher=OnlineTeacherConfig(), checkpoints=None
    )


def _among(name: str, value: str, kind: Any) -> None:
    if value not in get_args(kind):
        raise ConfigError(unknown(name, value, get_args(kind)))


def _from_one(section: str, config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ConfigError(f"{section}.{name}: {value!r}; accepted: a whole number from 1")
