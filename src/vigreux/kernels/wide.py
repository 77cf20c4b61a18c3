"""Online SGD of a wide network: blocks of samples by matrix products, units shared out among threads.

Two levels of blocking keep the corrections cheap: within a block, groups of rows get all earlier groups' corrections as one matrix
product, and only those of their own group one by one (`steps.py`). Each thread has a range of units, and the threads meet once a
step, to add up the logits (`barrier.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vigreux.kernels.barrier import new_counter, release
from vigreux.kernels.denormals import no_denormals
from vigreux.kernels.steps import hidden_steps, logits_steps


@dataclass(frozen=True)
class Blocking:
    """How many samples go through together, and on how many threads.

    Args:
        rows: samples of a block: `W` is read and written once in so many.
        group: samples whose corrections are applied one by one.
        threads: that share the units; more than the machine's free cores is slow.
    """

    rows: int
    group: int
    threads: int = 1

    @classmethod
    def best(cls, threads: int | None = None) -> Blocking:
        """Measured best sizes (benchmarks/online_sgd.py) on `threads` threads, default all cores that this process may use."""
        threads = threads or len(os.sched_getaffinity(0))
        return cls(64, 8 if threads == 1 else 16, threads)


class WideSGD:
    """Any width and batch size. Arguments as `vigreux.kernels.online.OnlineSGD`."""

    def __init__(self, W: Tensor, b: Tensor, A: Tensor, c: Tensor, batch: int, blocking: Blocking) -> None:
        self.A, self.c, self.batch = A, c, batch
        self.threads = min(blocking.threads, len(b))
        group = _whole(blocking.group, batch)
        cuts = [len(b) * i // self.threads for i in range(self.threads + 1)]
        self.spans = [slice(i, j) for i, j in pairwise(cuts)]
        self.shards = [_Shard(W[span], b[span], _whole(blocking.rows, group), group) for span in self.spans]
        self.pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None

    def logits(self, X: Tensor, targets: Tensor, rate: np.ndarray, shrink: np.ndarray, kind: int, alpha: float) -> np.ndarray:
        """Steps on a loss of the logits."""
        q, c_before = targets.numpy(), self.c.numpy().copy()
        work, counter = np.empty((4, self.threads, self.batch, len(c_before))), new_counter()

        def run(thread: int) -> np.ndarray:
            # every thread works out the logits' gradients and c for itself, from the same sums
            A, c = np.ascontiguousarray(self.A.numpy()[:, self.spans[thread]]), c_before.copy()
            losses = np.empty(len(X))

            def take(block: _Block, first: int, last: int, scale: float) -> float:
                return logits_steps(
                    block.Z, block.G, block.U, A, c, q, losses, rate, shrink, self.batch, block.offset, first, last, scale,
                    kind, alpha, work, thread, counter,
                )  # fmt: skip

            self.shards[thread].through(X, take)
            self.A[:, self.spans[thread]] = torch.from_numpy(A)
            if thread == 0:
                self.c[:] = torch.from_numpy(c)
            return losses

        return self._on_threads(run, counter)[0]

    def hidden(self, X: Tensor, targets: Tensor, rate: np.ndarray, shrink: np.ndarray, before_relu: bool) -> np.ndarray:
        """Steps on the squared error of the hidden layer."""

        def run(thread: int) -> np.ndarray:
            own = np.ascontiguousarray(targets.numpy()[:, self.spans[thread]])
            losses = np.empty(len(X))

            def take(block: _Block, first: int, last: int, scale: float) -> float:
                return hidden_steps(
                    block.Z, block.G, block.U, own, losses, rate, shrink, self.batch, block.offset, first, last, scale, before_relu
                )  # fmt: skip

            self.shards[thread].through(X, take)
            return losses

        return np.sum(self._on_threads(run, new_counter()), axis=0)

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

        with _one_torch_thread():
            return list(self.pool.map(guarded, range(self.threads)))


class _Block(NamedTuple):
    """One block on its way through (see `steps.py`)."""

    Z: np.ndarray
    G: np.ndarray
    U: np.ndarray
    offset: int


class _Shard:
    """One thread's range of hidden units, and its workspace."""

    def __init__(self, W: Tensor, b: Tensor, rows: int, group: int) -> None:
        self.W, self.b, self.rows, self.group = W, b, rows, group
        self.Z, self.U = (torch.empty(rows, len(b), dtype=W.dtype) for _ in range(2))

    def through(self, X: Tensor, take: Callable[[_Block, int, int, float], float]) -> None:
        """Takes these units through all of X, block by block; `take` takes the steps of a group of rows, and gives the scale."""
        for start in range(0, len(X), self.rows):
            self._through_block(X[start : start + self.rows], start, take)

    def _through_block(self, X: Tensor, offset: int, take: Callable[[_Block, int, int, float], float]) -> None:
        Z, U = self.Z[: len(X)], self.U[: len(X)]
        torch.addmm(self.b, X, self.W.T, out=Z)
        G = torch.mm(X, X.T).add_(1)
        block = _Block(Z.numpy(), G.numpy(), U.numpy(), offset)
        scale = 1.0
        for first in range(0, len(X), self.group):
            last = min(first + self.group, len(X))
            if first:
                Z[first:last].addmm_(G[first:last, :first], U[:first])
            scale = take(block, first, last, scale)
        self.W.addmm_(U.T, X, beta=scale, alpha=scale)
        self.b.mul_(scale).add_(U.sum(0), alpha=scale)


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Each of our threads calls BLAS for its own units: BLAS must not start more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _whole(rows: int, unit: int) -> int:
    """`rows` rounded up to a multiple of `unit`."""
    return -(-rows // unit) * unit
