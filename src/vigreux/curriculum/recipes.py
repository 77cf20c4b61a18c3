"""The methods of the papers, each a builder that returns a short list of stages. Pure functions: no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from vigreux.curriculum import (
    Curriculum,
    Duration,
    Hidden,
    Labels,
    Logits,
    Projection,
    Scaling,
    Stage,
    Target,
    TeacherRef,
)
from vigreux.errors import ConfigError

WHOLE = Duration.share(1.0)


def supervised(*, final: Duration = WHOLE) -> Curriculum:
    """Training on the labels, without a teacher: the baseline."""
    return (Stage("labels", TeacherRef.labels(), Labels(), None, final),)


def one_shot(*, target: Target | None = None, final: Duration = WHOLE) -> Curriculum:
    """The final teacher throughout (Hinton et al. 2015; the papers' one-shot distillation)."""
    return (Stage("final", TeacherRef.final(), target or Logits(), None, final),)


def progressive(
    checkpoints: Sequence[int],
    *,
    target: Target | None = None,
    stage: Duration | None = None,
    final: Duration | None = None,
) -> Curriculum:
    """Every checkpoint in turn, then the final teacher (Panigrahi et al. 2024, section 2).

    `checkpoints` are steps of the teacher's run, without the final one. Without durations, all stages get the
    same share.
    """
    target = target or Logits()
    if not checkpoints:
        raise ConfigError(
            "checkpoints: progressive distillation needs at least one checkpoint before the final teacher"
        )
    if sorted(set(checkpoints)) != list(checkpoints):
        raise ConfigError(f"checkpoints: {list(checkpoints)} are not in rising order without repeats")
    if (stage is None) != (final is None) and (stage or final).unit != "share":  # type: ignore[union-attr]
        raise ConfigError("progressive: give both stage and final, or neither")
    n = len(checkpoints)
    stage, final = _fill_shares(stage, final, n, default_stage=1 / (n + 1))
    return tuple(
        Stage(f"checkpoint-{step}", TeacherRef.checkpoint(step), target, None, stage) for step in checkpoints
    ) + one_shot(target=target, final=final)


def p_shot(
    checkpoints: Sequence[int],
    *,
    target: Target | None = None,
    stage: Duration | None = None,
    final: Duration | None = None,
) -> Curriculum:
    """`p − 1` chosen checkpoints, then the final teacher (Panigrahi et al. 2024, section 3: 2-shot, 3-shot).

    The default gives each checkpoint 15 % of the budget, and all of them together at most half. The papers
    give a twentieth, 1M of 20M steps. That suits a budget of three times the teacher's steps. With as many
    steps as the teacher took, the student learns nothing from it (docs/parity.md).
    """
    n = len(checkpoints)
    if stage is None and final is None:
        stage = Duration.share(min(0.15, 0.5 / max(n, 1)))
    return progressive(checkpoints, target=target, stage=stage, final=final)


def extraction(
    *,
    layers: Mapping[int, int] | None = None,
    student_layers: int | None = None,
    teacher_layers: int | None = None,
    stages: int | None = None,
    hidden_share: float = 0.2,
    stage: Duration | None = None,
    final: Duration | None = None,
    target: Target | None = None,
    projection: Projection | None = None,
    scaling: Scaling = "unit",
) -> Curriculum:
    """Hidden layers of the final teacher in order, then its logits (Gupta and Karmalkar 2025).

    `layers` pairs teacher layer → student depth, both rising. Without it, `pair_layers` spreads `stages`
    pairs evenly over the two models (default: one for each student block but the last). Together the hidden
    stages take `hidden_share` of the budget, in equal parts.
    """
    if layers is None:
        if student_layers is None or teacher_layers is None:
            raise ConfigError(
                "extraction: give layers (teacher layer: student depth), or the numbers of blocks of both"
                " models"
            )
        layers = pair_layers(teacher_layers, student_layers, stages)
    _check_pairing(layers, student_layers, teacher_layers)
    if stage is None and not 0 < hidden_share < 1:
        raise ConfigError(f"extraction.hidden_share: {hidden_share!r}; accepted: between 0 and 1")
    stage, final = _fill_shares(stage, final, len(layers), default_stage=hidden_share / len(layers))
    projection = projection or Projection()
    hidden = tuple(
        Stage(f"hidden-{t}-to-{s}", TeacherRef.final(), Hidden(t, projection, scaling), s, stage)
        for t, s in sorted(layers.items())
    )
    return hidden + one_shot(target=target, final=final)


def pair_layers(teacher_layers: int, student_layers: int, stages: int | None = None) -> dict[int, int]:
    """Even pairs teacher layer → student depth: depth `s` with layer `round(s · L_T / L_S)`.

    The default has a pair for every student depth but the last, which the final stage covers. A student of
    one block has one pair.

    >>> pair_layers(6, 3)
    {2: 1, 4: 2}
    """
    if student_layers > teacher_layers:
        raise ConfigError(
            f"student.layers: {student_layers} is deeper than the teacher's {teacher_layers} blocks; give"
            " extraction.layers by hand"
        )
    available = list(range(1, max(student_layers, 2)))
    count = len(available) if stages is None else stages
    if not 1 <= count <= max(student_layers, 1):
        raise ConfigError(
            f"extraction.stages: {count}; accepted: 1 to {student_layers}, the student's number of blocks"
        )
    if count > len(available):
        available.append(student_layers)
    depths = [available[round((i + 1) * len(available) / count) - 1] for i in range(count)]
    return {round(s * teacher_layers / student_layers): s for s in depths}


def _check_pairing(layers: Mapping[int, int], student_layers: int | None, teacher_layers: int | None) -> None:
    pairs = sorted(layers.items())
    if not pairs:
        raise ConfigError(
            "extraction.layers: no pair; accepted: a mapping from teacher layer to student depth, such as"
            " {2: 1, 4: 2}"
        )
    depths = [s for _, s in pairs]
    if sorted(set(depths)) != depths:
        raise ConfigError(
            f"extraction.layers: {dict(pairs)} pairs a deeper teacher layer with no deeper student; both must"
            " rise"
        )
    for what, deepest, blocks in (
        ("teacher layer", pairs[-1][0], teacher_layers),
        ("student depth", depths[-1], student_layers),
    ):
        if blocks is not None and deepest > blocks:
            model = what.split()[0]
            raise ConfigError(
                f"extraction.layers: {what} {deepest} is outside the {model}, which has {blocks} blocks"
            )


def _fill_shares(
    stage: Duration | None, final: Duration | None, count: int, default_stage: float
) -> tuple[Duration, Duration]:
    """Completes the two durations: the final stage takes the share that the `count` equal stages leave."""
    if stage is None:
        share = (1 - final.value) / count if final is not None and final.unit == "share" else default_stage
        stage = Duration.share(share)
    if final is None:
        remainder = 1.0
        if stage.unit == "share":
            remainder -= count * stage.value
        if remainder <= 0:
            raise ConfigError(f"stage: {count} stages of {stage} leave nothing for the final one")
        final = Duration.share(remainder)
    return stage, final


# name in configurations → builder; the only list of the methods' names
BUILDERS: dict[str, Callable[..., Curriculum]] = {
    "supervised": supervised,
    "one-shot": one_shot,
    "progressive": progressive,
    "p-shot": p_shot,
    "extraction": extraction,
}
