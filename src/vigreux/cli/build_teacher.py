"""From a `TeachConfig` to what the engine runs: a model to train on the labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig

from vigreux.cli.build import check_length, local, training_device
from vigreux.config import AUTO_CLASS, ModelConfig, TeachConfig
from vigreux.distill.teachers import Teachers
from vigreux.engines.setup import Setup, freeze_first_blocks
from vigreux.errors import ConfigError, unknown
from vigreux.models.load import load_model, load_tokenizer
from vigreux.models.student import build, student_config
from vigreux.recipes import supervised
from vigreux.tasks.build import build_task, read_documents
from vigreux.tasks.task import Task
from vigreux.tasks.tokenizers import train_tokenizer


def make_teaching_setup(config: TeachConfig) -> Setup:
    """The model with its first weights, its data and the curriculum `supervised`."""
    tokenizer = _tokenizer(config)
    task = build_task(config.task, tokenizer)
    model = _model(config.model, task, tokenizer, config.seed)
    check_length(config.task.max_length, model)
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
        notes=list(task.notes),
    )


def _tokenizer(config: TeachConfig) -> Any:
    source = config.model.tokenizer or config.model.start
    if source is not None:
        return load_tokenizer(local(source), trust_remote_code=config.model.trust_remote_code)
    documents, _, _ = read_documents(config.task)
    texts = (document.text for document in documents)
    return train_tokenizer(texts, config.model.vocab_size, "bpe" if config.task.kind == "causal-lm" else "wordpiece")


def _model(config: ModelConfig, task: Task, tokenizer: Any, seed: int) -> nn.Module:
    auto_class = AUTO_CLASS[task.kind]  # type: ignore[index]
    labels: dict[str, Any] = {}
    if task.id2label is not None:
        labels = {"id2label": task.id2label, "label2id": {name: i for i, name in task.id2label.items()}}
    if config.start is not None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # of a head that the checkpoint lacks
            return load_model(
                local(config.start),
                auto_class,
                allow_missing=True,
                allow_pickle=config.allow_pickle,
                trust_remote_code=config.trust_remote_code,
                **labels,
            )
    assert config.family is not None
    try:
        family = AutoConfig.for_model(config.family)
    except ValueError as error:
        from transformers import CONFIG_MAPPING

        message = unknown("model.family", config.family, CONFIG_MAPPING).split(" accepted:")[0].rstrip(";")
        raise ConfigError(f"{message}; accepted: a model type of transformers, such as bert, gpt2 or llama") from error
    family.vocab_size = len(tokenizer)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id"):
        if hasattr(family, name):
            setattr(family, name, getattr(tokenizer, name))
    for name, value in labels.items():
        setattr(family, name, value)
    sizes = student_config(
        family,
        layers=config.layers,
        hidden=config.hidden,
        heads=config.heads,
        intermediate=config.intermediate or 4 * config.hidden,
    )
    return build(sizes, auto_class, seed)
