"""The kind of task of models from Python, by their classes, and the limits on their input rows."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.models.auto import modeling_auto

from vigreux.config.task_kinds import SPECS, TASK_KINDS, TaskKind
from vigreux.errors import ConfigError
from vigreux.models.views import input_names
from vigreux.tasks.rows.columns import ModelInputs

# transformers' table of model classes → the kind of task that their head is for
HEADS: dict[str, TaskKind] = {SPECS[kind].model_table: kind for kind in TASK_KINDS if SPECS[kind].model_table}
_HEADS_IN_WORDS = [f"{SPECS[kind].head} ({kind})" for kind in HEADS.values()]
ACCEPTED = (
    f"a model with a head for {', '.join(_HEADS_IN_WORDS[:-1])} or {_HEADS_IN_WORDS[-1]}, or one without a"
    " head (embedding)"
)
WITHOUT_TEXT = "wrapped in a torch module that is called as module(inputs), with pairs of tensors"


def check_models(student: nn.Module, teacher: nn.Module | None) -> None:
    """Raises `ConfigError` unless student and teacher are both Hugging Face models, or both torch modules."""
    for where, model in (("student", student), ("teacher", teacher)):
        if hasattr(model, "peft_config") and hasattr(model, "get_base_model"):
            instead = {
                "student": "the model itself after model.add_adapter(…)",
                "teacher": "merge_and_unload()",
            }
            raise ConfigError(f"{where}: a {type(model).__name__} of peft; accepted: {instead[where]}")
    if teacher is not None and isinstance(student, PreTrainedModel) != isinstance(teacher, PreTrainedModel):
        raise ConfigError(
            f"student and teacher: {_named_sort(student)} and {_named_sort(teacher)}; accepted: two of one"
            " sort"
        )


def _named_sort(model: nn.Module) -> str:
    """The class of a model and its sort, for messages."""
    sort = "a Hugging Face model" if isinstance(model, PreTrainedModel) else "a torch module"
    return f"{type(model).__name__} ({sort})"


def task_kind(student: PreTrainedModel, teacher: PreTrainedModel | None, stated: TaskKind | None) -> TaskKind:
    """The kind of task: that of the student's class, or `asked` if the class does not say.

    Raises:
        ConfigError: no kind of task fits the student or the teacher; they have different kinds; or `asked` is
            not the student's kind.
    """
    student_kind = kind_of("student", student)
    name = type(student).__name__
    if stated is not None and student_kind is not None and stated != student_kind:
        hint = "; for embeddings its base_model" if stated == "embedding" else ""
        raise ConfigError(f"task: {stated!r}, and the student is a {name}; accepted: {student_kind!r}{hint}")
    kind = stated or student_kind
    if kind is None:
        raise ConfigError(
            f"task: missing, and the class {name} does not say it; accepted: {', '.join(TASK_KINDS)}"
        )
    for where, model in (("student", student), ("teacher", teacher)):
        if model is not None and not SPECS[kind].has_classes and _has_encoder_and_decoder(model):
            raise ConfigError(
                f"{where}: {type(model).__name__} has an encoder and a decoder, which no task trains"
                f" together; accepted: {ACCEPTED}"
            )
    if teacher is not None and SPECS[kind].has_logits:
        teacher_kind = kind_of("teacher", teacher)
        if teacher_kind is not None and teacher_kind != kind:
            raise ConfigError(
                f"teacher: {type(teacher).__name__} is for {teacher_kind}, the student for {kind}; accepted:"
                f" a teacher for {kind}"
            )
    return kind


def kind_of(where: str, model: PreTrainedModel) -> TaskKind | None:
    """The kind of task of a model, by its class and base classes; `None` if these do not determine it.

    Raises:
        ConfigError: the model reads no texts, or no kind of task trains its head.
    """
    name = type(model).__name__
    if model.main_input_name != "input_ids":
        raise ConfigError(
            f"{where}: {name} reads {model.main_input_name}, and no task takes these yet; accepted: a model"
            f" that reads texts, or it {WITHOUT_TEXT}"
        )
    for parent in type(model).__mro__:
        for mapping, kind in HEADS.items():
            if parent.__name__ in _class_names(mapping):
                return kind
        if parent.__name__ in _class_names("MODEL_MAPPING_NAMES"):
            return "embedding"
        for mapping in _OTHER_HEADS:
            if parent.__name__ in _class_names(mapping):
                use = (
                    mapping.removeprefix("MODEL_FOR_")
                    .removesuffix("_MAPPING_NAMES")
                    .replace("_", " ")
                    .lower()
                )
                raise ConfigError(
                    f"{where}: {name} is for {use}, which no task trains yet; accepted: {ACCEPTED}"
                )
    return "embedding" if model.base_model is model else None


def _has_encoder_and_decoder(model: PreTrainedModel) -> bool:
    takes = inspect.signature(type(model).forward).parameters
    return bool(getattr(model.config, "is_encoder_decoder", False)) and "decoder_input_ids" in takes


_OTHER_HEADS = tuple(
    name
    for name in dir(modeling_auto)
    if name.startswith("MODEL_FOR_")
    and name.endswith("_MAPPING_NAMES")
    and name not in (*HEADS, "MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES")  # T5's encoder: a model without a head
)


def _class_names(mapping: str) -> set[str]:
    """The classes in one of transformers' tables; a family can have several."""
    names: set[str] = set()
    for value in getattr(modeling_auto, mapping).values():
        names.update([value] if isinstance(value, str) else value)
    return names


def model_inputs(where: str, model: PreTrainedModel, kind: TaskKind) -> ModelInputs:
    """The inputs of a model that rows must fit."""
    embeddings = _embeddings_or_none(model.get_input_embeddings)
    head = _embeddings_or_none(model.get_output_embeddings)
    config: Any = model.config.get_text_config()
    limits = {}
    if getattr(config, "type_vocab_size", 0):
        limits["token_type_ids"] = config.type_vocab_size
    tables = [
        module.num_embeddings
        for path, module in model.named_modules()
        if isinstance(module, nn.Embedding) and path.rpartition(".")[2] in _POSITION_TABLES
    ]
    if tables:
        limits["position_ids"] = min(tables)
    outputs = None
    if SPECS[kind].over_vocabulary:
        outputs = getattr(head, "out_features", None)
    elif SPECS[kind].by_position:
        outputs = model.config.num_labels
    return ModelInputs(
        f"{where} ({type(model).__name__})",
        input_names(model),
        getattr(embeddings, "num_embeddings", None),
        outputs,
        limits,
    )


_POSITION_TABLES = ("position_embeddings", "wpe", "embed_positions", "position_embedding")


def _embeddings_or_none(get: Any) -> Any:
    try:
        return get()
    except (NotImplementedError, AttributeError):
        return None
