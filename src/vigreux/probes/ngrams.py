"""How far a masked language model looks: what its predictions lose without the near n-gram, and what they keep with nothing else.

Of a position p that is masked, with the span of an n-gram about it (arXiv 2410.05464):

    M_robust(n) = TV( P(x_p | all but p),  P(x_p | all but the span) )       large: the model leans on the near n-gram
    M_close(n)  = TV( P(x_p | all but p),  P(x_p | the span without p) )     small: the near n-gram is all it uses

TV is the total variation ½ ‖·‖₁; the released code reports ‖·‖₁, which is `convention="l1"`. It also hides special tokens in the
last distribution, where ours stay visible, and averages over all positions at once, where we average over sentences.
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
Predict = Callable[
    [dict[str, Tensor], Tensor], Tensor
]  # a batch and flat places (N,) in its B · T → logits (N, V)
_PAPER_POSITIONS = tuple(range(30, 450, 30))


@dataclass(frozen=True)
class NgramSettings:
    """What is probed.

    Args:
        n: lengths of n-grams, from 2.
        positions: places p in a sentence, special tokens counted; those whose span leaves the sentence or holds a special token are
            left out.
        convention: `half` is ½ ‖·‖₁, from 0 to 1; `l1` is ‖·‖₁, from 0 to 2.
        attend_masked: whether masked positions are attended to, or hidden by the attention mask as in the released code.
        batch_size: rows of a forward pass.
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
            raise ConfigError(f"positions: {self.positions}; accepted: places from 0, at least one")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size: {self.batch_size}; accepted: from 1")


@dataclass(frozen=True)
class NgramScore:
    """One n: means over sentences, each the mean over its positions.

    Args:
        n: length of the n-gram.
        robust, close: M_robust and M_close.
        robust_interval, close_interval: half-widths of their 95 % intervals over sentences; `None` with one sentence.
        sentences, places: how many went in.
    """

    n: int
    robust: float
    close: float
    robust_interval: float | None
    close_interval: float | None
    sentences: int
    places: int


def span_of(position: int, n: int) -> range:
    """The n-gram about a position: {p − 1, p}, {p − 1 … p + 1}, {p − 2 … p + 1}, {p − 2 … p + 2}, …"""
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
        predict: the model (see `predictor`).
        sentences: token ids (T,) each, as the model reads them.
        mask_id: the mask token.
        special: ids that are never masked: they say nothing of a sentence but its length.
        settings: n-grams and positions.

    Raises:
        ConfigError: no sentence has a position whose spans fit.
    """
    scores = []
    kept = np.asarray(special)
    for n in settings.n:
        places = [
            (i, p)
            for i in range(len(sentences))
            for p in settings.positions
            if _fits(sentences[i], p, n, kept)
        ]
        if not places:
            raise ConfigError(
                f"positions: {settings.positions}: in no sentence does a {n}-gram fit about one; accepted: smaller ones"
            )
        found = np.array(
            list(_distances(predict, sentences, places, n, mask_id, kept, settings))
        )  # (places, 2)
        owners = np.array([i for i, _ in places])
        means = [[found[owners == i, side].mean() for i in np.unique(owners)] for side in range(2)]
        (robust, robust_half), (close, close_half) = (mean_interval(values) for values in means)
        scores.append(NgramScore(n, robust, close, robust_half, close_half, len(means[0]), len(places)))
    return scores


def _fits(ids: np.ndarray, position: int, n: int, special: np.ndarray) -> bool:
    """The span lies in the sentence, holds no special token, and leaves something to see beside it."""
    span = span_of(position, n)
    inside = span.start >= 0 and span.stop <= len(ids) and len(ids) > n
    return inside and not np.isin(ids[span.start : span.stop], special).any()


def predictor(model: nn.Module) -> Predict:
    """The logits of a Hugging Face masked language model at the places that are asked for, in evaluation mode.

    Raises:
        ConfigError: a model that looks to the left alone.
    """
    if type(model).__name__ in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values() or getattr(
        model.config, "is_decoder", False
    ):
        raise ConfigError(
            f"{type(model).__name__} predicts from the left alone; accepted for n-grams: a masked language model"
        )
    view, device = LogitsView(model), next(model.parameters()).device

    @torch.no_grad()
    def predict(batch: dict[str, Tensor], places: Tensor) -> Tensor:
        training = model.training
        model.eval()
        try:
            return view({name: value.to(device) for name, value in batch.items()}, places.to(device)).cpu()
        finally:
            model.train(training)

    return predict


def _distances(
    predict: Predict, sentences: Sequence[np.ndarray], places: Sequence[tuple[int, int]], n: int, mask_id: int,
    special: np.ndarray, settings: NgramSettings,
) -> Iterator[tuple[float, float]]:  # fmt: skip
    """M_robust and M_close of each place."""
    scale, step = 0.5 if settings.convention == "half" else 1.0, max(1, settings.batch_size // 3)
    for part in (places[first : first + step] for first in range(0, len(places), step)):
        hidden = [rows for i, p in part for rows in _hidden(sentences[i], p, n, special)]
        batch, begins = _batch(
            [sentences[i] for i, _ in part for _ in range(3)], hidden, mask_id, settings.attend_masked
        )
        logits = predict(
            batch, begins + torch.tensor([p for _, p in part for _ in range(3)])
        )  # (3 · places, V)
        full, without, alone = logits.double().softmax(-1).unflatten(0, (-1, 3)).unbind(1)
        robust, close = ((full - other).abs().sum(-1) * scale for other in (without, alone))
        yield from zip(robust.tolist(), close.tolist())


def _hidden(
    ids: np.ndarray, position: int, n: int, special: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(T,) bool each: what is masked. The position alone; its whole n-gram; all but the rest of its n-gram."""
    alone, gram = np.zeros((2, len(ids)), bool)
    alone[position] = True
    gram[span_of(position, n)] = True
    return alone, gram, (~gram | alone) & ~np.isin(ids, special)


def _batch(
    rows: Sequence[np.ndarray], hidden: Sequence[np.ndarray], mask_id: int, attend: bool
) -> tuple[dict[str, Tensor], Tensor]:
    """input_ids and attention_mask (B, T), and where each row begins in B · T."""
    longest = max(map(len, rows))
    ids, attention = np.full((len(rows), longest), mask_id), np.zeros((len(rows), longest), np.int64)
    for r, (row, masked) in enumerate(zip(rows, hidden)):
        ids[r, : len(row)] = np.where(masked, mask_id, row)
        attention[r, : len(row)] = 1 if attend else ~masked
    batch = {
        "input_ids": torch.from_numpy(ids.astype(np.int64)),
        "attention_mask": torch.from_numpy(attention),
    }
    return batch, torch.arange(len(rows)) * longest
