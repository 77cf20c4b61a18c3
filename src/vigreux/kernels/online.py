"""Exact online SGD of a two-layer network at matrix-multiply speed.

Batch-1 SGD on `f(x) = A relu(W x + b) + c` seems to need the whole of `W` at each step. It does not: step i changes `W` by a rank-1
term `u_i x_iᵀ`, so over a block of B samples all pre-activations come from one product `Z = X Wᵀ + b`, and a later sample j sees
step i as `z_j += (x_i·x_j + 1) u_i`. `W` is read and written once a block (`W += Uᵀ X`). This is LAPACK's blocked factorisation
applied to SGD; in exact arithmetic the result is that of the step-by-step loop, and in float64 they agree to rounding.

Where `W` stays in cache the multiply-adds are the limit (`narrow.py`), where it does not the memory is too (`wide.py`).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from torch import Tensor

from vigreux.kernels import steps
from vigreux.kernels.narrow import NarrowSGD
from vigreux.kernels.wide import Blocking, WideSGD

Loss = Literal["soft-cross-entropy", "hinge"]


class OnlineSGD:
    """Trains the tensors of a two-layer network in place, sample by sample in the order given.

    Args:
        W, b: hidden layer (m, n) and (m,).
        A, c: output layer (K, m) and (K,).
        batch: samples a step; gradients are means over them.
        weight_decay: `p ← (1 − rate · weight_decay) p − rate · gradient`, all parameters that a step trains (as `torch.optim.SGD`).
        threads: for wide networks; default all cores. Results on another number of threads differ by rounding.
        blocking: of a wide network; with it a narrow one is treated as wide.
    """

    def __init__(
        self,
        W: Tensor,
        b: Tensor,
        A: Tensor,
        c: Tensor,
        *,
        batch: int = 1,
        weight_decay: float = 0.0,
        threads: int | None = None,
        blocking: Blocking | None = None,
    ) -> None:
        assert all(p.is_contiguous() and not p.requires_grad and p.dtype == W.dtype for p in (W, b, A, c))
        self.dtype, self.logits, self.batch, self.weight_decay = W.dtype, len(c), batch, weight_decay
        self.sgd: NarrowSGD | WideSGD
        if blocking is None and NarrowSGD.fits(W, batch):
            self.sgd = NarrowSGD(W, b, A, c, batch)
        else:
            self.sgd = WideSGD(W, b, A, c, batch, blocking or Blocking.best(threads))

    def fit_logits(
        self, X: Tensor, targets: Tensor, rate: np.ndarray, *, loss: Loss = "soft-cross-entropy", alpha: float = 0.0
    ) -> np.ndarray:
        """One step on each `batch` rows of X; gives each sample's loss (N,) before its step.

        Args:
            X: (N, n) inputs, N a multiple of `batch`.
            targets: (N, K) class probabilities q. Soft cross-entropy `−Σ q log softmax(o)`; hinge `Σ_y q_y Σ_{k≠y} max(0, 1 − o_y +
                o_k) / K`. With one logit f the hinge is `α max(0, 1 − f y) + (1 − α) max(0, 1 − f f_T)`, targets (N, 2) = (y, f_T).
            rate: (N / batch,) learning rates.
            loss: soft-cross-entropy or hinge.
            alpha: weight of the label in the hinge of one logit.
        """
        assert len(X) == len(targets) == len(rate) * self.batch
        kind = steps.SOFT_CROSS_ENTROPY if loss == "soft-cross-entropy" else steps.MULTI_MARGIN
        kind = steps.SIGNED_MARGIN if self.logits == 1 else kind
        return self.sgd.logits(X, targets.to(self.dtype), rate, self._shrink(rate), kind, alpha)

    def fit_hidden(self, X: Tensor, targets: Tensor, rate: np.ndarray, *, before_relu: bool) -> np.ndarray:
        """One step on each `batch` rows of X on `½ ‖a − t‖²`, `a` the hidden layer; gives each sample's loss (N,) before its step.

        Args:
            X: (N, n) inputs, N a multiple of `batch`.
            targets: (N, m) projected hidden units of a teacher.
            rate: (N / batch,) learning rates.
            before_relu: match pre-activations; else the activations.
        """
        assert len(X) == len(targets) == len(rate) * self.batch
        return self.sgd.hidden(X, targets.to(self.dtype), rate, self._shrink(rate), before_relu)

    def _shrink(self, rate: np.ndarray) -> np.ndarray:
        return 1 - rate * self.weight_decay
