"""Online SGD of a narrow network: blocks of four samples, each block one fused pass over weights that stay in cache."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from vigreux.kernels.barrier import new_counter
from vigreux.kernels.denormals import no_denormals
from vigreux.kernels.fused import ROWS, aligned, fused_pass, padded, vectors_of
from vigreux.kernels.steps import hidden_steps, logits_steps

CACHE = 1_500_000  # bytes of weights that stay in the second-level cache, beside what a step reads


class NarrowSGD:
    """One thread, whose weights never leave the cache. Arguments as `vigreux.kernels.online.OnlineSGD`."""

    def __init__(self, W: Tensor, b: Tensor, A: Tensor, c: Tensor, batch: int) -> None:
        self.tensors, self.batch = (W, b, A, c), batch
        dtype, (m, n), K = W.numpy().dtype, W.shape, len(c)
        units, self.vectors = padded(m, dtype), vectors_of(m, dtype)
        self.W, self.A, self.c = aligned(n + 1, units, dtype=dtype), aligned(K, units, dtype=dtype), c.numpy()
        self.Z, self.U, self.G = aligned(ROWS, units, dtype=dtype), aligned(ROWS, units, dtype=dtype), np.zeros((ROWS, ROWS), dtype)
        self.work, self.counter = np.empty((4, 1, batch, K)), new_counter()

    @staticmethod
    def fits(W: Tensor, batch: int) -> bool:
        """Whether the weights stay in cache, and whole steps make up a block."""
        return W.numel() * W.element_size() <= CACHE and ROWS % batch == 0

    def logits(self, X: Tensor, targets: Tensor, rate: np.ndarray, shrink: np.ndarray, kind: int, alpha: float) -> np.ndarray:
        """Steps on a loss of the logits."""
        inputs, losses = self._take_in(X), np.empty(len(X))
        with no_denormals():
            scale = narrow_logits(
                self.W, self.A, self.c, inputs, targets.numpy(), rate, shrink, self.batch, kind, alpha, losses,
                self.Z, self.G, self.U, self.work, self.counter, self.vectors,
            )  # fmt: skip
        self._give_back(scale)
        return losses

    def hidden(self, X: Tensor, targets: Tensor, rate: np.ndarray, shrink: np.ndarray, before_relu: bool) -> np.ndarray:
        """Steps on the squared error of the hidden layer."""
        inputs, losses = self._take_in(X), np.empty(len(X))
        whole = aligned(len(X), self.W.shape[1], dtype=self.W.dtype)
        whole[:, : targets.shape[1]] = targets.numpy()
        with no_denormals():
            scale = narrow_hidden(
                self.W, inputs, whole, rate, shrink, self.batch, before_relu, losses, self.Z, self.G, self.U, self.vectors
            )
        self._give_back(scale)
        return losses

    def _take_in(self, X: Tensor) -> np.ndarray:
        """Copies the parameters into whole vectors; the samples with a last column of ones, rounded up to whole blocks."""
        W, b, A, _ = self.tensors
        m, n = W.shape
        self.W[:n, :m], self.W[n, :m], self.A[:, :m] = W.T, b, A
        inputs = aligned(-(-len(X) // ROWS) * ROWS, n + 1, dtype=self.W.dtype)
        inputs[: len(X), :n], inputs[: len(X), n] = X, 1
        return inputs

    def _give_back(self, scale: float) -> None:
        W, b, A, _ = self.tensors
        m, n = W.shape
        W.copy_(torch.from_numpy(self.W[:n, :m]).T).mul_(scale)
        b.copy_(torch.from_numpy(self.W[n, :m])).mul_(scale)
        A.copy_(torch.from_numpy(self.A[:, :m]))


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def _gram(X: np.ndarray, first: int, G: np.ndarray) -> None:
    """G (4, 4), below the diagonal: products of rows `first` … of X, whose last column of ones adds the bias."""
    for i in range(1, ROWS):
        for j in range(i):
            one, other = X[first + i], X[first + j]
            total = G.dtype.type(0)
            for k in range(X.shape[1]):
                total += one[k] * other[k]
            G[i, j] = total


@njit(cache=True, nogil=True)
def _rescale(W: np.ndarray, U: np.ndarray, scale: float) -> float:
    """Multiplies the scale out before weight decay makes it too small; rarely."""
    if scale > 0.5:
        return scale
    W *= W.dtype.type(scale)
    U *= U.dtype.type(scale)
    return 1.0


@njit(cache=True, nogil=True)
def narrow_logits(
    W: np.ndarray,
    A: np.ndarray,
    c: np.ndarray,
    X: np.ndarray,
    targets: np.ndarray,
    rate: np.ndarray,
    shrink: np.ndarray,
    batch: int,
    kind: int,
    alpha: float,
    losses: np.ndarray,
    Z: np.ndarray,
    G: np.ndarray,
    U: np.ndarray,
    work: np.ndarray,
    counter: np.ndarray,
    vectors: int,
) -> float:
    """Takes all samples through, as `logits_steps`; gives the scale by which W is still to be multiplied.

    Args:
        W: (n + 1, m) an input a row, the bias last; m whole vectors, of which the units beyond the network's are 0.
        A, c, targets, rate, shrink, batch, kind, alpha, losses: see `steps`; `batch` divides 4.
        X: (N rounded up to 4, n + 1), the last column 1; rows beyond the samples are 0.
        Z, G, U: workspace (4, m), (4, 4), (4, m).
        work, counter: workspace of `logits_steps` for one thread.
        vectors: that hold the network's units.
    """
    count, scale, before = len(losses), 1.0, 0
    U[:] = 0
    for start in range(0, count, ROWS):
        fused_pass(W, U, Z, X, before, start, vectors)
        _gram(X, start, G)
        end = min(start + ROWS, count)
        if end - start < ROWS:
            U[:] = 0
        scale = logits_steps(
            Z, G, U, A, c, targets, losses, rate, shrink, batch, start, 0, end - start, scale, kind, alpha, work, 0, counter
        )  # fmt: skip
        scale = _rescale(W, U, scale)
        before = start
    fused_pass(W, U, Z, X, before, before, vectors)
    return scale


@njit(cache=True, nogil=True)
def narrow_hidden(
    W: np.ndarray,
    X: np.ndarray,
    targets: np.ndarray,
    rate: np.ndarray,
    shrink: np.ndarray,
    batch: int,
    before_relu: bool,
    losses: np.ndarray,
    Z: np.ndarray,
    G: np.ndarray,
    U: np.ndarray,
    vectors: int,
) -> float:
    """The same as `hidden_steps`; targets (N, m)."""
    count, scale, before = len(losses), 1.0, 0
    U[:] = 0
    for start in range(0, count, ROWS):
        fused_pass(W, U, Z, X, before, start, vectors)
        _gram(X, start, G)
        end = min(start + ROWS, count)
        if end - start < ROWS:
            U[:] = 0
        scale = hidden_steps(Z, G, U, targets, losses, rate, shrink, batch, start, 0, end - start, scale, before_relu)
        scale = _rescale(W, U, scale)
        before = start
    fused_pass(W, U, Z, X, before, before, vectors)
    return scale
