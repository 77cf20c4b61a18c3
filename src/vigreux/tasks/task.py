"""`Task`: the data and everything else that training and evaluation need to know about what is learned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vigreux.config.task_kinds import SPECS, AnyTaskKind, TaskSpec
from vigreux.tasks.stream import Endless, Examples, Sample, SampleStream
from vigreux.tasks.table import TokenTable

Batch = dict[str, Tensor]
Collator = Callable[[Sequence[Sample]], Batch]
# (labels, predicted ids), each (n,) a sample → metrics
SequenceScores = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], dict[str, float]]
IGNORE = -100  # the label of a position without a loss
_EVALUATION_SEED = 0  # so that held-out masks are the same in every run


@dataclass(frozen=True)
class Task:
    """Training examples, held-out examples, and how they become batches.

    A batch contains the model's inputs and `labels`. Kinds that predict positions have labels (B, T), aligned
    with the logits: `labels[b, t]` is the class or token that `logits[b, t]` predicts, −100 where no loss
    counts.
    Kinds that predict samples have labels (B,). Embeddings have none.

    Args:
        kind: what is learned (see `vigreux.config.task_kinds`).
        train: training examples, by index or endless.
        held_out: held-out examples, by index; the student never trains on them.
        collate: samples → batch; a pure function of the samples, and so of (seed, t).
        tokens_per_sample: the block length of a packed language model, else the mean length of a training
            example, rounded up.
        id2label: class id → name, for kinds with classes.
        notes: notes for the user, one line each.
        has_masks: whether the rows of a masked-lm already have hidden tokens and labels, so that no masks are
            drawn.
        sequence_scores: metrics of whole sequences of predictions, in addition to means over positions.
    """

    kind: AnyTaskKind
    train: Examples | Endless
    held_out: Examples
    collate: Collator
    tokens_per_sample: int
    id2label: dict[int, str] | None = None
    notes: tuple[str, ...] = ()
    has_masks: bool = False
    sequence_scores: SequenceScores | None = None

    @property
    def num_labels(self) -> int | None:
        """Number of classes; `None` for kinds without classes."""
        return None if self.id2label is None else len(self.id2label)

    @property
    def spec(self) -> TaskSpec:
        """The description of the kind of task."""
        return SPECS[self.kind]

    @property
    def train_samples(self) -> int | None:
        """Number of training examples; `None` where they are endless."""
        return None if isinstance(self.train, Endless) else len(self.train)

    def stream(self, seed: int, offset: int, length: int) -> SampleStream:
        """Training samples t = offset, …, offset + length − 1 in the order of `seed`."""
        return SampleStream(self.train, seed, offset, length)

    def positions(self, batch: Batch) -> Tensor | None:
        """(B, T) bool, True where a loss on logits counts; `None` for kinds that predict samples."""
        return batch["labels"] != IGNORE if self.spec.by_position else None

    def token_positions(self, batch: Batch) -> Tensor | None:
        """(B, T) bool, True where a hidden state counts: not at padding. `None` for a plain torch module."""
        if not self.spec.reads_tokens:
            return None
        visible = batch["attention_mask"].bool()
        labelled = self.positions(batch)
        # A masked token counts, even where it is hidden from attention.
        return visible if labelled is None else visible | labelled

    def counts(self, batch: Batch, unit: Literal["samples", "tokens", "positions"]) -> int:
        """The samples, tokens without padding, or rows with a loss in a batch.

        A sample of a plain torch module counts as one token.
        """
        masks = {"samples": None, "tokens": self.token_positions(batch), "positions": self.positions(batch)}
        mask = masks[unit]
        return len(next(iter(batch.values()))) if mask is None else int(mask.sum())

    def eval_batches(self, batch_size: int) -> Iterator[Batch]:
        """The held-out examples in order: the same batches every time, masks included."""
        for start in range(0, len(self.held_out), batch_size):
            indices = range(start, min(start + batch_size, len(self.held_out)))
            yield self.collate(self.held_out_samples(indices))

    def held_out_samples(self, indices: Iterable[int]) -> list[Sample]:
        """Some of the held-out examples. The randomness in their collation is the same in every run."""
        return [Sample(self.held_out[i], i, _EVALUATION_SEED, i, held_out=True) for i in indices]

    @property
    def draws_again(self) -> bool:
        """Whether a sample differs each time it is read: masks are drawn anew, or samples are endless."""
        draws_masks = self.spec.hides_tokens and not self.has_masks
        return draws_masks or isinstance(self.train, Endless)

    def longest_samples(self) -> list[Sample]:
        """The longest row of the training data and that of the held-out data, unless these are drawn."""
        samples = []
        if isinstance(self.train, TokenTable):
            samples.append(Sample(self.train[self.train.longest], self.train.longest, _EVALUATION_SEED, 0))
        if isinstance(self.held_out, TokenTable):
            samples += self.held_out_samples([self.held_out.longest])
        return samples


def stack_labels(samples: Sequence[Sample]) -> Tensor:
    """(B,) int64 class ids."""
    return torch.tensor([sample.example.label for sample in samples])
