"""The objects that the runs of a configuration share: teacher, data, meaning of token ids and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vigreux.activity import doing
from vigreux.assembly.embeddings import settled
from vigreux.assembly.meaning import Meaning, run_classes
from vigreux.assembly.others import compare_tokenizer
from vigreux.assembly.sources import checkpoint_series, local, start_config, training_device
from vigreux.assembly.token_ids import Reader, settle_token_ids, take_padding
from vigreux.backends.transformer.evaluation import HeldOut
from vigreux.backends.transformer.setup import CALIBRATION_BATCHES
from vigreux.backends.transformer.training import DEFAULTS, check_training
from vigreux.config.task_kinds import SPECS
from vigreux.config.transformer import RunConfig, TaskConfig, TeacherConfig
from vigreux.curriculum import Projection
from vigreux.distillation.projections import Projections
from vigreux.distillation.signals.live import LiveTeacher, Teachers
from vigreux.errors import ConfigError
from vigreux.models.families import check_kind, check_length, has_head, task_class
from vigreux.models.layout import find_layout
from vigreux.models.load import load_config, load_model, load_tokenizer
from vigreux.models.placed import is_placed
from vigreux.plan.cost import samples_per_step
from vigreux.run.identity import process_count
from vigreux.tasks.build import build_task
from vigreux.tasks.classes import classes_of, match_classes, named_classes
from vigreux.tasks.task import Task


@dataclass
class Materials:
    """The objects that all runs of one configuration share. They are loaded once."""

    task: Task
    task_config: TaskConfig  # with the pooling and length of the teacher's folder
    meaning: Meaning
    model: PreTrainedModel  # the teacher's
    teacher: LiveTeacher
    series: dict[int, str]
    held_out: HeldOut
    notes: list[str]
    # Projection matrices by (samples, batch size) of PCA. Nothing else that they depend on differs between
    # runs.
    _projected: dict[tuple[int, int], dict[Any, Tensor]] = field(default_factory=dict)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of every text of the run."""
        return self.meaning.tokenizer

    def settled(self, config: RunConfig) -> RunConfig:
        """The configuration of a run with the pooling and length of the teacher's folder."""
        return replace(config, task=self.task_config)

    def projections(
        self, config: RunConfig, teachers: Teachers, stored: Mapping[Projection, Tensor]
    ) -> Projections:
        """The fixed projections of a run.

        PCA needs forward passes of the teacher. Runs with equal steps share its matrices.

        Args:
            config: its section `training` sets the number of samples per step.
            teachers: the run's teachers.
            stored: the matrices of a cache's signals.
        """
        samples = CALIBRATION_BATCHES * samples_per_step(config.training, process_count())
        batch_size = (DEFAULTS | config.training)["per_device_train_batch_size"]
        shared_matrices = self._projected.setdefault((samples, batch_size), {})
        return Projections(teachers, self.task, samples, batch_size, stored, shared_matrices)

    def release_teacher(self) -> None:
        """Frees the teacher's weights, for runs that learn from a cache; `hold_teacher` loads them again."""
        if not is_placed(self.model):
            self.model.to("meta")  # type: ignore[arg-type]

    def hold_teacher(self, config: RunConfig) -> None:
        """Loads the teacher's weights if they were freed: a student's first weights come from them."""
        if not is_placed(self.model) and next(self.model.parameters()).is_meta:
            self.model = load_teacher(local(config.teacher.model), config, config.teacher.revision)
            take_padding(self.meaning, self.model)
            self.teacher = live(self.model, config.teacher, self.teacher.class_order)


def load_materials(config: RunConfig) -> Materials:
    """Loads teacher, tokenizer and data, and checks the series of checkpoints."""
    teacher_config = config.teacher
    check_training(config.training)
    task_config, notes = settled(config)
    config = replace(config, task=task_config)
    source = local(teacher_config.model)
    tokenizer = load_tokenizer(
        source, revision=teacher_config.revision, trust_remote_code=teacher_config.trust_remote_code
    )
    model = load_teacher(source, config, teacher_config.revision)
    check_length(config.task.max_length, model)
    meaning = _meaning(config, model, tokenizer)
    match = meaning.match(model.config, "teacher.model")
    names = None if meaning.classes is None else dict(enumerate(meaning.classes))
    with doing("reading the data"):
        task = build_task(config.task, tokenizer, id2label=names, by_name=match.order is not None)
    _check_class_names(task, meaning)
    readers = [Reader.of_model("teacher.model", model)]
    if (start := start_config(config.student)) is not None:
        readers.append(Reader.of_config("student.model", start, config.task.kind))
        student_config = config.student
        loading: dict[str, Any] = {
            "revision": student_config.revision,
            "trust_remote_code": student_config.trust_remote_code,
        }
        notes += compare_tokenizer(meaning, str(student_config.model), start, "student.model", **loading)
        _check_rows(readers, tokenizer)
    meaning, task, of_tokens = settle_token_ids(meaning, task, readers)
    saved = (model.config.architectures or [type(model).__name__])[0]
    if not task.spec.has_logits and saved != type(model).__name__:
        notes.append(f"teacher.model: was saved as {saved}; an embedding task does not use its head")
    series, of_series = checkpoint_series(teacher_config.checkpoints, source)
    notes += [*of_tokens, *of_series, *([] if match.note is None else [match.note])]
    teacher = live(model, teacher_config, match.order)
    assert task_config.pooling is not None
    size = (DEFAULTS | config.training)["per_device_eval_batch_size"]
    held_out = HeldOut(task, teacher, task_config.pooling, size)
    return Materials(task, task_config, meaning, model, teacher, series, held_out, notes)


@doing("loading the teacher")
def load_teacher(source: str, config: RunConfig, revision: str | None = None) -> PreTrainedModel:
    """Loads the final teacher, a checkpoint of its run or another model, with the class for the task."""
    teacher_config = config.teacher
    model_config = load_config(source, revision=revision, trust_remote_code=teacher_config.trust_remote_code)
    check_kind(config.task.kind, model_config, source)
    return load_model(
        source,
        task_class(config.task.kind, model_config),
        revision=revision,
        dtype=teacher_config.dtype,
        allow_pickle=teacher_config.allow_pickle,
        trust_remote_code=teacher_config.trust_remote_code,
        **teacher_config.options,
    )


def live(model: nn.Module, config: TeacherConfig, class_order: Sequence[int] | None = None) -> LiveTeacher:
    """The teacher on its device: `teacher.device`, or the device that training uses.

    A model that is quantised or placed by its options stays where it is. `class_order` puts its logits into
    the order of the run's classes.
    """
    layout = None
    if config.blocks is not None:
        layout = find_layout(model, blocks=config.blocks, after=config.after_blocks)
    if is_placed(model):
        if config.device is not None:
            raise ConfigError(
                "teacher.device: of a model that is quantised or placed by device_map;"
                " accepted: options.device_map"
            )
        if config.sharded:
            raise ConfigError(
                "teacher.sharded: of a model that is quantised or placed by device_map; accepted: false"
            )
        return LiveTeacher(model, layout, class_order=class_order)
    try:
        device = torch.device(config.device or training_device())
        if config.sharded and process_count() > 1:
            return LiveTeacher(model, layout, spread_on=device, class_order=class_order)
        return LiveTeacher(model.to(device), layout, class_order=class_order)
    except (RuntimeError, AssertionError) as error:  # torch raises these for a missing device
        raise ConfigError(
            f"teacher.device: {config.device!r} cannot be used ({error}); accepted: cpu, cuda, cuda:1"
        ) from error


def other_teacher(name: str, config: RunConfig, meaning: Meaning) -> LiveTeacher:
    """A checkpoint of the teacher's run, or another model, with its classes in the run's order."""
    model = load_teacher(local(name), config)
    take_padding(meaning, model)
    return live(model, config.teacher, meaning.match(model.config, name).order)


def _check_rows(readers: Sequence[Reader], tokenizer: Any) -> None:
    """Raises `ConfigError` if `student.model` has fewer tokens than the teacher and its tokenizer."""
    teacher, student = readers
    required = min(len(tokenizer), teacher.rows or len(tokenizer))
    if student.rows is not None and student.rows < required:
        raise ConfigError(
            f"student.model: its vocabulary has {student.rows} rows;"
            f" accepted: at least {required}, the teacher's"
        )


def _meaning(config: RunConfig, teacher: PreTrainedModel, tokenizer: Any) -> Meaning:
    """The tokens and classes of the run: the classes are the teacher's, or those of `student.model`."""
    kind = config.task.kind
    if not SPECS[kind].has_classes:
        return Meaning(kind, tokenizer)
    teacher_classes = classes_of(teacher.config, "teacher.model")
    if (start := start_config(config.student)) is None or not has_head(kind, start):
        return Meaning(kind, tokenizer, teacher_classes, "teacher.model")
    student = classes_of(start, "student.model")
    return Meaning(kind, tokenizer, run_classes(student, teacher_classes), "student.model")


def _check_class_names(task: Task, meaning: Meaning) -> None:
    """Raises `ConfigError` if a synthetic task's classes are not the run's classes in the same order."""
    if task.id2label is None or meaning.classes is None:
        return
    task_classes = named_classes(task.id2label, "task.data")
    if match_classes(task_classes, meaning.classes, "task.data", meaning.named_by).order is not None:
        raise ConfigError(
            f"{meaning.named_by}: its classes are in another order than those of task.data;"
            f" accepted: {', '.join(task_classes)}"
        )
