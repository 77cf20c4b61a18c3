"""Sparse and hierarchical parity: labels of vectors in {±1}^n that depend on a few hidden coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vigreux.errors import ConfigError


class BooleanTask(Protocol):
    """A classification of vectors in {±1}^n."""

    @property
    def n(self) -> int:
        """Length of an input."""

    @property
    def classes(self) -> int:
        """Number of classes K."""

    @property
    def features(self) -> tuple[tuple[int, ...], ...]:
        """The sets of coordinates whose products decide the label."""

    def labels(self, X: np.ndarray) -> np.ndarray:
        """(N, n) ±1 → (N,) int64 class ids."""


@dataclass(frozen=True)
class Parity:
    """(n, k)-sparse parity (arXiv 2410.05464, section 3.1): class `(1 + Π_{i∈S} x_i) / 2`.

    Class 1 is y = +1.

    Args:
        n: length of an input.
        support: S, coordinates from 0.
    """

    n: int
    support: tuple[int, ...]

    def __post_init__(self) -> None:
        _check_coordinates("task.support", self.support, self.n)

    @property
    def classes(self) -> int:
        return 2

    @property
    def features(self) -> tuple[tuple[int, ...], ...]:
        return (self.support,)

    def labels(self, X: np.ndarray) -> np.ndarray:
        return (1 + X[:, list(self.support)].prod(axis=1, dtype=np.int64)) // 2

    @classmethod
    def draw(cls, n: int, k: int, seed: int = 0) -> Parity:
        """A uniformly random support of size k.

        Raises:
            ConfigError: k is not between 1 and n.
        """
        if not 1 <= k <= n:
            raise ConfigError(f"task.k: {k}; accepted: 1 to task.n = {n}")
        return cls(n, tuple(sorted(int(i) for i in np.random.default_rng(seed).choice(n, k, replace=False))))


@dataclass(frozen=True)
class HierarchicalParity:
    """Parities on a binary tree of depth D: K = 2^D classes (arXiv 2410.05464, section 3.3).

    Node j (from 1, in heap order: its children are 2j and 2j + 1) has the product `T_j = Π_{i∈S_j} x_i`; +1
    leads to the right child. The class is the leaf, counted from the left.

    Args:
        n: length of an input.
        nodes: S_1 … S_{2^D − 1}, disjoint.
    """

    n: int
    nodes: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if len(self.nodes) < 1 or (len(self.nodes) + 1) & len(self.nodes):
            raise ConfigError(
                f"task.features: {len(self.nodes)} sets; accepted: one a node of a complete tree, 1, 3, 7,"
                " 15, …"
            )
        if not all(self.nodes):
            raise ConfigError("task.features: a set is empty; accepted: at least one coordinate each")
        _check_coordinates("task.features", [i for node in self.nodes for i in node], self.n)

    @property
    def classes(self) -> int:
        return len(self.nodes) + 1

    @property
    def depth(self) -> int:
        """Levels of the tree, D."""
        return self.classes.bit_length() - 1

    @property
    def features(self) -> tuple[tuple[int, ...], ...]:
        return self.nodes

    def labels(self, X: np.ndarray) -> np.ndarray:
        right = np.stack(
            [X[:, list(node)].prod(axis=1, dtype=np.int64) > 0 for node in self.nodes], axis=1
        )  # (N, nodes)
        node = np.ones(len(X), np.int64)
        for _ in range(self.depth):
            node = 2 * node + right[np.arange(len(X)), node - 1]
        return node - self.classes

    @classmethod
    def draw(cls, n: int, k: int, classes: int, seed: int = 0) -> HierarchicalParity:
        """Random disjoint sets of k coordinates for the `classes − 1` nodes.

        Raises:
            ConfigError: `classes` is not a power of two, or the sets do not fit into n coordinates.
        """
        if classes < 2 or classes & (classes - 1):
            raise ConfigError(f"task.classes: {classes} is not a power of two; accepted: 2, 4, 8, …")
        if k < 1 or k * (classes - 1) > n:
            raise ConfigError(
                f"task.k: {classes - 1} features of {k} coordinates do not fit into n = {n}; accepted:"
                f" {_fitting(n, classes)}"
            )
        coordinates = (
            np.random.default_rng(seed).choice(n, k * (classes - 1), replace=False).reshape(classes - 1, k)
        )
        return cls(n, tuple(tuple(sorted(int(i) for i in node)) for node in coordinates))


def _fitting(n: int, classes: int) -> str:
    """The sizes of features that fit."""
    return f"1 to {n // (classes - 1)}" if n >= classes - 1 else f"fewer classes, or n from {classes - 1}"


def _check_coordinates(where: str, coordinates: Sequence[int], n: int) -> None:
    if not coordinates:
        raise ConfigError(f"{where}: empty; accepted: coordinates from 0 to {n - 1}")
    if outside := [i for i in coordinates if not 0 <= i < n]:
        raise ConfigError(f"{where}: {outside[0]} is outside the input; accepted: 0 to task.n - 1 = {n - 1}")
    if twice := [i for i in coordinates if list(coordinates).count(i) > 1]:
        raise ConfigError(f"{where}: {twice[0]} occurs twice; accepted: distinct coordinates")
