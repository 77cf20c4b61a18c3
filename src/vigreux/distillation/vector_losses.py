"""The losses on hidden states and embeddings, each returned per row (N,), and the scale of their targets.

Half-precision inputs are computed in float32; float64 stays float64. No gradient flows into the teacher.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vigreux.curriculum import HiddenDivergence, Scaling
from vigreux.distillation.losses import at_least_float32


def mean_squared_error(student: Tensor, target: Tensor) -> Tensor:
    """`mean_j (h_S − t)_j²`, (N, d), (N, d) → (N,). Source: FitNets, arXiv 1412.6550; arXiv 2503.17494."""
    return (at_least_float32(student) - at_least_float32(target.detach())).square().mean(dim=-1)


def cosine_distance(student: Tensor, target: Tensor) -> Tensor:
    """`1 − h_S · t / (‖h_S‖ ‖t‖)`, (N, d), (N, d) → (N,), from 0 to 2; the lengths of the rows do not count.

    A common scale of the targets changes nothing. The scaling `per-dimension` does, because it changes their
    direction. A row of zeros has the distance 1. Source: DistilBERT, arXiv 1910.01108, section 3 (`L_cos`).
    """
    return 1 - F.cosine_similarity(at_least_float32(student), at_least_float32(target.detach()), dim=-1)


# the divergences of hidden states, by their names in a curriculum
VECTOR_LOSSES: dict[HiddenDivergence, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": mean_squared_error,
    "cosine": cosine_distance,
}


def explained_variance(loss: float, variance: float) -> float:
    """`1 − loss / variance`, with the mean `mean_squared_error` and the `scaled_variance` of its targets.

    1 is a perfect match, 0 is no better than the targets' mean, and below 0 is worse. For targets that do not
    vary the result is 0.
    """
    return 1 - loss / variance if variance > 0 else 0.0


@dataclass(frozen=True)
class TargetStatistics:
    """Count, mean and spread of target rows (N, d), in float64 on the CPU.

    `target_statistics` computes them, and `merge` combines those of two sets of rows.
    """

    count: int
    mean: Tensor  # (d,)
    squares: Tensor  # (d,) Σ over the rows of (row − mean)²

    @property
    def std(self) -> Tensor:
        """Standard deviation of each dimension about its own mean, (d,)."""
        return (self.squares / self.count).sqrt()

    @property
    def variance(self) -> float:
        """Variance about the per-dimension mean, averaged over the dimensions."""
        return float((self.squares / self.count).mean())

    def merge(self, other: TargetStatistics) -> TargetStatistics:
        """The statistics of both sets of rows (Chan, Golub and LeVeque 1979)."""
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        squares = self.squares + other.squares + delta.square() * (self.count * other.count / count)
        return TargetStatistics(count, mean, squares)

    def scale(self, scaling: Scaling) -> Tensor:
        """The divisor of `scale_targets`: () or (d,), never 0.

        A dimension whose standard deviation is under a millionth of the overall one (a padded or dead one) is
        divided by the overall one, so that rounding noise is not amplified to a target.
        """
        overall = torch.tensor(math.sqrt(self.variance) or 1.0, dtype=torch.float64)
        if scaling == "none":
            return torch.ones_like(overall)
        if scaling == "unit":
            return overall
        return torch.where(self.std > 1e-6 * overall, self.std, overall)

    def scaled_variance(self, scaling: Scaling) -> float:
        """The `variance` of the scaled targets, with which a stage's loss is compared."""
        return float((self.std / self.scale(scaling)).square().mean())


def target_statistics(rows: Tensor) -> TargetStatistics:
    """The statistics of target rows (N, d), N ≥ 1.

    For a stream, with one batch in memory: `functools.reduce(TargetStatistics.merge, map(target_statistics,
    batches))`.
    """
    rows = rows.detach().to("cpu", torch.float64)
    mean = rows.mean(dim=0)
    return TargetStatistics(len(rows), mean, (rows - mean).square().sum(dim=0))


def scale_targets(rows: Tensor, statistics: TargetStatistics, scaling: Scaling) -> Tensor:
    """Target rows (N, d) divided by a standard deviation.

    `unit` uses the standard deviation of all numbers, and `per-dimension` that of each dimension. `none` does
    not change the rows.

    The rows are not centred, so that the target stays a linear image of the teacher's state. Then a student
    whose embeddings start as the teacher's times the projection starts at a multiple of its target. A shift
    would undo this, and a network without biases cannot easily produce a shift.
    """
    return rows if scaling == "none" else rows / statistics.scale(scaling).to(rows.device, rows.dtype)
