"""The cost of a run, from the configs of both models: counted on the meta device without loading weights."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from transformers import PreTrainedConfig

from vigreux.backends.transformer.training import DEFAULTS
from vigreux.config.curricula import from_config
from vigreux.config.transformer import RunConfig
from vigreux.curriculum import Curriculum, Stage
from vigreux.distillation.matching import matcher_of
from vigreux.distillation.signals.base import TeacherSignal, VectorSignal
from vigreux.distillation.signals.cached import signal_name
from vigreux.downloads.assets import asset_path, is_asset
from vigreux.errors import ConfigError
from vigreux.models.families import task_class
from vigreux.models.flops import view_flops
from vigreux.models.layout import hidden_size, named_layout, num_blocks
from vigreux.models.load import load_config
from vigreux.models.size import count_parameters, directory_bytes
from vigreux.models.student import build, student_config
from vigreux.models.text_config import text_config
from vigreux.plan.budget import steps_within
from vigreux.plan.cost import Cost, StageCost, memory_estimate, samples_per_step
from vigreux.plan.hardware import CachePrice

# A training step takes longer than its FLOPs at the speed of one large matrix product. Its products are
# smaller, and it also computes norms and softmaxes, copies, and updates weights. Measured on a busy CPU core:
# 5 to 8 times as long for BERT and Llama students of 3 × 192 with 30,522 tokens, whole or cut; 30 times and
# more for tiny models, where calling the operations dominates.
OVERHEAD = 5.0
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class ModelSize:
    """The config and the size of a model that is not built."""

    config: PreTrainedConfig
    auto_class: str
    parameters: int
    layers: int
    hidden: int


@dataclass(frozen=True)
class Plan:
    """A curriculum with the cost of each stage: FLOPs of full blocks, and the peak memory in bytes."""

    curriculum: Curriculum
    cost: Cost
    student: ModelSize
    teacher: ModelSize
    memory: int
    rate: float  # FLOP/s of matrix products on this machine


def make_plan(config: RunConfig, series: Mapping[int, str]) -> Plan:
    """The plan of `config`, with the teacher's checkpoints `series` (step → directory or hub name).

    Raises `ConfigError` like the run itself, and if the length of a stage depends on the data.
    """
    teacher, student = model_sizes(config)
    curriculum = from_config(
        config, student_layers=student.layers, teacher_layers=teacher.layers, series=list(series)
    )
    rate = matmul_rate()
    per_step = [_step_cost(config, stage, student, teacher, rate) for stage in curriculum]
    all_steps = _steps(config, curriculum, per_step)
    stages = tuple(_times(cost, steps) for cost, steps in zip(per_step, all_steps))
    return Plan(
        curriculum,
        Cost(stages, _bytes_kept(curriculum, series, BYTES[config.teacher.dtype] * teacher.parameters)),
        student,
        teacher,
        _memory(config, teacher, student),
        rate,
    )


def model_sizes(config: RunConfig) -> tuple[ModelSize, ModelSize]:
    """The sizes of teacher and student, from their configs."""
    settings = config.student
    teacher = load_config(
        _local(config.teacher.model),
        revision=config.teacher.revision,
        trust_remote_code=config.teacher.trust_remote_code,
    )
    if settings.model is not None:
        student = load_config(
            _local(settings.model), revision=settings.revision, trust_remote_code=settings.trust_remote_code
        )
    else:
        student = student_config(
            teacher,
            layers=settings.layers,
            hidden=settings.hidden,
            heads=settings.heads,
            intermediate=settings.intermediate,
            from_layers=settings.from_layers if settings.init == "teacher-layers" else None,
        )
    return _model_size(teacher, config), _model_size(student, config)


def _model_size(model_config: PreTrainedConfig, config: RunConfig) -> ModelSize:
    auto_class = task_class(config.task.kind, model_config)
    with torch.device("meta"):
        model = build(model_config, auto_class)
    layout = named_layout(model, config.teacher.blocks, config.teacher.after_blocks)
    return ModelSize(
        model_config,
        auto_class,
        count_parameters(model),
        num_blocks(model, layout),
        hidden_size(model, layout),
    )


def matmul_rate(size: int = 1024, seconds: float = 0.3) -> float:
    """FLOP/s of float32 matrix products on this machine's training device."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a = torch.randn(size, size, device=device)
    done = 0
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        float((a @ a)[0, 0])  # reading a number waits for the device
        done += 1
    return done * 2 * size**3 / elapsed


# --- one stage ----------------------------------------------------------------------------------------------


def _step_cost(
    config: RunConfig, stage: Stage, student: ModelSize, teacher: ModelSize, rate: float
) -> StageCost:
    """One step of a stage, on full blocks."""
    count = partial(
        view_flops,
        seq=config.task.max_length,
        positions_share=_share(config),
        blocks=config.teacher.blocks,
        after=config.teacher.after_blocks,
    )
    if stage.teacher.model is not None:
        teacher = _model_size(load_config(_local(stage.teacher.model)), config)
    matcher = matcher_of(stage.target)
    samples = samples_per_step(config.training)
    of_student = samples * count(
        student.config,
        student.auto_class,
        backward=True,
        frozen=stage.frozen,
        depth=matcher.student_depth(stage.depth, student.layers),
        final_norm=matcher.final_norm,
    )
    of_teacher = 0.0
    for depth in matcher.teacher_depths(teacher.layers):
        of_teacher += samples * count(
            teacher.config, teacher.auto_class, depth=depth, final_norm=matcher.final_norm
        )
    return StageCost(stage.name, 1, of_student, of_teacher, OVERHEAD * (of_student + of_teacher) / rate)


def _times(step: StageCost, steps: int) -> StageCost:
    assert step.seconds is not None
    return StageCost(
        step.name, steps, steps * step.student_flops, steps * step.teacher_flops, steps * step.seconds
    )


def _steps(config: RunConfig, curriculum: Curriculum, per_step: list[StageCost]) -> tuple[int, ...]:
    if any(stage.duration.unit == "epochs" for stage in curriculum):
        raise ConfigError(
            "plan: a stage lasts epochs, and the data is not read for a plan;"
            " give steps, samples, tokens or shares"
        )
    sizes = {
        "batch_size": samples_per_step(config.training),
        "train_samples": 1,
        "tokens_per_sample": config.task.max_length,
    }
    return steps_within(config.budget, curriculum, per_step, **sizes)


# --- a cache ------------------------------------------------------------------------------------------------


def cache_price(config: RunConfig, plan: Plan) -> CachePrice:
    """The cost and the savings of a cache of the teacher's signals, as if each sample came once.

    The teacher runs once for all signals of a sample, up to the deepest one. By index, every sample has every
    signal; if samples repeat, the cache is smaller by that factor. In a stream, the samples of a stage have
    only the signals of that stage.
    """
    samples = [stage.steps * samples_per_step(config.training) for stage in plan.cost.stages]
    signals = [matcher_of(stage.target).signals for stage in plan.curriculum]
    stages = list(zip(samples, signals))
    if config.cache.by == "index" or (config.cache.by == "auto" and not config.task.spec.hides_tokens):
        # stages with the same signal share it
        by_name = {
            signal_name(stage.teacher, signal): signal
            for stage, of_stage in zip(plan.curriculum, signals)
            for signal in of_stage
        }
        stages = [(sum(samples), tuple(by_name.values()))]
    size = sum(
        count * _signal_bytes(config, plan, signal) for count, of_stage in stages for signal in of_stage
    )
    capture = sum(count * _capture_flops(config, plan, of_stage) for count, of_stage in stages if of_stage)
    return CachePrice(size, capture, plan.cost.flops, plan.cost.student_flops)


def _signal_bytes(config: RunConfig, plan: Plan, signal: TeacherSignal) -> float:
    """The bytes of a signal for one sample."""
    rows = signal.rows_per_sample(config.task.max_length, _predicted(config))
    over_vocabulary = config.task.spec.over_vocabulary
    cache = config.cache
    if isinstance(signal, VectorSignal):
        width = plan.teacher.hidden if signal.projection.kind == "learned" else plan.student.hidden
    elif _through_head(config):
        width = plan.teacher.hidden
    elif over_vocabulary:
        width = text_config(plan.teacher.config).vocab_size
        cache = replace(cache, k=min(cache.k, width))
    else:
        width = plan.teacher.config.num_labels or 1
    return 8 + rows * signal.cache_form(cache, width, over_vocabulary=over_vocabulary).bytes_per_row


def _capture_flops(config: RunConfig, plan: Plan, signals: Sequence[TeacherSignal]) -> float:
    """The FLOPs of the teacher's forward pass for one sample, as deep as its signals need."""
    count = partial(view_flops, plan.teacher.config, plan.teacher.auto_class, seq=config.task.max_length)
    depths = [plan.teacher.layers if signal.state is None else signal.state[0] for signal in signals]
    if any(signal.is_logits for signal in signals) and not _through_head(config):
        return count(positions_share=_share(config))
    return count(depth=max(depths))


def _through_head(config: RunConfig) -> bool:
    return config.cache.logits == "head-input" and config.task.spec.over_vocabulary


def _share(config: RunConfig) -> float | None:
    """The share of positions that is predicted; `None` for tasks that predict samples."""
    share = config.task.spec.predicted_share
    return None if share is None else share(config.task.max_length, config.task.mask_share)


def _predicted(config: RunConfig) -> float:
    share = _share(config)
    return 1.0 if share is None else share * config.task.max_length


# --- bytes --------------------------------------------------------------------------------------------------


def _bytes_kept(curriculum: Curriculum, series: Mapping[int, str], teacher_bytes: int) -> int:
    """The bytes of the final teacher and the checkpoints in use; one on the hub counts like the teacher."""
    used = {series[stage.teacher.step] for stage in curriculum if stage.teacher.step is not None}
    learns = any(stage.teacher.kind != "labels" for stage in curriculum)
    return teacher_bytes * learns + sum(directory_bytes(source) or teacher_bytes for source in used)


def _memory(config: RunConfig, teacher: ModelSize, student: ModelSize) -> int:
    """Peak bytes: weights and optimiser of both models, and the activations of one micro-batch.

    Activations are estimated as 16 float32 values per token and hidden unit, for each student block (saved
    for the backward pass) and one teacher layer, plus the float32 logits of both models at the positions that
    count.
    """
    samples = (DEFAULTS | config.training)["per_device_train_batch_size"]
    tokens = samples * config.task.max_length
    rows = samples * _predicted(config) if config.task.spec.has_logits else 0
    of_language = config.task.spec.over_vocabulary
    classes = text_config(student.config).vocab_size if of_language else student.config.num_labels or 0
    activations = (
        4 * tokens * 16 * (student.layers * student.hidden + teacher.hidden) + 4 * 4 * rows * classes
    )
    return memory_estimate(
        student.parameters,
        student.parameters,
        teacher_parameters=teacher.parameters,
        teacher_bytes_per=BYTES[config.teacher.dtype],
        activations=int(activations),
    )


def _local(source: str) -> str:
    return str(asset_path(source)) if is_asset(source) else source
