"""The task of models and data from Python: what is learned, and from which rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vigreux.assembly.kinds import WITHOUT_TEXT, check_models, model_inputs, task_kind
from vigreux.config.task_kinds import SPECS, AnyTaskKind, TaskKind
from vigreux.errors import ConfigError, DataError
from vigreux.models.families import check_family, task_class
from vigreux.models.load import load_config
from vigreux.tasks.classes import check_outputs, classes_of
from vigreux.tasks.kinds.tensors import TensorTask, check_tensors
from vigreux.tasks.rows.build import tokenised_task
from vigreux.tasks.task import Task


def task_from_python(
    student: nn.Module,
    teacher: nn.Module | None,
    train: Any,
    held_out: Any,
    tokenizer: PreTrainedTokenizerBase | None,
    kind: TaskKind | None,
) -> Task:
    """The task of `vigreux.distill`: `kind`, or the kind of the student's class. See there for the data.

    Raises:
        ConfigError: no task fits the models, or the models do not match.
        DataError: the models cannot take the data.
    """
    check_models(student, teacher)
    if not isinstance(student, PreTrainedModel):
        if kind is not None:
            raise ConfigError(
                f"task: {kind!r} of a torch module; accepted: none, because it learns from pairs of tensors"
            )
        return _tensor_task(student, teacher, train, held_out)
    assert teacher is None or isinstance(teacher, PreTrainedModel)
    kind = task_kind(student, teacher, kind)
    models = {"student": student} | ({} if teacher is None else {"teacher": teacher})
    for where, model in models.items():
        if SPECS[kind].is_causal and type(model.config).__module__.startswith("transformers."):
            check_family(kind, model.config, f"{where}: {type(model).__name__}")
        if SPECS[kind].has_classes:
            check_outputs(model.config, where)
    for name, data in (("train_dataset", train), ("eval_dataset", held_out)):
        if _is_pair(data):
            raise DataError(
                f"{name}: a pair of tensors is for torch modules; accepted for a {type(student).__name__}:"
                f" rows with input_ids (or the model {WITHOUT_TEXT})"
            )
    if tokenizer is None:
        raise ConfigError("processing_class: missing; accepted: the tokenizer of student and teacher")
    return tokenised_task(
        kind,
        train,
        held_out,
        tokenizer,
        id2label=dict(enumerate(classes_of(student.config, "student"))) if SPECS[kind].has_classes else None,
        models=[model_inputs(f"the {where}", model, kind) for where, model in models.items()],
    )


def _tensor_task(student: nn.Module, teacher: nn.Module | None, train: Any, held_out: Any) -> Task:
    """Classification of tensors by modules that are called as `module(inputs)`; checks the first rows."""
    for name, data in (("train_dataset", train), ("eval_dataset", held_out)):
        if not _is_pair(data):
            name_of = "nothing" if data is None else f"a {type(data).__name__}"
            raise ConfigError(f"{name}: {name_of}; a torch module takes a pair of tensors (inputs, labels)")
    check_tensors(*train, *held_out)
    classes = _outputs("student", student, train[0])
    if teacher is not None and (teacher_classes := _outputs("teacher", teacher, train[0])) != classes:
        raise ConfigError(
            f"teacher: {teacher_classes} outputs per row, and the student has {classes}; accepted: the same"
            " number"
        )
    return TensorTask(*train, eval_inputs=held_out[0], eval_labels=held_out[1], num_labels=classes)


def _is_pair(data: Any) -> bool:
    return (
        isinstance(data, Sequence) and len(data) == 2 and all(isinstance(tensor, Tensor) for tensor in data)
    )


def _outputs(where: str, model: nn.Module, inputs: Tensor) -> int:
    """The number of outputs per row of a torch module, measured on the first two rows of `inputs`."""
    weights = next(model.parameters(), None)
    if weights is None:
        raise ConfigError(
            f"{where}: {type(model).__name__} has no weights; accepted: a module with parameters"
        )
    training = model.training
    rows = inputs[:2].to(weights.device)
    try:
        with torch.no_grad(), torch.random.fork_rng():
            output = model.eval()(rows)
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise ConfigError(
            f"{where}: {type(model).__name__} fails on inputs {tuple(rows.shape)}, {inputs.dtype} ({reason});"
            " accepted: a module that is called as module(inputs)"
        ) from error
    finally:
        model.train(training)
    if not isinstance(output, Tensor):
        output = _first(output)
    if output is None or output.dim() != 2 or len(output) != len(rows):
        shape = "no tensor" if output is None else f"shape {tuple(output.shape)}"
        raise ConfigError(
            f"{where}: {type(model).__name__} gives {shape} for {len(rows)} rows; accepted: ({len(rows)},"
            " classes)"
        )
    if output.shape[1] < 2:
        raise ConfigError(
            f"{where}: {type(model).__name__} gives one output a row; accepted: one for each of two classes"
            " or more"
        )
    return int(output.shape[1])


def _first(output: Any) -> Tensor | None:
    """The first element of an output that is not a tensor: views read the logits from it."""
    try:
        first = output[0]
    except (TypeError, KeyError, IndexError):
        return None
    return first if isinstance(first, Tensor) else None


def other_teacher_class(source: str, teacher: nn.Module | None, kind: AnyTaskKind) -> str:
    """The class that loads a checkpoint of the teacher's run or another model.

    For a model of the teacher's family it is the teacher's class, else the family's class for the task.
    """
    name = type(teacher).__name__
    if not SPECS[kind].reads_tokens:
        return name
    config = load_config(source)
    if isinstance(teacher, PreTrainedModel) and config.model_type == teacher.config.model_type:
        return name if hasattr(transformers, name) else task_class(kind, config)
    return task_class(kind, config)
