"""The loss of one optimiser step by hand: sample by sample, without padding, views or selected positions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vigreux.curriculum import Embedding, Hidden, Labels, Stage
from vigreux.tasks.stream import Sample
from vigreux.tasks.task import Task

IGNORED = -100


def mean_loss(
    student: Any,
    teacher: Any,
    task: Task,
    stage: Stage,
    samples: Sequence[Sample],
    matrix: Tensor,
    scale: float,
) -> Tensor:
    """The mean over all rows of all samples; `matrix` (d_T, d_S) and `scale` turn a teacher's state `h` into
    `h P / scale`.
    """
    rows = [
        row for sample in samples for row in sample_rows(student, teacher, task, stage, sample, matrix, scale)
    ]
    return torch.stack(rows).mean()


def sample_rows(
    student: Any, teacher: Any, task: Task, stage: Stage, sample: Sample, matrix: Tensor, scale: float
) -> Iterator[Tensor]:
    """The loss () of each row of one sample."""
    batch = task.collate([sample])
    found, labels = _run(student, batch), batch.get("labels")
    if isinstance(stage.target, (Hidden, Embedding)):
        for state, target in zip(
            states(found, stage, student=True), states(_teach(teacher, batch), stage, student=False)
        ):
            yield (state - target @ matrix / scale).square().mean()
        return
    assert labels is not None
    wanted = None if isinstance(stage.target, Labels) else _teach(teacher, batch).logits.flatten(0, -2)
    for place, (scores, label) in enumerate(zip(found.logits.flatten(0, -2), labels.flatten())):
        if label == IGNORED:
            continue
        yield (
            F.cross_entropy(scores, label)
            if wanted is None
            else -(wanted[place].softmax(-1) * scores.log_softmax(-1)).sum()
        )


def states(output: Any, stage: Stage, *, student: bool) -> Tensor:
    """(n, d) the hidden states of one sample's tokens, or (1, d) its mean-pooled embedding."""
    if isinstance(stage.target, Embedding):
        return output.hidden_states[-1][0].mean(dim=0, keepdim=True)
    assert isinstance(stage.target, Hidden)
    return output.hidden_states[stage.depth if student else stage.target.layer][0]


def target_scale(teacher: Any, task: Task, stage: Stage, samples: Sequence[Sample], matrix: Tensor) -> float:
    """The standard deviation of the projected targets about their mean, one number for all dimensions."""
    targets = [
        states(_teach(teacher, task.collate([sample])), stage, student=False) @ matrix for sample in samples
    ]
    return float(torch.cat(targets).var(dim=0, correction=0).mean().sqrt())


def _run(model: Any, batch: dict[str, Tensor]) -> Any:
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    return model(**inputs, output_hidden_states=True)


@torch.no_grad()
def _teach(model: Any, batch: dict[str, Tensor]) -> Any:
    return _run(model, batch)
