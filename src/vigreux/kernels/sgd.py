"""Exact online SGD of a two-layer network, much faster than its weights can be multiplied.

Batch-1 SGD on `f(x) = A relu(W x + b) + c` seems to need the whole of `W` at each step. It does not: step i
changes `W` by a rank-1 term `u_i x_iᵀ`, so over a block of B samples all pre-activations come from one
product `Z = X Wᵀ + b`, and a later sample j sees step i as `z_j += (x_i·x_j + 1) u_i`. `W` is read and
written once a block (`W += Uᵀ X`). This is LAPACK's blocked factorisation applied to SGD; in exact arithmetic
the result is that of the step-by-step loop, and in float64 they agree to rounding. The inputs are signs, so
both products are sums with signs, for which a quarter of the additions is enough (`signs.py`).
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
from vigreux.kernels.vocabulary import Block, Meeting, Network, Place, Rules, Samples

Loss = Literal["soft-cross-entropy", "hinge"]
_WORD = 64  # bits


@dataclass(frozen=True)
class Blocking:
    """How many samples go through together, and on how many threads.

    Args:
        rows: samples of a block: `W` is read and written once in so many.
        group: samples that take in the steps of the block's earlier groups together.
        threads: that share the units; more than the machine's free cores is slow.
    """

    rows: int
    group: int
    threads: int = 1

    @classmethod
    def best(cls, width: int, threads: int | None = None) -> Blocking:
        """Best sizes as measured (benchmarks/online_sgd.py) for at most `threads` threads, default all."""
        threads = threads or len(os.sched_getaffinity(0))
        return cls(64, 16, threads) if width > WIDE else cls(32, 32, threads if width >= SHARED else 1)


WIDE = 4000  # units from which on a block's rows no longer fit into the second-level cache
SHARED = 500  # units from which on a second thread is worth the meetings


class OnlineSGD:
    """Trains the tensors of a two-layer network in place, sample by sample in the order given.

    Args:
        W, b: hidden layer (m, n) and (m,).
        A, c: output layer (K, m) and (K,).
        batch: samples a step; gradients are means over them.
        weight_decay: `p ← (1 − rate · weight_decay) p − rate · gradient`, all parameters that a step trains
            (as `torch.optim.SGD`).
        threads: default all cores. Results on another number of threads differ by rounding.
        blocking: sizes of blocks, default the best.
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
        self._room = np.ones((0, 0), np.int8)
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
        """One step on each `batch` rows of X; gives each sample's loss (N,) before its step.

        Args:
            X: (N, n) inputs ±1 of any type, N a multiple of `batch`.
            targets: (N, K) class probabilities q. Soft cross-entropy `−Σ q log softmax(o)`; hinge `Σ_y q_y
                Σ_{k≠y} max(0, 1 − o_y + o_k) / K`. With one logit f the hinge is `α max(0, 1 − f y) + (1 − α)
                max(0, 1 − f f_T)`, targets (N, 2) = (y, f_T).
            rate: (N / batch,) learning rates.
            loss: soft-cross-entropy or hinge.
            alpha: weight of the label in the hinge of one logit.
        """
        return self._fit(X, targets, None, rate, loss=loss, alpha=alpha, weight=0.0, before_relu=False)

    def fit_hidden(self, X: Tensor, targets: Tensor, rate: np.ndarray, *, before_relu: bool) -> np.ndarray:
        """Steps on `½ ‖a − t‖²`, `a` the hidden layer; returns every sample's loss (N,) before its step.

        Args:
            X: (N, n) inputs ±1, N a multiple of `batch`.
            targets: (N, m) projected hidden units of a teacher.
            rate: (N / batch,) learning rates.
            before_relu: match pre-activations; else the activations.
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
        """Steps on the loss of the logits plus `weight` times the loss of the hidden layer.

        Args:
            X, targets, rate, loss, alpha: as `fit_logits`.
            hidden, before_relu: the targets of `fit_hidden`.
            weight: of the hidden layer's loss.
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
        q, t = (
            (none if given is None else given.to(self.dtype).contiguous()).numpy()
            for given in (targets, hidden)
        )
        assert all(len(given) in (0, len(X)) for given in (q, t))
        kind = kinds.SOFT_CROSS_ENTROPY if loss == "soft-cross-entropy" else kinds.MULTI_MARGIN
        kind = kinds.SIGNED_MARGIN if len(self.c) == 1 else kind
        work, signs, shrink = (
            np.empty((4, len(self.shards), self.batch, len(self.c))),
            self._signs(X),
            1 - rate * self.weight_decay,
        )
        meeting, c_before = Meeting(work, new_counter()), self.c.copy()

        def run(thread: int) -> np.ndarray:
            # every thread works out the logits' gradients and c for itself, from the same sums
            losses = np.concatenate([np.zeros((2, len(X))), np.ones((1, len(X)))])
            samples = Samples(signs, q, t, losses, rate / self.batch, shrink)
            c = self.c if thread == 0 else c_before.copy()
            self.shards[thread].train(c, samples, kind, alpha, weight, before_relu, meeting)
            return losses

        found = self._on_threads(run, meeting.counter)
        return found[0][0] + np.log(found[0][2]) + sum(own[1] for own in found)

    def _signs(self, X: Tensor) -> np.ndarray:
        """See `Samples.X`."""
        count = len(X) + FOUR - 1
        if (
            len(self._room) < count
        ):  # kept from call to call: fresh memory costs more than what is written into it
            self._room = np.ones((count, -(-(self.n + FOUR) // _WORD) * _WORD), np.int8)
        self._room[: len(X), : self.n] = X.numpy()
        return self._room[:count]

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
    """One thread's hidden units, and its workspace."""

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
        self.quad = FOUR if FOUR % batch == 0 else batch  # a row has at most 3 of them before it
        self.group = _whole(blocking.group, self.quad)
        rows = _whole(blocking.rows, self.group)
        padded, size, chunks, spare = _whole(m, lanes), TILE * lanes, -(-(n + 1) // FOUR), _whole(rows, FOUR)
        width = (padded // lanes | 1) * lanes
        self.tiles, self.padded_A = (
            aligned(-(-m // size), chunks * FOUR, size, dtype=dtype),
            aligned(len(A), width, dtype=dtype),
        )
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
        self.place = Place(column, m, padded, lanes, n + 1, thread)

    def train(
        self,
        c: np.ndarray,
        samples: Samples,
        kind: int,
        alpha: float,
        weight: float,
        before_relu: bool,
        meeting: Meeting,
    ) -> None:
        """Takes these units through all samples."""
        m, logits = len(self.b), len(samples.targets) > 0
        pack(self.W, self.b, self.tiles)
        self.padded_A[:, :m] = self.A.numpy()
        self.block.U[:] = 0
        block = self.block if logits and len(samples.hidden) > 0 else self.block._replace(P=self.block.P[:0])
        rules = Rules(self.batch, self.group, self.quad, kind, alpha, weight, before_relu)
        scale = train(Network(self.tiles, self.padded_A, c), block, samples, rules, self.place, meeting)
        unpack(self.tiles, scale, self.W, self.b)
        if logits:
            self.A.copy_(torch.from_numpy(self.padded_A[:, :m]))


def _whole(rows: int, unit: int) -> int:
    """`rows` rounded up to a multiple of `unit`."""
    return -(-rows // unit) * unit
