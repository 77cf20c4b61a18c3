"""The range of context that a masked language model uses: predictions with and without a near n-gram.

For a masked position p and the span of an n-gram around it (arXiv 2410.05464):

    M_robust(n) = TV( P(x_p | all but p),  P(x_p | all but the span) )
    M_close(n)  = TV( P(x_p | all but p),  P(x_p | the span without p) )

A large M_robust means that the model relies on the near n-gram. A small M_close means that the model uses
only the near n-gram. TV is the total variation ½ ‖·‖₁. The released code reports ‖·‖₁, which is
`convention="l1"`. We depart from it twice: special tokens stay visible in the last distribution, and we
average over sentences, not over all positions at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from vigreux.errors import ConfigError, unknown
from vigreux.models.views import LogitsView
from vigreux.stats import mean_interval

Convention = Literal["half", "l1"]
# a batch and N indices into its B · T tokens → logits (N, V)
Predict = Callable[[dict[str, Tensor], Tensor], Tensor]
_PAPER_POSITIONS = tuple(range(30, 450, 30))


@dataclass(frozen=True)
class NgramSettings:
    """The n-grams and positions to probe.

    Args:
        n: Lengths of n-grams, from 2.
        positions: Positions p in a sentence, counting special tokens. A position is skipped if its span
            leaves the sentence or contains a special token.
        convention: `half` is ½ ‖·‖₁, from 0 to 1; `l1` is ‖·‖₁, from 0 to 2.
        attend_masked: Whether the model attends to masked positions. The released code hides them with the
            attention mask.
        batch_size: Rows per forward pass.
    """

    n: tuple[int, ...] = (2, 3, 4, 5)
    positions: tuple[int, ...] = _PAPER_POSITIONS
    convention: Convention = "half"
    attend_masked: bool = False
    batch_size: int = 256

    def __post_init__(self) -> None:
        if self.convention not in get_args(Convention):
            raise ConfigError(unknown("convention", self.convention, get_args(Convention)))
        if not self.n or min(self.n) < 2:
            raise ConfigError(f"n: {self.n}; accepted: lengths of n-grams from 2")
        if not self.positions or min(self.positions) < 0:
            raise ConfigError(f"positions: {self.positions}; accepted: positions from 0, at least one")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size: {self.batch_size}; accepted: from 1")


@dataclass(frozen=True)
class NgramScore:
    """The score of one n: the mean over sentences of each sentence's mean over its positions.

    Args:
        n: Length of the n-gram.
        robust, close: M_robust and M_close.
        robust_interval, close_interval: Half-widths of their 95 % intervals over sentences; `None` for one
            sentence.
        sentences, places: Numbers of sentences and of probed positions.
    """

    n: int
    robust: float
    close: float
    robust_interval: float | None
    close_interval: float | None
    sentences: int
    places: int


def span_of(position: int, n: int) -> range:
    """The n-gram around a position: {p − 1, p}, {p − 1 … p + 1}, {p − 2 … p + 1}, {p − 2 … p + 2}, …"""
    return range(position - n // 2, position - n // 2 + n)


def probe_ngrams(
    predict: Predict,
    sentences: Sequence[np.ndarray],
    mask_id: int,
    special: Sequence[int],
    settings: NgramSettings,
) -> list[NgramScore]:
    """M_robust and M_close of a masked language model.

    Args:
        predict: The model (see `predictor`).
        sentences: Token ids (T,) of each sentence, as the model reads them.
        mask_id: Id of the mask token.
        special: Ids that are never masked, because they only mark the ends of a sentence.
        settings: N-grams and positions.

    Returns:
        One score for each n in the settings.

    Raises:
        ConfigError: no sentence has a position whose spans fit.
    """
    scores = []
    special_ids = np.asarray(special)
    for n in settings.n:
        samples = []  # (sentence, position)
        for i, ids in enumerate(sentences):
            samples += [(i, p) for p in settings.positions if _fits(ids, p, n, special_ids)]
        if not samples:
            raise ConfigError(
                f"positions: {settings.positions}: no sentence has room for a {n}-gram around one;"
                " use smaller positions"
            )
        pairs = _distances(predict, sentences, samples, n, mask_id, special_ids, settings)
        distances = np.array(list(pairs))  # (samples, 2)
        sentence_of = np.array([i for i, _ in samples])
        means = np.array([distances[sentence_of == i].mean(axis=0) for i in np.unique(sentence_of)])
        robust, robust_interval = mean_interval(means[:, 0].tolist())
        close, close_interval = mean_interval(means[:, 1].tolist())
        scores.append(NgramScore(n, robust, close, robust_interval, close_interval, len(means), len(samples)))
    return scores


def _fits(ids: np.ndarray, position: int, n: int, special: np.ndarray) -> bool:
    """Whether the span is within the sentence, shorter than it, and free of special tokens."""
    span = span_of(position, n)
    inside = span.start >= 0 and span.stop <= len(ids) and len(ids) > n
    return inside and not np.isin(ids[span.start : span.stop], special).any()


def predictor(model: nn.Module) -> Predict:
    """The logits of a Hugging Face masked language model at chosen positions, in evaluation mode.

    Raises:
        ConfigError: the model predicts only from the left.
    """
    causal_classes = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    if type(model).__name__ in causal_classes or getattr(model.config, "is_decoder", False):
        raise ConfigError(
            f"{type(model).__name__} predicts from the left alone; accepted for n-grams: a masked language"
            " model"
        )
    view = LogitsView(model)
    device = next(model.parameters()).device

    @torch.no_grad()
    def predict(batch: dict[str, Tensor], positions: Tensor) -> Tensor:
        training = model.training
        model.eval()
        try:
            return view({name: value.to(device) for name, value in batch.items()}, positions.to(device)).cpu()
        finally:
            model.train(training)

    return predict


def _distances(
    predict: Predict, sentences: Sequence[np.ndarray], samples: Sequence[tuple[int, int]], n: int,
    mask_id: int, special: np.ndarray, settings: NgramSettings,
) -> Iterator[tuple[float, float]]:  # fmt: skip
    """M_robust and M_close of each sample (sentence, position)."""
    scale = 0.5 if settings.convention == "half" else 1.0
    samples_per_batch = max(1, settings.batch_size // 3)  # each sample takes three rows
    for first in range(0, len(samples), samples_per_batch):
        rows, masks, positions = [], [], []
        for i, position in samples[first : first + samples_per_batch]:
            for mask in _masks(sentences[i], position, n, special):
                rows.append(sentences[i])
                masks.append(mask)
                positions.append(position)
        batch, row_starts = _batch(rows, masks, mask_id, settings.attend_masked)
        logits = predict(batch, row_starts + torch.tensor(positions))  # (3 · samples, V)
        probabilities = logits.double().softmax(-1).unflatten(0, (-1, 3))  # (samples, 3, V)
        all_but_position, all_but_span, span_alone = probabilities.unbind(1)
        robust = (all_but_position - all_but_span).abs().sum(-1) * scale
        close = (all_but_position - span_alone).abs().sum(-1) * scale
        yield from zip(robust.tolist(), close.tolist())


def _masks(
    ids: np.ndarray, position: int, n: int, special: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The masks (T,) bool of three rows: the position, its n-gram, and all but the rest of its n-gram."""
    alone = np.zeros(len(ids), bool)
    alone[position] = True
    gram = np.zeros(len(ids), bool)
    gram[span_of(position, n)] = True
    return alone, gram, (~gram | alone) & ~np.isin(ids, special)


def _batch(
    rows: Sequence[np.ndarray], masks: Sequence[np.ndarray], mask_id: int, attend: bool
) -> tuple[dict[str, Tensor], Tensor]:
    """input_ids and attention_mask (B, T), and the index in B · T at which each row begins."""
    longest = max(map(len, rows))
    ids = np.full((len(rows), longest), mask_id)
    attention = np.zeros((len(rows), longest), np.int64)
    for r, (row, mask) in enumerate(zip(rows, masks)):
        ids[r, : len(row)] = np.where(mask, mask_id, row)
        attention[r, : len(row)] = 1 if attend else ~mask
    batch = {
        "input_ids": torch.from_numpy(ids.astype(np.int64)),
        "attention_mask": torch.from_numpy(attention),
    }
    return batch, torch.arange(len(rows)) * longest
