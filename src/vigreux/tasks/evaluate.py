"""Held-out evaluation: means over the rows that count, and agreement with a teacher.

A forward is a callable from a batch to rows. The rows are logits (N, C) of the N positions with a loss (in
the order of `x[task.positions(batch)]`), logits of each sample (classification, plain modules), or embeddings
(B, d). Modules must be in evaluation mode.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional as F

from vigreux.tasks.task import Batch, SequenceScores, Task

Forward = Callable[[Batch], Tensor]
_ROWS_AT_ONCE = 4096  # bounds the size of float32 copies of logits
_PAIRED = 2000  # the first held-out texts, whose pairs are compared: 2 million pairs
# Below this standard deviation, the cosine similarities of a float32 model count as constant.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class LogitsRecord:
    """The facts about a teacher's logits on the held-out data that an evaluation stores.

    Args:
        argmax: (R,) int64, the predicted id of each held-out row in order.
        label_log_prob: (R,) float32, log-probability of the label.
    """

    argmax: Tensor
    label_log_prob: Tensor


@dataclass(frozen=True)
class EmbeddingRecord:
    """A teacher's embeddings (n, d) float32 of the held-out texts."""

    embeddings: Tensor


TeacherRecord = LogitsRecord | EmbeddingRecord


def record_from(tensors: Mapping[str, Tensor]) -> TeacherRecord:
    """The record with these fields."""
    return EmbeddingRecord(**tensors) if "embeddings" in tensors else LogitsRecord(**tensors)


@torch.no_grad()
def record_teacher(
    task: Task, teacher: Forward, *, batch_size: int, device: torch.device | str = "cpu"
) -> TeacherRecord:
    """Runs the teacher over the held-out data once. Any number of students can then be compared with it."""
    if not task.spec.has_logits:
        return EmbeddingRecord(_embeddings(task, teacher, batch_size, device))
    argmax = []
    log_probs = []
    for batch in _on_device(task, batch_size, device):
        labels = _label_rows(task, batch)
        for scores, label in zip(teacher(batch).split(_ROWS_AT_ONCE), labels.split(_ROWS_AT_ONCE)):
            argmax.append(scores.argmax(-1).cpu())
            log_probs.append(-F.cross_entropy(scores.float(), label, reduction="none").cpu())
    return LogitsRecord(torch.cat(argmax), torch.cat(log_probs))


@torch.no_grad()
def evaluate(
    task: Task,
    student: Forward,
    teacher: Forward | TeacherRecord | None = None,
    *,
    batch_size: int,
    device: torch.device | str = "cpu",
    projection: Tensor | None = None,
) -> dict[str, float]:
    """Means over all rows of the held-out data, whatever the batch size.

    Args:
        task: provides the held-out batches.
        student: the student's forward.
        teacher: the teacher's forward or record. A record has no measures that need all logits.
        batch_size: samples per batch.
        device: the device of the batches.
        projection: (d_T, d_S), for embeddings: the cosine is measured against `teacher @ projection`.

    Returns:
        With logits: `loss` (nats per row) and `accuracy`; for language models also `perplexity` = exp(loss);
        for kinds with scores of sequences also these scores. With a teacher also `agreement` (share of rows
        with equal argmax), `teacher_loss` and `teacher_accuracy`. With the teacher's forward also
        `soft_cross_entropy` = −Σ p_T log p_S and `kl` = KL(p_T ‖ p_S).

        With embeddings, which need a teacher: `cosine` with the teacher's projected embedding, if the widths
        fit; `similarity_pearson` and `similarity_spearman`, the correlation of the two models' cosine
        similarities over pairs of texts, 0 if one model gives all pairs the same similarity.
    """
    if not task.spec.has_logits:
        assert teacher is not None, "embeddings are evaluated against a teacher"
        record = teacher
        if callable(teacher):
            record = record_teacher(task, teacher, batch_size=batch_size, device=device)
        assert isinstance(record, EmbeddingRecord)
        return compare_embeddings(
            _embeddings(task, student, batch_size, device), record.embeddings, projection
        )
    means = _mean_measures(task, student, teacher, batch_size, device)
    if task.spec.has_perplexity:
        # torch gives infinity where math.exp overflows.
        means["perplexity"] = torch.tensor(means["loss"], dtype=torch.float64).exp().item()
    return means


# --- logits -------------------------------------------------------------------------------------------------


def _mean_measures(
    task: Task,
    student: Forward,
    teacher: Forward | TeacherRecord | None,
    batch_size: int,
    device: torch.device | str,
) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    rows = 0
    sequences = _Sequences()
    for batch in _on_device(task, batch_size, device):
        labels = _label_rows(task, batch)
        scores = student(batch)
        teacher_scores = teacher(batch) if callable(teacher) else None
        if task.sequence_scores is not None:
            sequences.add(task, batch, labels, scores, teacher_scores)
        for start in range(0, len(labels), _ROWS_AT_ONCE):
            chunk = slice(start, start + _ROWS_AT_ONCE)
            measures = _student_measures(scores[chunk], labels[chunk])
            if teacher_scores is not None:
                measures |= _teacher_measures(scores[chunk], teacher_scores[chunk], labels[chunk])
            elif isinstance(teacher, LogitsRecord):
                recorded = slice(rows, rows + len(labels[chunk]))
                measures |= _recorded_measures(
                    scores[chunk], teacher.argmax[recorded], teacher.label_log_prob[recorded], labels[chunk]
                )
            for name, values in measures.items():
                sums[name] += values.cpu().double().sum().item()
            rows += len(labels[chunk])
    means = {name: total / rows for name, total in sums.items()}
    if task.sequence_scores is None:
        return means
    if isinstance(teacher, LogitsRecord):
        sequences.teacher = list(teacher.argmax.split(sequences.lengths))
    return means | sequences.scores(task.sequence_scores)


@dataclass
class _Sequences:
    """Labels and predicted ids of each held-out sample, each (n,) for its n rows that count."""

    labels: list[Tensor] = field(default_factory=list)
    student: list[Tensor] = field(default_factory=list)
    teacher: list[Tensor] = field(default_factory=list)

    @property
    def lengths(self) -> list[int]:
        """Rows of each sample."""
        return [len(labels) for labels in self.labels]

    def add(
        self, task: Task, batch: Batch, labels: Tensor, scores: Tensor, teacher_scores: Tensor | None
    ) -> None:
        """Adds the samples of a batch, from the labels (N,) and logits (N, C) of all their rows."""
        positions = task.positions(batch)
        assert positions is not None, "only kinds that predict positions have scores of sequences"
        lengths = positions.sum(1).tolist()
        self.labels += labels.cpu().split(lengths)
        self.student += scores.argmax(-1).cpu().split(lengths)
        if teacher_scores is not None:
            self.teacher += teacher_scores.argmax(-1).cpu().split(lengths)

    def scores(self, sequence_scores: SequenceScores) -> dict[str, float]:
        """The student's metrics, and the teacher's under names that begin with `teacher_`."""
        labels = [ids.numpy() for ids in self.labels]
        metrics = sequence_scores(labels, [ids.numpy() for ids in self.student])
        if self.teacher:
            of_teacher = sequence_scores(labels, [ids.numpy() for ids in self.teacher])
            metrics |= {f"teacher_{name}": value for name, value in of_teacher.items()}
        return metrics


def _student_measures(scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The measures of each row (N,), from logits (N, C) and labels (N,)."""
    return {
        "loss": F.cross_entropy(scores.float(), labels, reduction="none"),
        "accuracy": scores.argmax(-1) == labels,
    }


def _recorded_measures(
    scores: Tensor, argmax: Tensor, label_log_prob: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """The measures of each row (N,), from the student's logits (N, C) and the teacher's record (N,)."""
    return {
        "agreement": scores.argmax(-1).cpu() == argmax,
        "teacher_loss": -label_log_prob,
        "teacher_accuracy": argmax == labels.cpu(),
    }


def _teacher_measures(scores: Tensor, teacher_scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The measures of each row (N,), from both models' logits (N, C)."""
    log_s = scores.float().log_softmax(-1)  # (N, C)
    log_t = teacher_scores.float().log_softmax(-1)  # (N, C)
    p_t = log_t.exp()
    soft = -(p_t * log_s).sum(-1)
    entropy = -(p_t * log_t).sum(-1)
    return {
        "agreement": scores.argmax(-1) == teacher_scores.argmax(-1),
        "teacher_loss": F.nll_loss(log_t, labels, reduction="none"),
        "teacher_accuracy": teacher_scores.argmax(-1) == labels,
        "soft_cross_entropy": soft,
        "kl": soft - entropy,
    }


def _label_rows(task: Task, batch: Batch) -> Tensor:
    """(N,) the label of each row that counts."""
    positions = task.positions(batch)
    return batch["labels"] if positions is None else batch["labels"][positions]


def _on_device(task: Task, batch_size: int, device: torch.device | str) -> Iterator[Batch]:
    for batch in task.eval_batches(batch_size):
        yield {name: values.to(device) for name, values in batch.items()}


# --- embeddings ---------------------------------------------------------------------------------------------


def compare_embeddings(
    student: Tensor, teacher: Tensor, projection: Tensor | None = None
) -> dict[str, float]:
    """The measures of `evaluate` for embeddings.

    Args:
        student: (n, d_S) the student's embeddings.
        teacher: (n, d_T) the teacher's embeddings.
        projection: (d_T, d_S), or `None`.
    """
    target = teacher if projection is None else teacher @ projection.to(teacher)  # (n, d_S) if the widths fit
    measures = {}
    if target.shape == student.shape:
        measures["cosine"] = F.cosine_similarity(student, target).mean().item()
    return measures | _correlations(
        _pair_similarities(student[:_PAIRED]), _pair_similarities(teacher[:_PAIRED])
    )


def _embeddings(task: Task, forward: Forward, batch_size: int, device: torch.device | str) -> Tensor:
    """(n, d) float32 on the CPU."""
    return torch.cat([forward(batch).float().cpu() for batch in _on_device(task, batch_size, device)])


def _pair_similarities(embeddings: Tensor) -> Tensor:
    """(n (n − 1) / 2,) float64 cosine similarity of each pair of rows (n, d)."""
    unit = F.normalize(embeddings.double())
    above = torch.triu_indices(len(unit), len(unit), offset=1)
    return (unit @ unit.T)[above[0], above[1]]


def _correlations(x: Tensor, y: Tensor) -> dict[str, float]:
    """Pearson's and Spearman's correlation of x (m,) and y (m,); 0 if one is constant up to rounding."""
    if not (_varies(x) and _varies(y)):
        return {"similarity_pearson": 0.0, "similarity_spearman": 0.0}
    ranks = torch.from_numpy(rankdata(x)), torch.from_numpy(rankdata(y))
    return {"similarity_pearson": _pearson(x, y), "similarity_spearman": _pearson(*ranks)}


def _varies(x: Tensor) -> bool:
    return bool((x - x.mean()).square().mean() > _ROUNDING**2)


def _pearson(x: Tensor, y: Tensor) -> float:
    x = x - x.mean()
    y = y - y.mean()
    return (x @ y / (x.norm() * y.norm())).item()
