"""Exact online SGD of a two-layer network at matrix-multiply speed.

Batch-1 SGD on `f(x) = A relu(W x + b) + c` seems to need the whole of `W` at each step. It does not: step i changes `W` by a rank-1
term `u_i x_iᵀ`, so over a block of B samples all pre-activations come from one product `Z = X Wᵀ + b`, and a later sample j sees
step i as `z_j += (x_i·x_j + 1) u_i`. `W` is read and written once a block (`W += Uᵀ X`). This is LAPACK's blocked factorisation
applied to SGD; in exact arithmetic the result is that of the step-by-step loop, and in float64 they agree to rounding.

Two levels of blocking keep the corrections cheap: within a block, groups of rows get all earlier groups' corrections as one matrix
product, and only those of their own group one by one (`steps.py`). Wide networks are shared out among threads, a range of units
each, which meet once a step to add up the logits (`barrier.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vigreux.kernels import steps
from vigreux.kernels.barrier import new_counter, release

Loss = Literal["soft-cross-entropy", "hinge"]


@dataclass(frozen=True)
class Blocking:
    """How many samples go through together, and on how many threads.

    Args:
        rows: samples of a block: `W` is read and written once in so many.
        group: samples whose corrections are applied one by one.
        threads: threads that share the units; more than the machine's free cores is slow.
    """

    rows: int
    group: int
    threads: int = 1

    @classmethod
    def for_width(cls, width: int, threads: int | None = None) -> Blocking:
        """Measured best sizes (benchmarks/online_sgd.py). A narrow `W` stays in cache, where long groups cost least.

        Args:
            width: hidden units m.
            threads: at most so many; default all cores. A narrow network uses one: the meetings would cost more than they save.
        """
        if width <= 256:
            return cls(64, 64)
        if width <= 4096:
            return cls(64, 32)
        threads = threads or os.cpu_count() or 1
        return cls(64, 8 if threads == 1 else 16, threads)


class OnlineSGD:
    """Trains the tensors of a two-layer network in place, sample by sample in the order given.

    Args:
        W, b: hidden layer (m, n) and (m,).
        A, c: output layer (K, m) and (K,).
        batch: samples a step; gradients are means over them.
        weight_decay: `p ← (1 − rate · weight_decay) p − rate · gradient`, all parameters that a step trains (as `torch.optim.SGD`).
        blocking: default `Blocking.for_width(m)`. Results on another number of threads, or in other blocks, differ by rounding.
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
        blocking: Blocking | None = None,
    ) -> None:
        assert all(p.is_contiguous() and not p.requires_grad and p.dtype == W.dtype for p in (W, b, A, c))
        self.W, self.b, self.A, self.c = W, b, A, c
        self.batch, self.weight_decay = batch, weight_decay
        blocking = blocking or Blocking.for_width(len(b))
        self.threads = min(blocking.threads, len(b))
        self.group = _whole(blocking.group, batch)
        self.rows = _whole(blocking.rows, self.group)
        cuts = [len(b) * i // self.threads for i in range(self.threads + 1)]
        self.shards = [_Shard(W[i:j], b[i:j], self.rows, self.group) for i, j in pairwise(cuts)]
        self.spans = [slice(i, j) for i, j in pairwise(cuts)]
        self.pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None

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
        kind = steps.SOFT_CROSS_ENTROPY if loss == "soft-cross-entropy" else steps.MULTI_MARGIN
        kind = steps.SIGNED_MARGIN if len(self.c) == 1 else kind
        q, c0 = targets.to(self.W.dtype).numpy(), self.c.numpy().copy()
        partial, counter = np.empty((2, self.threads, self.batch, len(c0))), new_counter()

        def run(thread: int) -> np.ndarray:
            # every thread works out the logits' gradients and c for itself, from the same sums
            A, c = np.ascontiguousarray(self.A.numpy()[:, self.spans[thread]]), c0.copy()

            def take(block: Block) -> float:
                rows, meetings = q[block.offset : block.offset + block.size], (block.offset + block.first) // self.batch
                arguments = (kind, alpha, block.losses, partial, thread, counter, meetings)
                return steps.logits_steps(block.Z, block.G, block.U, A, c, rows, *block.settings, *arguments)

            losses = self._through(self.shards[thread], X, rate, take)
            self.A[:, self.spans[thread]] = torch.from_numpy(A)
            if thread == 0:
                self.c[:] = torch.from_numpy(c)
            return losses

        return self._on_threads(run, counter)[0]

    def fit_hidden(self, X: Tensor, targets: Tensor, rate: np.ndarray, *, before_relu: bool) -> np.ndarray:
        """One step on each `batch` rows of X on `½ ‖a − t‖²`, `a` the hidden layer; gives each sample's loss (N,) before its step.

        Args:
            X: (N, n) inputs, N a multiple of `batch`.
            targets: (N, m) projected hidden units of a teacher.
            rate: (N / batch,) learning rates.
            before_relu: match pre-activations; else the activations.
        """
        t = targets.to(self.W.dtype).numpy()

        def run(thread: int) -> np.ndarray:
            own = np.ascontiguousarray(t[:, self.spans[thread]])

            def take(block: Block) -> float:
                rows = own[block.offset : block.offset + block.size]
                return steps.hidden_steps(block.Z, block.G, block.U, rows, *block.settings, before_relu, block.losses)

            return self._through(self.shards[thread], X, rate, take)

        return np.sum(self._on_threads(run, new_counter()), axis=0)

    def _through(self, shard: _Shard, X: Tensor, rate: np.ndarray, take: Callable[[Block], float]) -> np.ndarray:
        """Takes one thread's units through all of X, a block at a time."""
        assert len(X) == len(rate) * self.batch
        losses, shrink = np.empty(len(X)), 1 - rate * self.weight_decay
        for start in range(0, len(X), self.rows):
            end = min(start + self.rows, len(X))
            steps_of = slice(start // self.batch, end // self.batch)
            shard.block(X[start:end], rate[steps_of], shrink[steps_of], self.batch, start, losses[start:end], take)
        return losses

    def _on_threads(self, run: Callable[[int], np.ndarray], counter: np.ndarray) -> list[np.ndarray]:
        if self.pool is None:
            with _no_denormals():
                return [run(0)]

        def guarded(thread: int) -> np.ndarray:
            try:
                with _no_denormals():
                    return run(thread)
            except BaseException:
                release(counter)
                raise

        with _one_torch_thread():
            return list(self.pool.map(guarded, range(self.threads)))


class Block:
    """One block on its way through: what the compiled steps need."""

    __slots__ = ("G", "U", "Z", "batch", "first", "last", "losses", "offset", "rate", "scale", "shrink", "size")

    def __init__(self, Z: Any, G: Any, U: Any, rate: Any, shrink: Any, batch: int, offset: int, losses: Any) -> None:
        self.Z, self.G, self.U, self.rate, self.shrink, self.batch = Z, G, U, rate, shrink, batch
        self.offset, self.losses, self.size = offset, losses, len(Z)
        self.first, self.last, self.scale = 0, 0, 1.0

    @property
    def settings(self) -> tuple[Any, ...]:
        return self.rate, self.shrink, self.batch, self.first, self.last, self.scale


class _Shard:
    """One thread's range of hidden units, and its workspace of two rows of blocks."""

    def __init__(self, W: Tensor, b: Tensor, rows: int, group: int) -> None:
        self.W, self.b, self.group = W, b, group
        self.Z, self.U = (torch.empty(rows, len(b), dtype=W.dtype) for _ in range(2))

    def block(
        self,
        X: Tensor,
        rate: np.ndarray,
        shrink: np.ndarray,
        batch: int,
        offset: int,
        losses: np.ndarray,
        take: Callable[[Block], float],
    ) -> None:
        Z, U = self.Z[: len(X)], self.U[: len(X)]
        torch.addmm(self.b, X, self.W.T, out=Z)
        G = torch.mm(X, X.T).add_(1)
        block = Block(Z.numpy(), G.numpy(), U.numpy(), rate, shrink, batch, offset, losses)
        for first in range(0, len(X), self.group):
            block.first, block.last = first, min(first + self.group, len(X))
            if first:
                Z[first : block.last].addmm_(G[first : block.last, :first], U[:first])
            block.scale = take(block)
        self.W.addmm_(U.T, X, beta=block.scale, alpha=block.scale)
        self.b.mul_(block.scale).add_(U.sum(0), alpha=block.scale)


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Each of our threads calls BLAS for its own units: BLAS must not start more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _no_denormals() -> Iterator[None]:
    """Takes denormal numbers for 0 on this thread: a confident network is full of them, and each costs over 100 cycles."""
    before = float(torch.tensor(1e-310, dtype=torch.float64) * 1.0) == 0.0  # torch has no question for it
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _whole(rows: int, unit: int) -> int:
    """`rows` rounded up to a multiple of `unit`."""
    return -(-rows // unit) * unit
