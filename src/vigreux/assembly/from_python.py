"""The task of models and data that a Python caller hands over: what is learned, and of which rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto import modeling_auto

from vigreux.config import TaskKind
from vigreux.errors import ConfigError
from vigreux.models.load import load_config, task_class
from vigreux.tasks.classes import classes_of
from vigreux.tasks.task import Task
from vigreux.tasks.tensors import TensorTask
from vigreux.tasks.tokenised import tokenised_task

_HEADS: dict[str, TaskKind] = {
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES": "causal-lm",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES": "masked-lm",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES": "classification",
}


def task_from_python(
    student: nn.Module,
    teacher: nn.Module | None,
    train: Any,
    held_out: Any,
    tokenizer: PreTrainedTokenizerBase | None,
    kind: TaskKind | None,
) -> Task:
    """The task of `vigreux.distill`: by the student's class, unless `kind` says so; see there for the data."""
    if not isinstance(student, PreTrainedModel):
        for name, data in (("train_dataset", train), ("eval_dataset", held_out)):
            if not (
                isinstance(data, Sequence)
                and len(data) == 2
                and all(isinstance(part, Tensor) for part in data)
            ):
                raise ConfigError(f"{name}: a torch module takes a pair of tensors (inputs, labels)")
        return TensorTask(*train, eval_inputs=held_out[0], eval_labels=held_out[1])
    if tokenizer is None:
        raise ConfigError("processing_class: missing; accepted: the tokenizer of student and teacher")
    kind = kind or _kind_of(student)
    names = dict(enumerate(classes_of(student.config, "student"))) if kind == "classification" else None
    return tokenised_task(kind, train, held_out, tokenizer, id2label=names)


def _kind_of(student: PreTrainedModel) -> TaskKind:
    """What a model with this head is for; one without a head gives embeddings."""
    for mapping, kind in _HEADS.items():
        if type(student).__name__ in getattr(modeling_auto, mapping).values():
            return kind
    return "embedding"


def other_teacher_class(source: str, teacher: nn.Module | None, kind: TaskKind | Literal["tensor"]) -> str:
    """The class that loads a checkpoint of the teacher's run, or another model: the teacher's, or its family's for the task."""
    name = type(teacher).__name__
    if kind == "tensor":
        return name
    config = load_config(source)
    if isinstance(teacher, PreTrainedModel) and config.model_type == teacher.config.model_type:
        return name if hasattr(transformers, name) else task_class(kind, config)
    return task_class(kind, config)
