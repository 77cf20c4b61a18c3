"""What a configuration will cost, from the two configs alone: counted on the meta device, nothing is loaded or trained."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedConfig

from vigreux.assets import asset_path, is_asset
from vigreux.config import AUTO_CLASS, RunConfig
from vigreux.cost import StageCost, memory_estimate, steps_for_budget
from vigreux.curriculum import Curriculum, Hidden, Stage, resolve_steps
from vigreux.distill.series import find_series
from vigreux.engines.setup import DEFAULTS
from vigreux.errors import ConfigError
from vigreux.models.flops import view_flops
from vigreux.models.layout import find_layout, hidden_size, num_blocks
from vigreux.models.load import load_config
from vigreux.models.size import count_parameters, directory_bytes
from vigreux.models.student import build, student_config
from vigreux.recipes import from_config

# Besides matrix products a training step normalises, activates, copies and steps the optimiser.
OVERHEAD = 2.0


@dataclass(frozen=True)
class Plan:
    """A curriculum with the cost of each stage. FLOPs are of full blocks; memory is the peak over the stages, in bytes."""

    curriculum: Curriculum
    stages: tuple[StageCost, ...]
    teacher_parameters: int
    student_parameters: int
    teacher_layers: int
    student_layers: int
    memory: int
    bytes_kept: int
    rate: float  # FLOP/s of matrix products on this machine

    @property
    def flops(self) -> float:
        """Of student and teacher in all stages."""
        return sum(stage.flops for stage in self.stages)

    @property
    def seconds(self) -> float:
        """Of all stages, estimated."""
        return sum(stage.seconds or 0 for stage in self.stages)


def make_plan(config: RunConfig) -> Plan:
    """The plan of `config`. Raises `ConfigError` as building the run would, and where only the data can tell a stage's length."""
    source = config.teacher.model
    path = str(asset_path(source)) if is_asset(source) else source
    teacher = load_config(path, revision=config.teacher.revision, trust_remote_code=config.teacher.trust_remote_code)
    own = config.student
    if own.model is not None:
        student = load_config(str(asset_path(own.model)) if is_asset(own.model) else own.model)
    else:
        student = student_config(teacher, layers=own.layers, hidden=own.hidden, heads=own.heads, intermediate=own.intermediate)
    teacher_size, student_size = _Size.of(teacher, config), _Size.of(student, config)
    series = find_series(config.teacher.checkpoints) if config.teacher.checkpoints else {}
    curriculum = from_config(config, student_layers=student_size.layers, teacher_layers=teacher_size.layers, series=list(series))
    rate = matmul_rate()
    per_step = [_step_cost(config, stage, student, teacher, rate) for stage in curriculum]
    steps = _steps(config, curriculum, per_step)
    stages = tuple(
        StageCost(each.name, n, n * each.student_flops, n * each.teacher_flops, n * (each.seconds or 0))
        for each, n in zip(per_step, steps)
    )
    learns = any(stage.teacher.kind != "labels" for stage in curriculum)
    used = {series[stage.teacher.step] for stage in curriculum if stage.teacher.step is not None}
    return Plan(
        curriculum,
        stages,
        teacher_size.parameters,
        student_size.parameters,
        teacher_size.layers,
        student_size.layers,
        memory=_memory(config, teacher_size, student_size),
        bytes_kept=4 * teacher_size.parameters * learns + sum(directory_bytes(path) for path in used),
        rate=rate,
    )


@dataclass(frozen=True)
class _Size:
    parameters: int
    layers: int
    hidden: int
    vocabulary: int

    @classmethod
    def of(cls, config: PreTrainedConfig, run: RunConfig) -> _Size:
        with torch.device("meta"):
            model = build(config, AUTO_CLASS[run.task.kind])
        layout = find_layout(model)
        vocabulary: Any = config.vocab_size if run.task.kind.endswith("lm") else config.num_labels
        return cls(count_parameters(model), num_blocks(model, layout), hidden_size(model, layout), vocabulary)


def matmul_rate(size: int = 1024, seconds: float = 0.3) -> float:
    """FLOP/s of float32 matrix products on this machine's training device."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a = torch.randn(size, size, device=device)
    done, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        float((a @ a)[0, 0])  # reading a number waits for the device
        done += 1
    return done * 2 * size**3 / elapsed


def _step_cost(config: RunConfig, stage: Stage, student: PreTrainedConfig, teacher: PreTrainedConfig, rate: float) -> StageCost:
    """One step of a stage, on full blocks."""
    given = DEFAULTS | config.training
    samples = given["per_device_train_batch_size"] * given.get("gradient_accumulation_steps", 1)
    share = {"masked-lm": config.task.mask_share, "causal-lm": 1 - 1 / config.task.max_length}.get(config.task.kind)
    count = partial(view_flops, auto_class=AUTO_CLASS[config.task.kind], seq=config.task.max_length, positions_share=share)
    layer = depth = None
    if isinstance(stage.target, Hidden):
        layer, depth = stage.target.layer, student.num_hidden_layers if stage.depth is None else stage.depth
    of_student = samples * count(student, depth=depth, backward=True)
    of_teacher = samples * count(teacher, depth=layer) if stage.teacher.kind != "labels" else 0
    return StageCost(stage.name, 1, of_student, of_teacher, OVERHEAD * (of_student + of_teacher) / rate)


def _steps(config: RunConfig, curriculum: Curriculum, per_step: list[StageCost]) -> tuple[int, ...]:
    if any(stage.duration.unit == "epochs" for stage in curriculum):
        raise ConfigError("plan: a stage lasts epochs, and the data is not read for a plan; give steps, samples, tokens or shares")
    given = DEFAULTS | config.training
    sizes = {
        "batch_size": given["per_device_train_batch_size"] * given.get("gradient_accumulation_steps", 1),
        "train_samples": 1,
        "tokens_per_sample": config.task.max_length,
    }
    budget = config.budget
    amount = budget.flops or budget.seconds
    if amount is not None:
        costs = [each.flops if budget.flops is not None else each.seconds or 0.0 for each in per_step]
        return resolve_steps(curriculum, steps_for_budget(curriculum, costs, amount, **sizes), **sizes)
    if budget.steps is None and any(stage.duration.unit == "share" for stage in curriculum):
        raise ConfigError("budget: missing; accepted: one of budget.steps, budget.flops, budget.seconds")
    return resolve_steps(curriculum, budget.steps or 0, **sizes)


def _memory(config: RunConfig, teacher: _Size, student: _Size) -> int:
    """Peak bytes: weights and optimiser of both models, and the activations of one micro-batch.

    Activations are taken as 16 values a token and hidden unit of each student block (what its backward pass keeps), one layer
    of the teacher's, and logits of both models at the positions that count, in float32.
    """
    given = DEFAULTS | config.training
    tokens = given["per_device_train_batch_size"] * config.task.max_length
    rows = {"masked-lm": config.task.mask_share * tokens, "causal-lm": tokens}.get(
        config.task.kind, tokens / config.task.max_length
    )
    activations = 4 * tokens * (16 * student.layers * student.hidden + 16 * teacher.hidden) + 4 * 4 * rows * student.vocabulary
    return memory_estimate(
        student.parameters,
        student.parameters,
        teacher_parameters=teacher.parameters,
        teacher_bytes_per=4 if config.teacher.dtype == "float32" else 2,
        activations=int(activations),
    )
