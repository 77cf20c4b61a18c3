"""The methods of the papers, each a builder that returns a short list of stages. Pure functions: no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vigreux.config import RunConfig
from vigreux.curriculum import (
    Curriculum,
    Duration,
    Embedding,
    Hidden,
    Labels,
    Logits,
    Projection,
    Scaling,
    Stage,
    Target,
    TeacherRef,
    check_curriculum,
)
from vigreux.errors import ConfigError, unknown
from vigreux.online_config import OnlineConfig
from vigreux.plain import from_plain
from vigreux.yaml_files import read_yaml

WHOLE = Duration.share(1.0)


def supervised(*, final: Duration = WHOLE) -> Curriculum:
    """Training on the labels, no teacher: the baseline."""
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
    """Every checkpoint of the teacher's run in turn, then the final teacher (Panigrahi et al. 2024, section 2).

    `checkpoints` are steps of the teacher's run, the final one not among them; without durations all stages get the same share.
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

    The default gives each checkpoint 15 % of the budget, and all of them at most half. A twentieth, the papers' 1M of 20M steps,
    suits a budget of three times what the teacher took; in one of as many steps, it teaches nothing (docs/parity.md).
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

    `layers` pairs teacher layer → student depth, both rising. Without it, `pair_layers` spreads `stages` pairs evenly over
    the two models (default: one a student block but the last). Together the hidden stages take `hidden_share` of the budget,
    in equal parts.
    """
    if layers is None:
        if student_layers is None or teacher_layers is None:
            raise ConfigError(
                "extraction: give layers (teacher layer: student depth), or the numbers of blocks of both models"
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

    Default stages: every student depth below the whole one, which the final stage covers; a student of one block keeps that one.

    >>> pair_layers(6, 3)
    {2: 1, 4: 2}
    """
    if student_layers > teacher_layers:
        raise ConfigError(
            f"student.layers: {student_layers} is deeper than the teacher's {teacher_layers} blocks; give extraction.layers by hand"
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
            "extraction.layers: no pair; accepted: a mapping from teacher layer to student depth, such as {2: 1, 4: 2}"
        )
    depths = [s for _, s in pairs]
    if sorted(set(depths)) != depths:
        raise ConfigError(
            f"extraction.layers: {dict(pairs)} pairs a deeper teacher layer with no deeper student; both must rise"
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
    """Completes the two durations: the final stage takes what shares the `count` equal stages leave."""
    if stage is None:
        share = (1 - final.value) / count if final is not None and final.unit == "share" else default_stage
        stage = Duration.share(share)
    if final is None:
        left = 1 - count * stage.value if stage.unit == "share" else 1.0
        if left <= 0:
            raise ConfigError(f"stage: {count} stages of {stage} leave nothing for the final one")
        final = Duration.share(left)
    return stage, final


# builder name in configs → builder; the one place where names of methods are listed
BUILDERS: dict[str, Callable[..., Curriculum]] = {
    "supervised": supervised,
    "one-shot": one_shot,
    "progressive": progressive,
    "p-shot": p_shot,
    "extraction": extraction,
}


def stated_curriculum(spec: str | Sequence[Mapping[str, Any]]) -> Curriculum | None:
    """The stages where they are given in full, in the configuration or in a YAML file; `None` for a builder's name.

    Raises:
        ConfigError: an unknown name, a file that cannot be read or is no list of stages.
    """
    if not isinstance(spec, str):
        return from_plain(spec)
    if spec in BUILDERS:
        return None
    if not spec.endswith((".yaml", ".yml")):
        raise ConfigError(unknown("curriculum", spec, [*BUILDERS, "FILE.yaml"]))
    try:
        return from_plain(read_yaml(spec))
    except ConfigError as error:
        message = str(error)
        raise ConfigError(message if message.startswith(spec) else f"{spec}: {message}") from error


def from_config(
    config: RunConfig | OnlineConfig, *, student_layers: int, teacher_layers: int, series: Sequence[int] = ()
) -> Curriculum:
    """The curriculum that a configuration names, fitted to the two models and the teacher's checkpoints.

    Args:
        config: `curriculum`, `loss`, `extraction`, `checkpoints` and `task` are read.
        student_layers: blocks of the student.
        teacher_layers: blocks of the teacher.
        series: steps of the checkpoints at hand, the final one among them or not.

    Raises:
        ConfigError: an unknown name, a file that is no list of stages, stages that do not fit, no checkpoints to choose from.
    """
    curriculum = stated_curriculum(config.curriculum)
    if curriculum is None:
        assert isinstance(config.curriculum, str)
        curriculum = _build(config.curriculum, config, student_layers, teacher_layers, series)
    check_curriculum(curriculum, student_layers=student_layers, teacher_layers=teacher_layers)
    return curriculum


def _build(
    name: str,
    config: RunConfig | OnlineConfig,
    student_layers: int,
    teacher_layers: int,
    series: Sequence[int],
) -> Curriculum:
    projection, target = config.extraction.projected(), _whole_target(config)
    if name == "supervised":
        if isinstance(target, Embedding):
            raise ConfigError(
                "curriculum: 'supervised' needs labels, which the task 'embedding' does not have"
            )
        return supervised()
    if name == "one-shot":
        return one_shot(target=target)
    if name == "extraction":
        own = config.extraction
        return extraction(
            layers=own.layers,
            student_layers=student_layers,
            teacher_layers=teacher_layers,
            stages=own.stages,
            hidden_share=own.hidden_share,
            target=target,
            projection=projection,
            scaling=own.scaling,
        )
    steps = config.checkpoints if config.checkpoints is not None else list(series)
    if not steps:
        raise ConfigError(
            f"checkpoints: {name!r} needs the steps of the teacher's checkpoints, and teacher.checkpoints gives none"
        )
    if missing := [step for step in steps if step not in series]:
        raise ConfigError(unknown("checkpoints", missing[0], series))
    if name == "p-shot" and config.checkpoints is None:
        at_hand = ", ".join(map(str, series))
        raise ConfigError(
            f"checkpoints: 'p-shot' needs the steps to use (vigreux select RUN chooses them); at hand: {at_hand}"
        )
    return BUILDERS[name](steps, target=target)


def _whole_target(config: RunConfig | OnlineConfig) -> Target:
    """What the whole student matches."""
    if isinstance(config, RunConfig) and config.task.kind == "embedding":
        return Embedding(config.task.pooling or "mean", config.extraction.projected())
    return config.loss.target()
