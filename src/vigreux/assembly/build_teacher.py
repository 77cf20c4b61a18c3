"""Sets up a run from a `TeachConfig`: a model that is trained on the labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from vigreux.activity import doing
from vigreux.assembly.meaning import Meaning
from vigreux.assembly.sources import local, training_device
from vigreux.assembly.token_ids import Reader, settle_token_ids
from vigreux.backends.transformer.setup import Setup
from vigreux.backends.transformer.training import check_training
from vigreux.config.task_kinds import SPECS, TaskKind
from vigreux.config.transformer import ModelConfig, TeachConfig
from vigreux.curriculum.recipes import supervised
from vigreux.distillation.signals.live import Teachers
from vigreux.errors import ConfigError
from vigreux.models.families import check_kind, check_length, has_head
from vigreux.models.freezing import freeze_first_blocks
from vigreux.models.load import load_config, load_model, load_tokenizer
from vigreux.models.student import INTERMEDIATE, build, student_config
from vigreux.tasks.build import build_task, read_documents
from vigreux.tasks.classes import check_problem_type, find_class, is_generic, named_classes
from vigreux.tasks.documents.split import Documents
from vigreux.tasks.kinds.registry import BUILDERS
from vigreux.tasks.synthetic.build import generated_tokenizer, is_generated
from vigreux.tasks.task import Task
from vigreux.tasks.tokenizers import train_tokenizer

FAMILY_PREFIX = "student: "  # `student_config` begins its messages about a family with this


@doing("making the model and its data")
def make_teaching_setup(config: TeachConfig) -> Setup:
    """The model with its first weights, its data and the curriculum `supervised`."""
    check_training(config.training)
    notes: list[str] = []
    if is_generated(config.task.data):
        tokenizer: Any = generated_tokenizer(config.task)
        task = build_task(config.task, tokenizer)
    else:
        documents = read_documents(config.task)
        tokenizer = _tokenizer(config, documents)
        names, notes = _classes(config, documents)
        task = build_task(config.task, tokenizer, id2label=names, documents=documents)
    model = _model(config.model, config.task.kind, task, tokenizer, config.seed)
    check_length(config.task.max_length, model)
    meaning = Meaning(config.task.kind, tokenizer)
    _, task, of_tokens = settle_token_ids(meaning, task, [Reader.of_model("model", model)])
    freeze_first_blocks(model, config.model.freeze_blocks)
    training = dict(config.training)
    if config.keep_every is not None:
        training["save_steps"] = config.keep_every
    return Setup(
        task=task,
        student=model.to(training_device()),
        teachers=Teachers(None),
        curriculum=supervised(),
        budget=config.budget,
        training=training,
        seed=config.seed,
        processing_class=tokenizer,
        keep_checkpoints=config.keep_every is not None,
        sharded=config.sharded,
        notes=[*task.notes, *notes, *of_tokens],
    )


def _tokenizer(config: TeachConfig, documents: Documents) -> Any:
    source = config.model.tokenizer or config.model.start
    if source is not None:
        return load_tokenizer(local(source), trust_remote_code=config.model.trust_remote_code)
    texts = (document.text for document in documents.train)
    with _field_names(""):
        return train_tokenizer(texts, config.model.vocab_size, config.task.spec.tokenizer)


def _classes(config: TeachConfig, documents: Documents) -> tuple[dict[int, str] | None, list[str]]:
    """Class id → name, and notes.

    If the labels are the classes of the classifier to start from, its classes are used, else those of the
    labels. A head with the same number of classes keeps its weights. A head with another number is replaced
    by a new one (see `load_model`).
    """
    class_names = BUILDERS[config.task.kind].class_names
    if class_names is None:
        return None, []
    of_data = class_names(documents.train)
    if config.model.start is None:
        return of_data, []
    start = load_config(local(config.model.start), trust_remote_code=config.model.trust_remote_code)
    check_problem_type(start, "model.start")
    if not has_head(config.task.kind, start):
        return of_data, ["model.start: has no classification head; a new one starts at random"]
    labels: Any = start.id2label
    of_start = named_classes(labels, "model.start", start.label2id)
    names = [of_data[i] for i in range(len(of_data))]
    ids = {name: i for i, name in enumerate(of_start)}
    if not is_generic(of_start) and all(find_class(name, ids) is not None for name in names):
        return dict(enumerate(of_start)), []
    if len(of_start) != len(of_data):
        return of_data, [
            f"model.start: its head has {len(of_start)} outputs, the data {len(of_data)} classes: a new head"
            " is made"
        ]
    if is_generic(names):
        return dict(enumerate(of_start)), []
    listed = ", ".join(names[:8])
    return of_data, [
        f"model.start: its head goes on as one of other classes ({listed}), which it gets in this order"
    ]


def _model(config: ModelConfig, kind: TaskKind, task: Task, tokenizer: Any, seed: int) -> nn.Module:
    auto_class = SPECS[kind].auto_class
    labels: dict[str, Any] = {}
    if task.id2label is not None:
        labels = {"id2label": task.id2label, "label2id": {name: i for i, name in task.id2label.items()}}
    if config.start is None:
        return build(_random_config(config, kind, tokenizer, labels), auto_class, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # for a head that the checkpoint lacks
        return load_model(
            local(config.start),
            auto_class,
            allow_missing=True,
            allow_pickle=config.allow_pickle,
            trust_remote_code=config.trust_remote_code,
            **labels,
        )


def _random_config(
    config: ModelConfig, kind: TaskKind, tokenizer: Any, labels: dict[str, Any]
) -> PreTrainedConfig:
    """The family's config with the configured sizes, the tokenizer's ids and the task's labels."""
    assert config.family is not None
    if config.family not in CONFIG_MAPPING:
        suggestions = get_close_matches(config.family, list(CONFIG_MAPPING), n=1)
        hint = f" did you mean {suggestions[0]!r}?" if suggestions else ""
        accepted = "a model type of transformers, such as bert, gpt2 or llama"
        raise ConfigError(f"model.family: unknown value {config.family!r};{hint} accepted: {accepted}")
    family = AutoConfig.for_model(config.family)
    if SPECS[kind].is_causal and hasattr(family, "is_decoder"):
        family.is_decoder = True  # an encoder that predicts the next token must not see it
    check_kind(kind, family, "model.family")
    family.vocab_size = len(tokenizer)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id"):
        if hasattr(family, name):
            setattr(family, name, getattr(tokenizer, name))
    for name, value in labels.items():
        setattr(family, name, value)
    if config.dropout is not None:
        _set_dropout(family, config.dropout)
    # A size that the family does not have is set only if the user asked for it.
    without_heads = not hasattr(family, "num_attention_heads") and config.heads == ModelConfig().heads
    intermediate = config.intermediate
    if intermediate is None and any(hasattr(family, name) for name in INTERMEDIATE):
        intermediate = 4 * config.hidden
    with _field_names("student."):
        return student_config(
            family,
            layers=config.layers,
            hidden=config.hidden,
            heads=None if without_heads else config.heads,
            intermediate=intermediate,
        )


def _set_dropout(family: PreTrainedConfig, share: float) -> None:
    """Sets every dropout of the family. A dropout of `None` follows another one and stays as it is."""
    names = [
        name for name, value in family.to_dict().items() if "drop" in name and isinstance(value, (int, float))
    ]
    if not names:
        raise ConfigError(f"model.dropout: the family {family.model_type!r} has none; accepted: leave it out")
    for name in names:
        setattr(family, name, share)


@contextmanager
def _field_names(prefix: str) -> Iterator[None]:
    """Renames fields in errors: `student.heads` becomes `model.heads`."""
    try:
        yield
    except ConfigError as error:
        message = str(error).removeprefix(prefix)
        if message.startswith(FAMILY_PREFIX):  # a student may be the user's model, a teacher here may not
            reason = message.removeprefix(FAMILY_PREFIX).rpartition("; accepted")[0]
            message = f"family: {reason}; accepted: other sizes, or another family"
        raise ConfigError(f"model.{message}") from error
