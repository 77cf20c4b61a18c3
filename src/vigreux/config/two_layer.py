"""The configuration of a two-layer network's run on a parity task. It imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, get_args

from pydantic import Field

from vigreux.checks import (
    Accepts,
    Location,
    LocationOrNone,
    PositiveInt,
    Seed,
    ShareFromZero,
    Size,
    check_fields,
)
from vigreux.config.shared import BudgetConfig, Carry, ExtractionConfig, LossConfig, Stages, Steps
from vigreux.errors import ConfigError

BooleanKind = Literal["parity", "hierarchical-parity"]
Decay = Literal["constant", "cosine"]
TwoLayerLoss = Literal["cross-entropy", "hinge"]
Match = Literal["before-relu", "after-relu"]
LearningRate = Annotated[
    float, Field(gt=0, le=1e20, allow_inf_nan=False), Accepts("a positive number up to 1e20")
]
NonNegativeNumber = Annotated[
    float, Field(ge=0, le=1e6, allow_inf_nan=False), Accepts("a number from 0 to 1e6")
]
Threads = Annotated[int, Field(ge=1, le=1024), Accepts("a whole number from 1 to 1024")]
TWO_LAYER_KINDS: tuple[str, ...] = get_args(BooleanKind)


@dataclass(frozen=True)
class BooleanTaskConfig:
    """A classification of uniform vectors in {±1}^n.

    Args:
        kind: parity or hierarchical-parity.
        n: length of an input.
        k: number of coordinates of the support, or of each feature of hierarchical parity.
        classes: number of classes of hierarchical parity, a power of two. The tree has `classes − 1`
            features.
        support: the coordinates of parity, from 0. Default: drawn with `seed`.
        features: the sets of coordinates of hierarchical parity, node by node in heap order. Default: drawn
            with `seed`.
        seed: seed of the support or the features.
        data_seed: seed of the endless stream of samples, which all students of a comparison share.
        eval_samples: number of held-out samples.
    """

    kind: BooleanKind = "parity"
    n: PositiveInt = 100
    k: PositiveInt = 6
    classes: Size = 8
    support: list[int] | None = None
    features: list[list[int]] | None = None
    seed: Seed = 0
    data_seed: Seed = 0
    eval_samples: PositiveInt = 4096

    def __post_init__(self) -> None:
        check_fields(self, "task")


@dataclass(frozen=True)
class TwoLayerTeacherConfig:
    """The trained network.

    Args:
        model: the run folder of `vigreux teach`, or a folder with model.safetensors and config.json.
        checkpoints: a folder with `checkpoint-STEP` folders. Default: those of the run folder.
    """

    model: LocationOrNone = ""
    checkpoints: Location | None = None

    def __post_init__(self) -> None:
        check_fields(self, "teacher")


@dataclass(frozen=True)
class NetworkConfig:
    """The network that is trained.

    Args:
        width: hidden units.
        dtype: float32 or float64.
    """

    width: PositiveInt = 100
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        check_fields(self, "student")


@dataclass(frozen=True)
class SGDConfig:
    """SGD on fresh samples, each seen once: the papers' online SGD.

    Args:
        learning_rate: of the stages that match labels or logits.
        hidden_learning_rate: of the stages that match the hidden layer. Default: `learning_rate`. A joint
            stage of weight w runs at the smaller of `learning_rate` and `hidden_learning_rate / w`.
        decay: constant, or cosine to 0 after a linear warm-up.
        warmup_share: share of the steps for the warm-up of the cosine.
        weight_decay: of all parameters.
        batch_size: samples of a step.
        loss: cross-entropy or hinge.
        match: what hidden stages match: the hidden layer before or after its ReLU.
        threads: number of threads for wide networks. Default: all cores.
        eval_every: steps between evaluations.
        save_every: steps between checkpoints. Default: 20 checkpoints in a run.
        keep_checkpoints: keep all checkpoints, as teachers for progressive distillation.
    """

    learning_rate: LearningRate = 5e-3
    hidden_learning_rate: LearningRate | None = None
    decay: Decay = "cosine"
    warmup_share: ShareFromZero = 0.06
    weight_decay: NonNegativeNumber = 0.0
    batch_size: PositiveInt = 1
    loss: TwoLayerLoss = "cross-entropy"
    match: Match = "before-relu"
    threads: Threads | None = None
    eval_every: PositiveInt = 100_000
    save_every: PositiveInt | None = None
    keep_checkpoints: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "training")
        if not 0 <= self.weight_decay * self.learning_rate <= 0.1:
            raise ConfigError(
                f"training.weight_decay: {self.weight_decay!r}; accepted: 0 to 0.1 / learning_rate"
            )


def _parity_extraction() -> ExtractionConfig:
    return ExtractionConfig(projection="sparse")


@dataclass(frozen=True)
class TwoLayerConfig:
    """Everything one run needs.

    Args:
        task: what is learned.
        teacher: the trained network; not needed for `supervised`.
        student: the network that is trained.
        curriculum: supervised, one-shot, progressive, p-shot, extraction, a YAML file of stages, or the
            stages themselves.
        loss: how logits are matched.
        extraction: the hidden stage of extraction.
        checkpoints: steps of the teacher's checkpoints that progressive and p-shot use. Default: the whole
            series (progressive).
        budget: the number of steps.
        schedule: whether the learning-rate schedule starts anew at each stage (per-stage) or runs once over
            all stages (carried).
        training: the settings of SGD.
        seed: of the student's initial weights.
        output: the run folder.
    """

    task: BooleanTaskConfig = field(default_factory=BooleanTaskConfig)
    teacher: TwoLayerTeacherConfig = field(default_factory=TwoLayerTeacherConfig)
    student: NetworkConfig = field(default_factory=NetworkConfig)
    curriculum: Location | Stages = "extraction"
    loss: LossConfig = field(default_factory=LossConfig)
    extraction: ExtractionConfig = field(default_factory=_parity_extraction)
    checkpoints: Steps | None = None
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    schedule: Carry = "carried"
    training: SGDConfig = field(default_factory=SGDConfig)
    seed: Seed = 0
    output: Location = "runs/student"

    def __post_init__(self) -> None:
        check_fields(self)
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

    def for_teaching(self) -> TwoLayerConfig:
        """The run that trains a teacher: on labels, with all checkpoints kept."""
        return replace(
            self,
            curriculum="supervised",
            training=replace(self.training, keep_checkpoints=True),
            teacher=TwoLayerTeacherConfig(),
            checkpoints=None,
        )

    @property
    def keeps_series(self) -> bool:
        """Whether the run keeps its checkpoints, as teachers for progressive distillation."""
        return self.training.keep_checkpoints
