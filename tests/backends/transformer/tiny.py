"""Setups so small that a whole run takes a fraction of a second."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    PreTrainedModel,
)

from vigreux.backends.transformer.backend import TransformerBackend
from vigreux.backends.transformer.evaluation import HeldOut
from vigreux.backends.transformer.setup import Setup
from vigreux.backends.transformer.setup_checks import check_setup
from vigreux.config.shared import BudgetConfig
from vigreux.curriculum import (
    Curriculum,
    Duration,
    Hidden,
    Logits,
    Projection,
    Stage,
    Target,
    TeacherRef,
)
from vigreux.curriculum.serialize import to_plain
from vigreux.distillation.signals.live import LiveTeacher, Teachers
from vigreux.loop.run import run_stages
from vigreux.run.folder import RunFolder
from vigreux.tasks.evaluate import TeacherRecord
from vigreux.tasks.kinds.classification import LabelledCollator
from vigreux.tasks.kinds.embedding import TextCollator
from vigreux.tasks.kinds.language import MaskedCollator
from vigreux.tasks.kinds.tensors import TensorTask
from vigreux.tasks.table import TokenTable
from vigreux.tasks.task import Task

VOCABULARY, PAD, MASK, SPECIAL = 40, 0, 1, (0, 1, 2, 3)
HEADS = {
    "masked-lm": BertForMaskedLM,
    "classification": BertForSequenceClassification,
    "embedding": BertModel,
}
TRAINING = {
    "per_device_train_batch_size": 8,
    "learning_rate": 1e-2,
    "warmup_steps": 0,
    "logging_steps": 2,
    "save_steps": 3,
    "use_cpu": True,
}


# --- data ---------------------------------------------------------------------------------------------------


def _table(rows: int, seed: int, *, classes: int = 2) -> TokenTable:
    """Rows of 5 to 16 tokens; the class of a row is the half of the vocabulary that its tokens come from."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(classes, size=rows)
    width = (VOCABULARY - len(SPECIAL)) // classes
    ids = [len(SPECIAL) + label * width + draw.integers(width, size=draw.integers(5, 17)) for label in labels]
    return TokenTable.of_rows(ids, labels.tolist())


def task_of(kind: str, *, rows: int = 48) -> Task:
    """Ragged rows, so that every micro-batch has another number of rows that count."""
    collate: Any = {
        "masked-lm": MaskedCollator(PAD, MASK, VOCABULARY, SPECIAL, 0.3),
        "classification": LabelledCollator(PAD),
        "embedding": TextCollator(PAD),
    }[kind]
    classes = {0: "low", 1: "high"} if kind == "classification" else None
    return Task(kind, _table(rows, 0), _table(12, 1), collate, 10, classes)  # type: ignore[arg-type]


def tensor_task() -> TensorTask:
    """Points in 6 dimensions, labelled by the signs of two of them."""
    x = torch.randn(96, 6, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()
    return TensorTask(x[:72], y[:72], eval_inputs=x[72:], eval_labels=y[72:])


# --- models -------------------------------------------------------------------------------------------------


def bert(
    kind: str, *, layers: int, hidden: int, seed: int, dropout: float = 0.0, **config: Any
) -> PreTrainedModel:
    """A BERT of two heads with random weights."""
    sizes = {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": 2,
        "intermediate_size": 2 * hidden,
    }
    shared = {"vocab_size": VOCABULARY, "max_position_embeddings": 20, "pad_token_id": PAD}
    rates = {
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
        "classifier_dropout": dropout,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: PreTrainedModel = HEADS[kind](BertConfig(**sizes, **shared, **rates, **config))
    return model


def teacher_of(kind: str, *, layers: int = 3, hidden: int = 24, seed: int = 0) -> LiveTeacher:
    """A confident teacher: its largest weights are in its head, so that a student learns something fast."""
    model = bert(kind, layers=layers, hidden=hidden, seed=seed)
    draw = torch.Generator().manual_seed(seed)
    bias = {"masked-lm": "cls.predictions.bias", "classification": "classifier.bias"}.get(kind)
    if bias is not None:
        parameter = model.get_parameter(bias)
        parameter.data += 2 * torch.randn(parameter.shape, generator=draw)
    return LiveTeacher(model)


class Net(nn.Module):
    """A plain torch module: blocks of different widths, which `module(inputs)` runs before a head."""

    def __init__(self, *widths: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            pairs = itertools.pairwise(widths)
            self.body = nn.ModuleList([nn.Sequential(nn.Linear(a, b), nn.Tanh()) for a, b in pairs])
            self.head = nn.Linear(widths[-1], 4)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.body:
            x = block(x)
        return self.head(x)


# --- curricula and setups -----------------------------------------------------------------------------------


def stage(name: str, target: Target, steps: int | Duration, *, depth: int | None = None) -> Stage:
    """A stage of the final teacher."""
    duration = steps if isinstance(steps, Duration) else Duration.steps(steps)
    return Stage(name, TeacherRef.final(), target, depth, duration)


def extracted(*steps: int, projection: Projection = Projection()) -> Curriculum:  # noqa: B008 (frozen)
    """Hidden layers 1 and 2 of the teacher with blocks 1 and 2 of the student, then its logits."""
    hidden = [
        stage(f"hidden-{i}", Hidden(i, projection), n, depth=i) for i, n in enumerate(steps[:-1], start=1)
    ]
    return (*hidden, stage("final", Logits(), steps[-1]))


def setup_of(
    kind: str,
    curriculum: Curriculum,
    *,
    student_seed: int = 1,
    dropout: float = 0.0,
    teachers: Teachers | None = None,
    budget: BudgetConfig | None = None,
    training: dict[str, Any] | None = None,
    **settings: Any,
) -> Setup:
    """A student of two blocks of width 16 for a teacher of three of width 24."""
    return Setup(
        task_of(kind),
        bert(kind, layers=2, hidden=16, seed=student_seed, dropout=dropout),
        teachers or Teachers(teacher_of(kind)),
        curriculum,
        budget or BudgetConfig(),
        TRAINING | (training or {}),
        **settings,
    )


@dataclass(frozen=True)
class PreparedRun:
    """A run that is ready to start."""

    backend: TransformerBackend
    folder: RunFolder | None
    root: Path

    def run(self) -> dict[str, float]:
        """All of its stages; the final held-out metrics."""
        return run_stages(self.backend, self.folder, self.root, quiet=True)


def prepared_run(
    setup: Setup, root: Path, *, resume: bool = False, record: TeacherRecord | None = None
) -> PreparedRun:
    """The run, with its folder open on the first process."""
    check_setup(setup)
    config = {"seed": setup.seed, "curriculum": "tiny", "training": setup.training}
    stages = to_plain(setup.curriculum)
    folder = None
    if os.environ.get("RANK", "0") == "0":
        folder = RunFolder.resume(root, config, stages) if resume else RunFolder.create(root, config, stages)
    held_out = HeldOut(setup.task, setup.teachers.final, record=record)
    backend = TransformerBackend(
        setup,
        lambda model: held_out(model, layout=setup.student_layout),
        teacher_metrics=lambda: held_out.teacher_metrics,
    )
    return PreparedRun(backend, folder, root)


def run(setup: Setup, root: Path, *, resume: bool = False, record: TeacherRecord | None = None) -> RunFolder:
    """Runs `setup` to its end."""
    prepared = prepared_run(setup, root, resume=resume, record=record)
    with prepared.folder or nullcontext():
        prepared.run()
    return RunFolder.open(root)


def losses(root: Path, stage: str | None = None) -> list[tuple[int, float]]:
    """(global step, training loss) of every record."""
    records = RunFolder.open(root).metrics("train")
    return [(record["global_step"], record["loss"]) for record in records if stage in (None, record["stage"])]


# --- kills --------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Nothing catches it: what runs stops where it is."""


@contextmanager
def killed_at(
    owner: Any, name: str, call: int = 1, *, after: bool = False, die: Callable[[], None] | None = None
) -> Iterator[None]:
    """The process is killed at the `call`-th call of `owner.name`, before it or after it."""
    original, calls = getattr(owner, name), itertools.count(1)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        now = next(calls) == call
        if now and not after:
            _die(die)
        result = original(*args, **kwargs)
        if now:
            _die(die)
        return result

    setattr(owner, name, wrapped)
    try:
        yield
    finally:
        setattr(owner, name, original)


def _die(die: Callable[[], None] | None) -> None:
    if die is not None:
        die()
    raise Killed
