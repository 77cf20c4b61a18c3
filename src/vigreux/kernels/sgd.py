"""Exact online SGD of a two-layer network, without a full pass over the weights at each step.

Batch-1 SGD on `f(x) = A relu(W x + b) + c` seems to need all of `W` at each step. It does not: step i changes
`W` by a rank-1 term `u_i x_iᵀ`. Over a block of B samples, one product `Z = X Wᵀ + b` gives all
pre-activations, and step i changes those of a later sample j by `z_j += (x_i·x_j + 1) u_i`. `W` is read and
written once per block (`W += Uᵀ X`). This is LAPACK's blocked factorisation applied to SGD. In exact
arithmetic the result equals that of the step-by-step loop; in float64 the two agree up to rounding. The
inputs are signs, so both products are signed sums, which need only a quarter of the additions (`signs.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vigreux.kernels import losses as kinds
from vigreux.kernels.barrier import new_counter, release
from vigreux.kernels.blocks import pack, train, unpack
from vigreux.kernels.denormals import no_denormals
from vigreux.kernels.lanes import TILE, aligned, lanes_of
from vigreux.kernels.signs import FOUR, SUMS
from vigreux.kernels.vocabulary import Block, Network, Rules, Samples, SharedState, UnitRange

Loss = Literal["soft-cross-entropy", "hinge"]
_WORD = 64  # bits


@dataclass(frozen=True)
class Blocking:
    """How many samples are processed together, and on how many threads.

    Args:
        rows: samples per block. `W` is read and written once per block.
        group: samples that are corrected together for the steps of the block's earlier groups.
        threads: threads that share the units. More threads than free cores is slow.
    """

    rows: int
    group: int
    threads: int = 1

    @classmethod
    def best(cls, width: int, threads: int | None = None) -> Blocking:
        """The fastest sizes in benchmarks/online_sgd.py for at most `threads` threads; default: all cores."""
        threads = threads or len(os.sched_getaffinity(0))
        return cls(64, 16, threads) if width > WIDE else cls(32, 32, threads if width >= SHARED else 1)


WIDE = 4000  # above this number of units, the rows of a block do not fit into the second-level cache
SHARED = 500  # from this number of units on, a second thread is worth the synchronisation


class OnlineSGD:
    """Trains the tensors of a two-layer network in place, sample by sample and in order.

    Args:
        W, b: hidden layer (m, n) and (m,).
        A, c: output layer (K, m) and (K,).
        batch: samples per step. Gradients are means over them.
        weight_decay: `p ← (1 − rate · weight_decay) p − rate · gradient` for all parameters that a step
            trains, as in `torch.optim.SGD`.
        threads: number of threads; default: all cores. Another number changes results by rounding.
        blocking: sizes of blocks; default: `Blocking.best`.
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
        self.c, self.batch, self.weight_decay = c.numpy(), batch, weight_decay
        self.n, self.dtype, units = W.shape[1], W.dtype, TILE * lanes_of(W.numpy().dtype)
        self._sign_buffer = np.ones((0, 0), np.int8)
        blocking = blocking or Blocking.best(len(b), threads)
        tiles = -(-len(b) // units)
        threads = min(blocking.threads, tiles)
        cuts = [min(tiles * i // threads * units, len(b)) for i in range(threads + 1)]
        self.shards = [
            _Shard(W[i:j].numpy(), b[i:j].numpy(), A[:, i:j], batch, blocking, i, thread)
            for thread, (i, j) in enumerate(pairwise(cuts))
        ]
        self.pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def fit_logits(
        self,
        X: Tensor,
        targets: Tensor,
        rate: np.ndarray,
        *,
        loss: Loss = "soft-cross-entropy",
        alpha: float = 0.0,
    ) -> np.ndarray:
        """Takes one step on every `batch` rows of X. Returns the loss of every sample before its step, (N,).

        Args:
            X: (N, n) inputs ±1 of any type. N is a multiple of `batch`.
            targets: (N, K) class probabilities q. The soft cross-entropy is `−Σ q log softmax(o)`. The hinge
                is `Σ_y q_y Σ_{k≠y} max(0, 1 − o_y + o_k) / K`. With one logit f, the hinge is
                `α max(0, 1 − f y) + (1 − α) max(0, 1 − f f_T)` and the targets (N, 2) are (y, f_T).
            rate: (N / batch,) learning rates.
            loss: soft-cross-entropy or hinge.
            alpha: weight α of the label in the hinge of one logit.
        """
        return self._fit(X, targets, None, rate, loss=loss, alpha=alpha, weight=0.0, before_relu=False)

    def fit_hidden(self, X: Tensor, targets: Tensor, rate: np.ndarray, *, before_relu: bool) -> np.ndarray:
        """Takes steps on `½ ‖a − t‖²`, with hidden layer a. Returns the losses (N,) before their steps.

        Args:
            X: (N, n) inputs ±1. N is a multiple of `batch`.
            targets: (N, m) targets t, projected hidden units of a teacher.
            rate: (N / batch,) learning rates.
            before_relu: match the pre-activations instead of the activations.
        """
        return self._fit(X, None, targets, rate, weight=1.0, before_relu=before_relu)

    def fit_joint(
        self,
        X: Tensor,
        targets: Tensor,
        hidden: Tensor,
        rate: np.ndarray,
        *,
        weight: float,
        before_relu: bool,
        loss: Loss = "soft-cross-entropy",
        alpha: float = 0.0,
    ) -> np.ndarray:
        """Takes steps on the loss of the logits plus `weight` times the loss of the hidden layer.

        Args:
            X, targets, rate, loss, alpha: see `fit_logits`.
            hidden, before_relu: `targets` and `before_relu` of `fit_hidden`.
            weight: weight of the hidden layer's loss.
        """
        return self._fit(
            X, targets, hidden, rate, loss=loss, alpha=alpha, weight=weight, before_relu=before_relu
        )

    def _fit(
        self,
        X: Tensor,
        targets: Tensor | None,
        hidden: Tensor | None,
        rate: np.ndarray,
        *,
        weight: float,
        before_relu: bool,
        loss: Loss = "soft-cross-entropy",
        alpha: float = 0.0,
    ) -> np.ndarray:
        assert len(X) == len(rate) * self.batch
        none = torch.empty(0, 1, dtype=self.dtype)
        q = (none if targets is None else targets.to(self.dtype).contiguous()).numpy()
        t = (none if hidden is None else hidden.to(self.dtype).contiguous()).numpy()
        assert len(q) in (0, len(X))
        assert len(t) in (0, len(X))
        kind = kinds.SOFT_CROSS_ENTROPY if loss == "soft-cross-entropy" else kinds.MULTI_MARGIN
        kind = kinds.SIGNED_MARGIN if len(self.c) == 1 else kind
        work = np.empty((4, len(self.shards), self.batch, len(self.c)))
        signs = self._signs(X)
        shrink = 1 - rate * self.weight_decay
        shared = SharedState(work, new_counter())
        initial_c = self.c.copy()

        def run(thread: int) -> np.ndarray:
            # every thread computes the gradients of the logits and c itself, from the same sums
            losses = np.concatenate([np.zeros((2, len(X))), np.ones((1, len(X)))])
            samples = Samples(signs, q, t, losses, rate / self.batch, shrink)
            c = self.c if thread == 0 else initial_c.copy()
            self.shards[thread].train(c, samples, kind, alpha, weight, before_relu, shared)
            return losses

        by_thread = self._on_threads(run, shared.counter)
        logits_loss = by_thread[0][0] + np.log(by_thread[0][2])  # the same on every thread
        return logits_loss + sum(losses[1] for losses in by_thread)

    def _signs(self, X: Tensor) -> np.ndarray:
        """X as `Samples.X`. The buffer is reused between calls: new memory costs more than writing to it."""
        count = len(X) + FOUR - 1
        if len(self._sign_buffer) < count:
            self._sign_buffer = np.ones((count, -(-(self.n + FOUR) // _WORD) * _WORD), np.int8)
        self._sign_buffer[: len(X), : self.n] = X.numpy()
        return self._sign_buffer[:count]

    def _on_threads(self, run: Callable[[int], np.ndarray], counter: np.ndarray) -> list[np.ndarray]:
        if self.pool is None:
            with no_denormals():
                return [run(0)]

        def guarded(thread: int) -> np.ndarray:
            try:
                with no_denormals():
                    return run(thread)
            except BaseException:
                release(counter)
                raise

        return list(self.pool.map(guarded, range(len(self.shards))))


class _Shard:
    """The hidden units of one thread, and its workspace."""

    def __init__(
        self,
        W: np.ndarray,
        b: np.ndarray,
        A: Tensor,
        batch: int,
        blocking: Blocking,
        column: int,
        thread: int,
    ) -> None:
        self.W, self.b, self.A, self.batch = W, b, A, batch
        (m, n), dtype, lanes = W.shape, W.dtype, lanes_of(W.dtype)
        self.quad = FOUR if FOUR % batch == 0 else batch  # a row follows at most 3 others of its quad
        self.group = _whole(blocking.group, self.quad)
        rows = _whole(blocking.rows, self.group)
        padded, size, chunks, spare = _whole(m, lanes), TILE * lanes, -(-(n + 1) // FOUR), _whole(rows, FOUR)
        width = (padded // lanes | 1) * lanes
        self.tiles = aligned(-(-m // size), chunks * FOUR, size, dtype=dtype)
        self.padded_A = aligned(len(A), width, dtype=dtype)
        self.block = Block(
            Z=aligned(rows, width, dtype=dtype),
            G=np.zeros((rows, rows), dtype),
            U=aligned(spare, width, dtype=dtype),
            P=aligned(batch, width, dtype=dtype),
            table=aligned(max(chunks, spare // FOUR) * SUMS * size, dtype=dtype),
            input_codes=np.zeros((rows, chunks), np.uint8),
            row_codes=np.zeros((spare // FOUR, n + 1), np.uint8),
            bits=np.zeros((-(-(n + FOUR) // _WORD), rows), np.uint64),
        )
        self.unit_range = UnitRange(column, m, padded, lanes, n + 1, thread)

    def train(
        self,
        c: np.ndarray,
        samples: Samples,
        kind: int,
        alpha: float,
        weight: float,
        before_relu: bool,
        shared: SharedState,
    ) -> None:
        """Trains these units on all samples."""
        m, logits = len(self.b), len(samples.targets) > 0
        pack(self.W, self.b, self.tiles)
        self.padded_A[:, :m] = self.A.numpy()
        self.block.U[:] = 0
        block = self.block if logits and len(samples.hidden) > 0 else self.block._replace(P=self.block.P[:0])
        rules = Rules(self.batch, self.group, self.quad, kind, alpha, weight, before_relu)
        scale = train(Network(self.tiles, self.padded_A, c), block, samples, rules, self.unit_range, shared)
        unpack(self.tiles, scale, self.W, self.b)
        if logits:
            self.A.copy_(torch.from_numpy(self.padded_A[:, :m]))


def _whole(rows: int, unit: int) -> int:
    """`rows` rounded up to a multiple of `unit`."""
    return -(-rows // unit) * unit
