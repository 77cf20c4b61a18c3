"""Exact online SGD of a two-layer network at matrix-multiply speed.

Batch-1 SGD on `f(x) = A relu(W x + b) + c` seems to need the whole of `W` at each step. It does not: step i changes `W` by a rank-1
term `u_i x_iᵀ`, so over a block of B samples all pre-activations come from one product `Z = X Wᵀ + b`, and a later sample j sees
step i as `z_j += (x_i·x_j + 1) u_i`. `W` is read and written once a block (`W += Uᵀ X`). This is LAPACK's blocked factorisation
applied to SGD; in exact arithmetic the result is that of the step-by-step loop, and in float64 they agree to rounding.

Two levels of blocking keep the corrections cheap: within a block, groups of rows get all earlier groups' corrections as one matrix
product, and only those of their own group one by one (`steps.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vigreux.kernels import steps

Loss = Literal["soft-cross-entropy", "hinge"]


@dataclass(frozen=True)
class Blocking:
    """How many rows go through together.

    Args:
        rows: of a block: `W` is read and written once in so many samples.
        group: rows whose corrections are applied one by one.
    """

    rows: int
    group: int

    @classmethod
    def for_width(cls, width: int) -> Blocking:
        """Measured best sizes (benchmarks/online_sgd.py): a narrow `W` stays in cache, where short blocks cost least."""
        if width <= 256:
            return cls(64, 64)
        return cls(64, 16) if width <= 4096 else cls(128, 16)


class OnlineSGD:
    """Trains the tensors of a two-layer network in place, sample by sample in the order given.

    Args:
        W, b: hidden layer (m, n) and (m,).
        A, c: output layer (K, m) and (K,).
        batch: samples a step; gradients are means over them.
        weight_decay: `p ← (1 − rate · weight_decay) p − rate · gradient`, all parameters that a step trains (as `torch.optim.SGD`).
        blocking: default `Blocking.for_width(m)`.
    """

    def __init__(
        self, W: Tensor, b: Tensor, A: Tensor, c: Tensor, *, batch: int = 1, weight_decay: float = 0.0, blocking: Blocking | None = None
    ) -> None:
        assert all(p.is_contiguous() and not p.requires_grad and p.dtype == W.dtype for p in (W, b, A, c))
        self.W, self.b, self.A, self.c = W, b, A, c
        self.batch, self.weight_decay = batch, weight_decay
        blocking = blocking or Blocking.for_width(len(b))
        self.group = _whole(blocking.group, batch)
        self.rows = _whole(blocking.rows, self.group)
        self.Z, self.U = (torch.empty(self.rows, len(b), dtype=W.dtype) for _ in range(2))

    def fit_logits(
        self, X: Tensor, targets: Tensor, rate: np.ndarray, *, loss: Loss = "soft-cross-entropy", alpha: float = 0.0
    ) -> np.ndarray:
        """One step on each `batch` rows of X; gives each sample's loss before its step.

        Args:
            X: (N, n) inputs, N a multiple of `batch`.
            targets: (N, K) class probabilities q. Soft cross-entropy `−Σ q log softmax(o)`; hinge `Σ_y q_y Σ_{k≠y} max(0, 1 − o_y +
                o_k) / K`. With one logit f the hinge is `α max(0, 1 − f y) + (1 − α) max(0, 1 − f f_T)`, targets (N, 2) = (y, f_T).
            rate: (N / batch,) learning rates.
            loss: soft-cross-entropy or hinge.
            alpha: weight of the label in the hinge of one logit.
        """
        kind = steps.SOFT_CROSS_ENTROPY if loss == "soft-cross-entropy" else steps.MULTI_MARGIN
        kind = steps.SIGNED_MARGIN if len(self.c) == 1 else kind
        A, c, q = self.A.numpy(), self.c.numpy(), targets.to(self.W.dtype).numpy()

        def take(Z, G, U, first, last, scale, rates, shrink, losses, offset):  # type: ignore[no-untyped-def]
            rows = q[offset : offset + len(Z)]
            return steps.logits_steps(
                Z, G, U, A, c, rows, rates, shrink, self.batch, first, last, scale, kind, alpha, losses
            )

        return self._blocks(X, rate, take)

    def fit_hidden(self, X: Tensor, targets: Tensor, rate: np.ndarray, *, before_relu: bool) -> np.ndarray:
        """One step on each `batch` rows of X on `½ ‖a − t‖²`, `a` the hidden layer; gives each sample's loss before its step.

        Args:
            X: (N, n) inputs, N a multiple of `batch`.
            targets: (N, m) projected hidden units of a teacher.
            rate: (N / batch,) learning rates.
            before_relu: match pre-activations; else the activations.
        """
        t = targets.numpy()

        def take(Z, G, U, first, last, scale, rates, shrink, losses, offset):  # type: ignore[no-untyped-def]
            rows = t[offset : offset + len(Z)]
            return steps.hidden_steps(Z, G, U, rows, rates, shrink, self.batch, first, last, scale, before_relu, losses)

        return self._blocks(X, rate, take)

    def _blocks(self, X: Tensor, rate: np.ndarray, take) -> np.ndarray:  # type: ignore[no-untyped-def]
        assert len(X) == len(rate) * self.batch
        losses = np.empty(len(X))
        shrink = 1 - rate * self.weight_decay
        for start in range(0, len(X), self.rows):
            rows = X[start : start + self.rows]
            span = slice(start // self.batch, (start + len(rows)) // self.batch)
            self._block(rows, rate[span], shrink[span], take, losses[start : start + len(rows)], start)
        return losses

    def _block(self, X, rate, shrink, take, losses, offset):  # type: ignore[no-untyped-def]
        B = len(X)
        Z, U = self.Z[:B], self.U[:B]
        torch.addmm(self.b, X, self.W.T, out=Z)
        G = torch.mm(X, X.T).add_(1)
        arrays = Z.numpy(), G.numpy(), U.numpy()
        scale = 1.0
        for first in range(0, B, self.group):
            last = min(first + self.group, B)
            if first:
                Z[first:last].addmm_(G[first:last, :first], U[:first])
            scale = take(*arrays, first, last, scale, rate, shrink, losses, offset)
        self.W.addmm_(U.T, X, beta=scale, alpha=scale)
        self.b.mul_(scale).add_(U.sum(0), alpha=scale)


def _whole(rows: int, unit: int) -> int:
    """`rows` rounded up to a multiple of `unit`."""
    return -(-rows // unit) * unit
