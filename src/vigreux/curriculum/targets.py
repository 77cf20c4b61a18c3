"""What a stage matches: the labels, or a signal of the teacher.

Targets are frozen and pure (no torch). `vigreux.distillation.matching` applies each one to the two models.
Three class variables describe a target: whether it needs a teacher model (`needs_teacher`), whether its stage
may have a depth (`takes_depth`), and whether it trains the student's logits (`uses_logits`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from vigreux.checks import Accepts, PositiveInt, Seed, check_fields

Divergence = Literal["forward-kl", "soft-cross-entropy", "reverse-kl", "jensen-shannon"]
ProjectionKind = Literal["gaussian", "orthogonal", "sparse", "pca", "identity", "learned"]
Scaling = Literal["unit", "per-dimension", "none"]
Pooling = Literal["mean", "cls", "last"]
Positions = Literal["all", "predicted"]
HiddenDivergence = Literal["mse", "cosine"]
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


@dataclass(frozen=True)
class Projection:
    """A linear map from the teacher's width `d_T` to the student's width `d_S`.

    The matrix depends only on `kind` and `seed`; that of `pca` also depends on the teacher and the data.
    Stages with equal projections share one matrix. A `learned` projection is trained with its stage and then
    discarded. No projection is saved with the student.
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

    needs_teacher: ClassVar[bool] = False
    takes_depth: ClassVar[bool] = False
    uses_logits: ClassVar[bool] = True

    def __str__(self) -> str:
        return "labels"


@dataclass(frozen=True)
class Logits:
    """The teacher's distribution over classes or tokens.

    `L = α · CE(student, label) + (1 − α) · D(softmax(f_T / τ), softmax(f_S / τ_S)) · τ_S²`, with `τ` the
    `temperature` and `τ_S` the `student_temperature`.

    The papers soften the teacher alone (`τ_S = 1`). Hinton et al. (2015) soften both (`τ_S = τ`); the factor
    `τ_S²` then keeps the scale of the gradient.

    Args:
        temperature: τ, of the teacher.
        alpha: weight of the cross-entropy with the labels.
        top_k: count only the teacher's k most likely entries, renormalised; `None`: all.
        divergence: D.
        student_temperature: τ_S, of the student.
    """

    temperature: Temperature = 1.0
    alpha: Alpha = 0.0
    top_k: PositiveInt | None = None
    divergence: Divergence = "soft-cross-entropy"
    student_temperature: Temperature = 1.0

    needs_teacher: ClassVar[bool] = True
    takes_depth: ClassVar[bool] = False
    uses_logits: ClassVar[bool] = True

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
    """Hidden states of the teacher, projected to the student's width: `mean (h_S − s · h_T P)²`.

    Args:
        layer: counted as in Hugging Face's `hidden_states`: 0 is the embeddings, `L` the last block (after
            the final norm, if the architecture has one). In a two-layer network, 1 is the hidden layer and 2
            the logits.
        projection: P, (d_T, d_S).
        scaling: sets s. `unit` divides by the standard deviation of all projected targets, `per-dimension` by
            that of each dimension; both are measured on the first training batches. `none` leaves the targets
            as they are.
        positions: the tokens over which the mean is taken. `all`: every token but padding. `predicted`: those
            that the task predicts, such as the masked tokens of a masked language model.
        final_norm: whether the last hidden state of a model is the one after its final norm, or the one
            before.
        divergence: `mse` is the formula above. `cosine` is `mean (1 − cos(h_S, s · h_T P))`, which compares
            directions.
    """

    layer: Layer
    projection: Projection = field(default_factory=Projection)
    scaling: Scaling = "unit"
    positions: Positions = "all"
    final_norm: bool = True
    divergence: HiddenDivergence = "mse"

    needs_teacher: ClassVar[bool] = True
    takes_depth: ClassVar[bool] = True
    uses_logits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_fields(self, "hidden")

    def __str__(self) -> str:
        extra = ["predicted tokens"] if self.positions == "predicted" else []
        extra += [] if self.final_norm else ["before the final norm"]
        extra += [] if self.divergence == "mse" else [self.divergence]
        return f"hidden {self.layer} ({', '.join([str(self.projection), *extra])})"


@dataclass(frozen=True)
class Embedding:
    """The teacher's pooled sentence embedding, projected to the student's width."""

    pooling: Pooling = "mean"
    projection: Projection = field(default_factory=Projection)
    scaling: Scaling = "unit"

    needs_teacher: ClassVar[bool] = True
    takes_depth: ClassVar[bool] = False
    uses_logits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_fields(self, "embedding")

    def __str__(self) -> str:
        return f"{self.pooling}-pooled embedding ({self.projection})"


@dataclass(frozen=True)
class Joint:
    """Hidden states and logits at once: `L = L_logits + weight · L_hidden`.

    The stage's `depth` selects the student's hidden state. A joint target matches what a curriculum of hidden
    states would match, but in no order; it is the ablation of curriculum extraction (arXiv 2503.17494).
    """

    hidden: Hidden
    logits: Logits
    weight: Weight = 1.0

    needs_teacher: ClassVar[bool] = True
    takes_depth: ClassVar[bool] = True
    uses_logits: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self, "joint")

    def __str__(self) -> str:
        weight = f"{self.weight:g} × " if self.weight != 1 else ""
        return f"{self.logits} + {weight}{self.hidden}"


Target = Labels | Logits | Hidden | Embedding | Joint

# the targets by their name in YAML
TARGETS: dict[str, type] = {
    "labels": Labels,
    "logits": Logits,
    "hidden": Hidden,
    "embedding": Embedding,
    "joint": Joint,
}


def hidden_part(target: Target) -> Hidden | None:
    """The hidden states that a target matches, alone or with the logits; `None` if it matches none."""
    if isinstance(target, Joint):
        return target.hidden
    return target if isinstance(target, Hidden) else None
