"""`distill`: a curriculum run from Python, on models and datasets that the caller has made."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from vigreux.assembly.build_student import start_from_teacher_
from vigreux.assembly.from_python import other_teacher_class, task_from_python
from vigreux.assembly.meaning import check_other_teachers, meaning_from_python
from vigreux.assembly.running import run_setup
from vigreux.config import BudgetConfig, Carry, StudentInit, TaskKind
from vigreux.curriculum import Curriculum, Embedding, Pooling, Projection, shared_projection
from vigreux.distillation.series import check_series, find_series
from vigreux.distillation.teachers import LiveTeacher, Teachers
from vigreux.engines.evaluation import HeldOut
from vigreux.engines.setup import OWNED, Setup, device_of
from vigreux.errors import ConfigError, unknown
from vigreux.models.layout import find_layout
from vigreux.models.load import load_config, load_model, weights_fingerprint
from vigreux.runs import RunFolder
from vigreux.tasks.task import Task


def distill(
    student: nn.Module,
    teacher: nn.Module | None,
    curriculum: Curriculum,
    *,
    train_dataset: Any,
    eval_dataset: Any,
    args: TrainingArguments | None = None,
    processing_class: PreTrainedTokenizerBase | None = None,
    checkpoints: str | Sequence[str] | None = None,
    task: TaskKind | None = None,
    blocks: str | None = None,
    init: StudentInit | None = None,
    optimizer: Carry = "carried",
    schedule: Carry = "per-stage",
    sharded: bool = False,
    output_dir: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> RunFolder:
    """Takes `student` up through `curriculum`, in place, and gives the run folder with its records.

    Args:
        student: a Hugging Face model or any torch module (called as `module(inputs)`); trained in place.
        teacher: the trained teacher; `None` where every stage learns from labels.
        curriculum: the stages; see `vigreux.supervised`, `one_shot`, `progressive`, `p_shot`, `extraction`.
        train_dataset: rows with `input_ids` (and `labels`, for classification); for a torch module a pair of tensors
            (inputs (n, …), labels (n,)).
        eval_dataset: held-out data of the same form.
        args: the Trainer's arguments. `max_steps`, or `num_train_epochs`, is the budget that the stages' shares are of.
        processing_class: the tokenizer, for Hugging Face models.
        checkpoints: the teacher's series, for curricula that name its steps (see `vigreux.distillation.series.find_series`).
        task: what is learned; default by the student's class.
        blocks: dotted path to the list of blocks in both models, for modules that are not recognised.
        init: what the student starts from. `None` keeps the weights that it has; `projected-embeddings` takes the teacher's
            embedding tables times the curriculum's projection (PCA where it has none), as the command does by default;
            `teacher-layers` copies whole blocks of a teacher of the same width, evenly spread.
        optimizer: whether the optimiser's state is carried from stage to stage.
        schedule: whether one learning-rate schedule runs over all stages.
        sharded: several processes spread the student's weights, gradients and optimiser states among them (FSDP2).
        output_dir: the run folder; default `args.output_dir`.
        resume: go on with the run in that folder.
        quiet: no progress bar.

    Returns:
        The run folder: `.summary()`, `.metrics()`, `.stages()`, and `.student`, the path of the saved student.

    Raises:
        VigreuxError: see its subclasses; the message is one line that says how to put it right.
    """
    made = task_from_python(student, teacher, train_dataset, eval_dataset, processing_class, task)
    meaning = meaning_from_python(made, processing_class)
    live, notes = None, list(made.notes)
    if teacher is not None:
        layout = find_layout(teacher, blocks=blocks) if blocks is not None else None
        match = meaning.match(getattr(teacher, "config", None), "teacher")
        notes += [match.note] if match.note is not None else []
        live = LiveTeacher(teacher.to(device_of(student)), layout, class_order=match.order)
    series = find_series(checkpoints) if checkpoints is not None else {}
    check_series(series, weights_fingerprint)

    notes += check_other_teachers(meaning, curriculum, series, load_config)

    def load(source: str) -> LiveTeacher:
        model: Any = load_model(source, other_teacher_class(source, teacher, made.kind))
        order = meaning.match(model.config, source).order
        return LiveTeacher(model.to(device_of(student)), class_order=order)

    training, seed = _training(args)
    setup = Setup(
        task=made,
        student=student,
        teachers=Teachers(live, series, load),
        curriculum=curriculum,
        budget=_budget(args, made, curriculum),
        training=training,
        optimizer=optimizer,
        schedule=schedule,
        sharded=sharded,
        seed=seed,
        student_layout=find_layout(student, blocks=blocks) if blocks is not None else None,
        processing_class=processing_class,
        notes=notes,
    )
    root = Path(output_dir or (args.output_dir if args is not None and args.output_dir else "runs/student"))
    if init is not None:
        setup.notes += _start(setup, init)
    pooling: Pooling = next((s.target.pooling for s in curriculum if isinstance(s.target, Embedding)), "mean")
    held_out = HeldOut(made, live, pooling, setup.eval_batch_size)
    config = _config(setup, init, blocks)
    run_setup(
        setup,
        root,
        config,
        held_out=held_out,
        defaults={name: config[name] for name in ("init", "kind", "blocks", "steps")},
        name="-".join(stage.name for stage in setup.curriculum)[:40],
        resume=resume,
        quiet=quiet,
    )
    return RunFolder.open(root)


def _start(setup: Setup, init: StudentInit) -> list[str]:
    """Gives the student its first weights; returns notes."""
    teacher = setup.teachers.final
    if init not in get_args(StudentInit):
        raise ConfigError(unknown("init", init, get_args(StudentInit)))
    if teacher is None:
        raise ConfigError(
            f"init: {init!r} starts the student from a teacher, and none was given; accepted: None"
        )
    if not isinstance(setup.student, PreTrainedModel) or not isinstance(teacher.model, PreTrainedModel):
        raise ConfigError(f"init: {init!r} is for Hugging Face models; accepted for torch modules: None")
    return start_from_teacher_(
        setup.student,
        teacher,
        init,
        task=setup.task,
        projection=shared_projection(setup.curriculum) or Projection("pca"),
        matrices=setup.matrices,
        batch_size=setup.arguments("unused", 1).per_device_train_batch_size,
        samples_per_step=setup.samples_per_step,
        layout=setup.layout,
    )


def _training(args: TrainingArguments | None) -> tuple[dict[str, Any], int]:
    """What the caller set in `args`, other than what Vigreux sets itself; and the seed."""
    if args is None:
        return {}, 0
    changed = {}
    for f in dataclasses.fields(args):
        if not f.init or f.name in OWNED:
            continue
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        if (value := getattr(args, f.name)) != default:
            changed[f.name] = value
    plain = {name: getattr(value, "value", value) for name, value in changed.items()}  # enums as their names
    return {
        name: value
        for name, value in plain.items()
        if isinstance(value, (int, float, str, bool, list, Mapping))
    }, args.seed


def _budget(args: TrainingArguments | None, task: Task, curriculum: Curriculum) -> BudgetConfig:
    if args is None or not any(stage.duration.unit == "share" for stage in curriculum):
        return BudgetConfig()
    if args.max_steps > 0:
        return BudgetConfig(steps=args.max_steps)
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    assert task.train_samples is not None, "tasks from Python hold their examples"
    return BudgetConfig(steps=math.ceil(args.num_train_epochs * task.train_samples / batch))


def _config(setup: Setup, init: StudentInit | None, blocks: str | None) -> dict[str, Any]:
    """What the run folder keeps of the settings. The models and data must be handed over again to resume."""
    return {
        "curriculum": "python",
        "training": setup.training,
        "optimizer": setup.optimizer,
        "schedule": setup.schedule,
        "seed": setup.seed,
        "init": init,
        "kind": setup.task.kind,
        "blocks": blocks,
        "steps": setup.budget.steps,
    }
