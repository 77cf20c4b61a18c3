"""`distill`: runs a curriculum from Python, on models and datasets that the caller has made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from vigreux.assembly.build_student import start_from_teacher_
from vigreux.assembly.from_python import other_teacher_class, task_from_python
from vigreux.assembly.one_run import run_setup
from vigreux.assembly.others import check_other_teachers
from vigreux.assembly.sources import training_device
from vigreux.assembly.token_ids import settle_python, take_padding
from vigreux.backends.transformer.evaluation import HeldOut
from vigreux.backends.transformer.setup import Setup
from vigreux.backends.transformer.setup_checks import check_setup
from vigreux.backends.transformer.stage_builder import run_projections
from vigreux.backends.transformer.training import defaults_of, from_arguments
from vigreux.checks import Accepts, PositiveNumber, Seed, refusal
from vigreux.config.shared import BudgetConfig, Carry
from vigreux.config.task_kinds import TaskKind
from vigreux.config.transformer import StudentInit
from vigreux.curriculum import (
    Curriculum,
    Embedding,
    Pooling,
    Projection,
    Stage,
    resolve_steps,
    shared_projection,
)
from vigreux.distillation.series import check_series, find_series
from vigreux.distillation.signals.live import LiveTeacher, Teachers
from vigreux.errors import ConfigError, shown
from vigreux.models.layout import find_layout
from vigreux.models.load import load_model, weights_fingerprint
from vigreux.models.placed import device_of, is_placed
from vigreux.plan.cost import samples_per_step, steps_for_epochs
from vigreux.run.folder import RunFolder
from vigreux.tasks.task import Task

MaxSteps = Annotated[int, Field(ge=1, le=10**12), Accepts("a whole number from 1, or -1 for epochs")]
BUILDERS = ("supervised", "one_shot", "progressive", "p_shot", "extraction")
UNSET_OUTPUT = "trainer_output"  # the output_dir of TrainingArguments that were given none


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
    """Trains `student`, in place, through the stages of `curriculum`.

    Args:
        student: A Hugging Face model, or any torch module (called as `module(inputs)`). It is trained in
            place.
        teacher: The trained teacher; `None` if every stage learns from labels. It is put into evaluation
            mode, frozen and moved to the student's device, and stays that way.
        curriculum: The stages; see `vigreux.supervised`, `one_shot`, `progressive`, `p_shot`, `extraction`.
        train_dataset: Rows for Hugging Face models, a pair of tensors for torch modules; see below.
        eval_dataset: Held-out data of the same form. Nothing is split off.
        args: The Trainer's arguments. If they are passed, all settings are theirs, including the defaults of
            transformers (a learning rate of 5e-5 that falls linearly, without warm-up). Without them,
            Vigreux's defaults hold (5e-4, cosine, 6 % warm-up). `max_steps`, or else `num_train_epochs`, is
            the budget that stages take shares of. `eval_steps` sets how often the student is evaluated. A
            field that Vigreux sets itself, or does not use, must keep its default.
        processing_class: The tokenizer, for Hugging Face models.
        checkpoints: The teacher's checkpoints, for curricula that name their steps: a folder of
            `checkpoint-STEP` folders, or a list of folders or of `hub-id@revision` names.
        task: What is learned (causal-lm, masked-lm, classification, token-classification, embedding). The
            default follows from the student's class, and `task` must agree with it. A model without a head
            learns embeddings.
        blocks: The dotted path to the list of blocks in both models, for modules that Vigreux does not
            recognise.
        init: The student's start. `None` keeps its weights. `projected-embeddings` sets its embedding tables
            to the teacher's times the curriculum's projection (PCA if it has none), which is the commands'
            default. `teacher-layers` copies whole blocks, evenly spread, from a teacher of the same width.
        optimizer: Whether the optimiser's state continues from stage to stage ("carried") or starts again.
        schedule: Whether one learning-rate schedule runs over all stages ("carried") or one in each stage.
        sharded: Split the student's weights, gradients and optimiser states over several processes (FSDP2).
        output_dir: The run folder; default `args.output_dir`.
        resume: Continue the run in that folder.
        quiet: Show no progress bar, as with `args.disable_tqdm`.

    **Rows** are a `datasets.Dataset`, a map-style torch dataset, or a list; each row is a mapping of columns.
    They are read once, before the first step. Streams, splits and columns without rows are errors, and so are
    values that a model cannot take: ids without an embedding in student or teacher, fractions, empty rows.
    These columns are used:

    * `input_ids`: (n,) whole numbers.
    * `attention_mask`: (n,) of 0 and 1. Zeros at the start and the end are padding. Vigreux removes them,
      together with all values beside them. Tokens that zeros hide in between are neither attended to nor
      predicted. Rows that begin or end with the padding token need this column.
    * `token_type_ids`, `position_ids`, and every other column that the `forward` of student or teacher names:
      one value per token, or one per row. Each model gets what it names; a note says where the two differ.
      Inputs that no task passes on (such as `inputs_embeds`, `pixel_values` and `decoder_input_ids`) are
      errors.
    * `labels` (or `label_ids`) of language models: (n,) token ids beside `input_ids`, as in transformers. A
      causal model predicts `labels[t + 1]` at t, a masked one `labels[t]`; −100 carries no loss. With labels,
      the rows of a masked model are taken as already masked. Without them, masks are drawn anew in each
      epoch, and a causal model predicts all tokens, or those where `completion_mask` or `assistant_masks` is
      1. Tokens of `special_tokens_mask` are never masked.
    * `labels` (or `label_ids`) of token classifiers: (n,) class ids beside `input_ids`; −100 carries no loss.
      The names of a `datasets.Sequence(ClassLabel)` count.
    * `labels`, `label` or `label_ids` of classifiers: one per row, either the id of the student's class (a
      whole number, or `True` and `False` for two classes) or its name in the student's `id2label`, in upper
      or lower case. The names of a `datasets.ClassLabel` count. Numbers that are not ids are read as names
      (stars 1 to 5). Floats, `None` and several labels per row are errors.

    A warning and a note name the columns that are not used.

    **Tensors** are a pair (inputs (n, …), labels (n,)): finite inputs for the module, and whole numbers below
    the number of its outputs. Student, teacher and held-out data have the same shapes.

    Returns:
        The run folder: `.summary()`, `.metrics()`, `.stages()`, and `.student`, the path of the saved
        student.

    Raises:
        VigreuxError: One of its subclasses, with one line that says how to correct the input.
    """
    curriculum = _check(student, teacher, curriculum, args, checkpoints, output_dir)
    _check_choices(
        {"task": task, "blocks": blocks, "init": init, "output_dir": output_dir},
        {"optimizer": optimizer, "schedule": schedule, "sharded": sharded, "resume": resume, "quiet": quiet},
    )
    if not (getattr(student, "is_quantized", False) or getattr(student, "hf_device_map", None)):
        student.to(training_device() if args is None else args.device)  # where the Trainer would put it
    data = task_from_python(student, teacher, train_dataset, eval_dataset, processing_class, task)
    setup = _setup(student, teacher, curriculum, data, args, processing_class, checkpoints, blocks)
    setup.optimizer, setup.schedule, setup.sharded = optimizer, schedule, sharded
    root = Path(output_dir or (args.output_dir if args is not None and args.output_dir else "runs/student"))
    if resume and not root.exists():
        raise ConfigError(f"resume: there is no run in {str(root)!r} yet; accepted: False, to start it")
    check_setup(setup)
    if init is not None:
        setup.notes += _start(setup, init)
    is_quiet = quiet or (args is not None and bool(args.disable_tqdm))
    _run(setup, root, _config(setup, init, blocks), resume=resume, quiet=is_quiet)
    return RunFolder.open(root)


def _setup(
    student: nn.Module,
    teacher: nn.Module | None,
    curriculum: Curriculum,
    data: Task,
    args: TrainingArguments | None,
    processing_class: PreTrainedTokenizerBase | None,
    checkpoints: str | Sequence[str] | None,
    blocks: str | None,
) -> Setup:
    """What a run is made from: the teachers, the budget, and the notes of reading them."""
    training = {} if args is None else from_arguments(args)
    meaning, data, notes = settle_python(student, teacher, data, processing_class)
    live = None
    if teacher is not None:
        layout = find_layout(teacher, blocks=blocks) if blocks is not None else None
        match = meaning.match(getattr(teacher, "config", None), "teacher")
        notes += [match.note] if match.note is not None else []
        model = teacher if is_placed(teacher) else teacher.to(device_of(student))
        live = LiveTeacher(model, layout, class_order=match.order)
    series = find_series(checkpoints) if checkpoints is not None else {}
    check_series(series, weights_fingerprint)
    notes += check_other_teachers(meaning, curriculum, series)

    def load(source: str) -> LiveTeacher:
        model: Any = load_model(source, other_teacher_class(source, teacher, data.kind))
        order = meaning.match(model.config, source).order
        take_padding(meaning, model)
        return LiveTeacher(model.to(device_of(student)), class_order=order)

    processes = 1 if args is None else args.world_size
    budget, budget_notes = _budget(args, data, curriculum, samples_per_step(training, processes))
    notes += budget_notes
    if series and not any(stage.teacher.kind == "checkpoint" for stage in curriculum):
        notes.append("checkpoints: no stage of the curriculum learns from one")
    return Setup(
        task=data,
        student=student,
        teachers=Teachers(live, series, load),
        curriculum=curriculum,
        budget=budget,
        training=training,
        seed=0 if args is None else args.seed,
        student_layout=find_layout(student, blocks=blocks) if blocks is not None else None,
        processing_class=processing_class,
        notes=notes,
    )


def _run(setup: Setup, root: Path, config: dict[str, Any], *, resume: bool, quiet: bool) -> None:
    """Trains the student, and evaluates it beside the teacher."""
    poolings = [stage.target.pooling for stage in setup.curriculum if isinstance(stage.target, Embedding)]
    pooling: Pooling = poolings[0] if poolings else "mean"
    teacher = setup.teachers.final if isinstance(setup.teachers, Teachers) else None
    run_setup(
        setup,
        root,
        config,
        held_out=HeldOut(setup.task, teacher, pooling, setup.eval_batch_size),
        defaults={name: config[name] for name in ("init", "kind", "blocks", "steps")},
        name="-".join(stage.name for stage in setup.curriculum)[:40],
        resume=resume,
        quiet=quiet,
    )


def _start(setup: Setup, init: StudentInit) -> list[str]:
    """Sets the student's initial weights, and returns notes."""
    teacher = setup.teachers.final
    if teacher is None:
        raise ConfigError(
            f"init: {init!r} starts the student from a teacher, and there is no teacher; accepted: None"
        )
    if not isinstance(setup.student, PreTrainedModel) or not isinstance(teacher.model, PreTrainedModel):
        raise ConfigError(f"init: {init!r} is for Hugging Face models; accepted for torch modules: None")
    return start_from_teacher_(
        setup.student,
        teacher,
        init,
        task=setup.task,
        projection=shared_projection(setup.curriculum) or Projection("pca"),
        projections=run_projections(setup),
        layout=setup.layout,
    )


def _check(
    student: Any,
    teacher: Any,
    curriculum: Any,
    args: Any,
    checkpoints: Any,
    output_dir: Any,
) -> Curriculum:
    """Checks the arguments, and returns the curriculum as a tuple.

    Raises:
        ConfigError: an argument has the wrong type, or contradicts another argument.
    """
    for name, model in (("student", student), ("teacher", teacher)):
        if not isinstance(model, nn.Module) and (name == "student" or model is not None):
            load = "; load it with from_pretrained" if isinstance(model, str) else ""
            raise ConfigError(f"{name}: {shown(model)}; accepted: a model (a torch module){load}")
        on_meta = model is not None and any(parameter.is_meta for parameter in model.parameters())
        if on_meta and not getattr(model, "hf_device_map", None):
            raise ConfigError(
                f"{name}: its weights are not loaded (device meta); accepted: a model with weights"
            )
    if teacher is not None:
        pointers = {parameter.data_ptr() for parameter in teacher.parameters() if not parameter.is_meta}
        trained = (parameter for parameter in student.parameters() if parameter.requires_grad)
        if teacher is student or any(p.data_ptr() in pointers for p in trained if p.numel()):
            raise ConfigError(
                "student: shares weights with the teacher, which would change with it; accepted: a copy"
                " (copy.deepcopy)"
            )
    if isinstance(curriculum, str):
        name = curriculum.replace("-", "_")
        builder = name if name in BUILDERS else "extraction"
        raise ConfigError(
            f"curriculum: {shown(curriculum)}; accepted: stages, such as vigreux.{builder}(…) returns"
        )
    if not isinstance(curriculum, (list, tuple)) or not all(isinstance(stage, Stage) for stage in curriculum):
        raise ConfigError(f"curriculum: {shown(curriculum)}; accepted: a sequence of vigreux.Stage")
    if args is not None and not isinstance(args, TrainingArguments):
        raise ConfigError(f"args: a {type(args).__name__}; accepted: transformers.TrainingArguments, or None")
    if args is not None:
        _check_value("args.seed", args.seed, Seed)
    if checkpoints is not None and teacher is None:
        raise ConfigError(
            "checkpoints: they belong to a teacher, and there is no teacher; accepted: None, or a teacher"
        )
    if output_dir is not None and args is not None and args.output_dir not in (str(output_dir), UNSET_OUTPUT):
        raise ConfigError(
            f"output_dir: {str(output_dir)!r}, and args.output_dir is {args.output_dir!r}; accepted: one of"
            " the two"
        )
    return tuple(curriculum)


_TYPES: Mapping[str, Any] = {
    "task": TaskKind,
    "blocks": str,
    "init": StudentInit,
    "output_dir": str | Path,
    "optimizer": Carry,
    "schedule": Carry,
    "sharded": bool,
    "resume": bool,
    "quiet": bool,
}


def _check_choices(optional: Mapping[str, Any], required: Mapping[str, Any]) -> None:
    for name, value in {**optional, **required}.items():
        if value is not None or name in required:
            _check_value(name, value, _TYPES[name])


def _check_value(name: str, value: Any, hint: Any) -> None:
    try:
        TypeAdapter(hint).validate_python(value, strict=True)
    except ValidationError as error:
        raise ConfigError(refusal(name, value, hint)) from error


def _budget(
    args: TrainingArguments | None, task: Task, curriculum: Curriculum, per_step: int
) -> tuple[BudgetConfig, list[str]]:
    """The steps that `args` allows, if the curriculum's stages are shares of a budget; and notes.

    Raises:
        ConfigError: `args` sets no steps, or other steps than stages with durations of their own.
    """
    shares = any(stage.duration.unit == "share" for stage in curriculum)
    if args is None:
        if shares:
            raise ConfigError(
                "args: missing: the curriculum's stages are shares of a budget; accepted: TrainingArguments"
                " with max_steps or num_train_epochs"
            )
        return BudgetConfig(), []
    epochs_given = args.num_train_epochs != defaults_of(type(args))["num_train_epochs"]
    if args.max_steps != -1:
        _check_value("args.max_steps", args.max_steps, MaxSteps)
        steps = args.max_steps
        source = f"args.max_steps: {args.max_steps}"
    else:
        _check_value("args.num_train_epochs", args.num_train_epochs, PositiveNumber)
        if task.train_samples is None:
            raise ConfigError("args.num_train_epochs: the data has no end; accepted: args.max_steps")
        steps = steps_for_epochs(args.num_train_epochs, task.train_samples, per_step)
        source = f"args.num_train_epochs: {args.num_train_epochs:g}, which is {steps} steps"
    if shares:
        notes = []
        if args.max_steps > 0 and epochs_given:
            notes.append("args.max_steps overrides args.num_train_epochs")
        return BudgetConfig(steps=steps), notes
    if args.max_steps > 0 or epochs_given:
        curriculum_steps = sum(
            resolve_steps(
                curriculum,
                0,
                batch_size=per_step,
                train_samples=task.train_samples,
                tokens_per_sample=task.tokens_per_sample,
            )
        )
        if curriculum_steps != steps:
            raise ConfigError(
                f"{source}, and the stages of the curriculum last {curriculum_steps} steps; accepted: the"
                " same, or stages that are shares"
            )
    return BudgetConfig(), []


def _config(setup: Setup, init: StudentInit | None, blocks: str | None) -> dict[str, Any]:
    """The settings that the run folder keeps. To resume, the caller passes the models and data again."""
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
