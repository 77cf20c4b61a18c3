"""A linear probe that predicts a token's ancestors from a model's hidden states.

The attention of the probe depends only on positions.

For a sentence's hidden states h_1 … h_T and H heads (Allen-Zhu and Li, "Physics of language models: part 1";
the probe of arXiv 2410.05464):

    logits_i = Σ_h Σ_j a^h_ij W^h h_j + b,     a^h_i = softmax_j( ⟨q^h_i, k^h_j⟩ )

q^h and k^h are learned vectors of positions, so the attention weights do not depend on the sentence. W^h maps
to levels × symbols, and each level is a separate classification. The released probe shares q and k, counts
padding, and normalises over i instead of j.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vigreux.errors import ConfigError

IGNORE = -100


@dataclass(frozen=True)
class ProbeData:
    """Hidden states, and the ancestors to predict from them.

    Args:
        hidden: (N, T, d) hidden states of N sentences, padded.
        mask: (N, T) bool, True at tokens.
        ancestors: (N, T, levels) int64 symbol ids, −100 where there is nothing to predict.
    """

    hidden: Tensor
    mask: Tensor
    ancestors: Tensor

    def rows(self, rows: slice) -> ProbeData:
        """The data of some sentences."""
        return ProbeData(self.hidden[rows], self.mask[rows], self.ancestors[rows])


@dataclass(frozen=True)
class ProbeSettings:
    """The size and training of the probe.

    Args:
        heads: Attention heads.
        rank: Length of the position vectors.
        epochs: Passes over the training sentences.
        rate: Learning rate of Adam.
        batch: Sentences per step.
        seed: Seed of the weights and of the order of sentences.
    """

    heads: int = 16
    rank: int = 16
    epochs: int = 4
    rate: float = 1e-2
    batch: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("heads", "rank", "epochs", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"probe.{name}: {getattr(self, name)}; accepted: a whole number from 1")
        if not 0 < self.rate < math.inf:
            raise ConfigError(f"probe.rate: {self.rate}; accepted: a positive number")


@dataclass(frozen=True)
class NonterminalScores:
    """Held-out accuracy at every level, from level 1 up.

    Args:
        accuracy: Share of tokens whose ancestor is predicted correctly.
        majority: The same share if the prediction is always the most frequent symbol of the training tokens.
    """

    accuracy: list[float]
    majority: list[float]


class PositionProbe(nn.Module):
    """`probe(hidden, mask)` is (N, T, levels, symbols)."""

    def __init__(self, positions: int, width: int, levels: int, symbols: int, heads: int, rank: int) -> None:
        super().__init__()
        self.shape = levels, symbols
        self.queries = nn.Parameter(torch.randn(heads, positions, rank))
        self.keys = nn.Parameter(torch.randn(heads, positions, rank))
        self.values = nn.Parameter(torch.randn(heads, width, levels * symbols) / math.sqrt(heads * width))
        self.bias = nn.Parameter(torch.zeros(levels * symbols))

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """The logits of each token's ancestors, (N, T, d) and (N, T) → (N, T, levels, symbols)."""
        length = hidden.shape[1]
        scores = self.queries[:, :length] @ self.keys[:, :length].transpose(1, 2)  # (H, T, T)
        scores = scores / math.sqrt(self.queries.shape[-1])
        # The numerators of the softmax are the same for all sentences. The denominators sum over the tokens
        # of a sentence.
        weights = (scores - scores.amax(-1, keepdim=True)).exp()
        tokens = mask[:, None, :, None].to(hidden.dtype)  # (N, 1, T, 1)
        # The values are narrower than the hidden states, so mixing the values is cheaper.
        values = torch.einsum("ntd,hds->nhts", hidden, self.values)
        mixed = (weights @ (tokens * values)) / (weights @ tokens)  # (N, H, T, levels · symbols)
        return mixed.sum(1).add(self.bias).unflatten(-1, self.shape)


def fit_nonterminal_probe(
    train: ProbeData, held_out: ProbeData, settings: ProbeSettings | None = None
) -> NonterminalScores:
    """Trains the probe on one set of sentences, and returns its accuracy on another."""
    settings = settings or ProbeSettings()
    symbols = int(torch.cat([train.ancestors.flatten(), held_out.ancestors.flatten()]).max()) + 1
    positions = max(train.hidden.shape[1], held_out.hidden.shape[1])
    levels = train.ancestors.shape[-1]
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        probe = PositionProbe(
            positions, train.hidden.shape[-1], levels, symbols, settings.heads, settings.rank
        ).to(train.hidden)
        optimizer = torch.optim.Adam(probe.parameters(), lr=settings.rate)
        for _ in range(settings.epochs):
            for rows in torch.randperm(len(train.hidden)).split(settings.batch):
                loss = _loss(probe(train.hidden[rows], train.mask[rows]), train.ancestors[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return NonterminalScores(
        _accuracy(probe, held_out, settings.batch), _majority(train.ancestors, held_out.ancestors)
    )


def _loss(logits: Tensor, ancestors: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 2), ancestors.flatten(), ignore_index=IGNORE)


@torch.no_grad()
def _accuracy(probe: PositionProbe, data: ProbeData, batch: int) -> list[float]:
    batches = zip(data.hidden.split(batch), data.mask.split(batch))
    predictions = torch.cat([probe(hidden, mask).argmax(-1) for hidden, mask in batches])  # (N, T, levels)
    return _accuracy_by_level(predictions == data.ancestors, data.ancestors)


def _majority(train: Tensor, held_out: Tensor) -> list[float]:
    """The accuracy at each level of always predicting the most frequent symbol of the training tokens."""
    tokens = train.flatten(0, 1)  # (N · T, levels)
    guesses = [tokens[tokens[:, level] != IGNORE, level].mode().values for level in range(tokens.shape[1])]
    return _accuracy_by_level(held_out == torch.stack(guesses), held_out)


def _accuracy_by_level(correct: Tensor, ancestors: Tensor) -> list[float]:
    labelled = ancestors != IGNORE
    return ((correct & labelled).flatten(0, 1).sum(0) / labelled.flatten(0, 1).sum(0)).tolist()


def joined(batches: Sequence[ProbeData]) -> ProbeData:
    """Joins batches into one, padded to one length."""
    longest = max(batch.hidden.shape[1] for batch in batches)

    def concatenate(tensors: Sequence[Tensor], value: float) -> Tensor:
        padded = []
        for tensor in tensors:
            widths = (0, 0) * (tensor.dim() - 2) + (0, longest - tensor.shape[1])
            padded.append(F.pad(tensor, widths, value=value))
        return torch.cat(padded)

    return ProbeData(
        concatenate([batch.hidden for batch in batches], 0.0),
        concatenate([batch.mask for batch in batches], False),
        concatenate([batch.ancestors for batch in batches], IGNORE),
    )
