"""The arrays that kernels pass to each other, as named tuples, which compiled code can unpack.

Notation: n inputs, m hidden units of one thread, K logits, B rows (samples) of a block, N samples of a call.
m is rounded up to an odd number of vectors, so that rows do not compete for the same cache lines. The units
beyond the network's stay 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Network(NamedTuple):
    """The weights of one thread.

    Args:
        tiles: (T, inputs, units) hidden layer, one row per input, the bias last: `W = scale · tiles`.
        A: (K, m) output layer.
        c: (K,) bias of the output layer; each thread has a copy.
    """

    tiles: np.ndarray
    A: np.ndarray
    c: np.ndarray


class Block(NamedTuple):
    """The rows that are processed together.

    Args:
        Z: (B, m) pre-activations, correct but for the last few steps before a row's own step. After that
            step, the hidden activations `h`.
        G: (B, B) products of the inputs plus 1, below the diagonal. The bias is an input that is always 1.
        U: (B, m) the update of each row. After step i,  W = s_i (W_0 + Σ_j U_j x_jᵀ)  and
            b = s_i (b_0 + Σ_j U_j). The scale s_i is the product of the steps' `shrink`.
        P: (batch, m) pre-activations of a step that matches the hidden layer and the logits, else (0, m).
        table: sums of four vectors (see `signs`).
        input_codes: (B, chunks of inputs) the sums that make up the products of a row.
        row_codes: (chunks of rows, n + 1) the sums that make up the updates of an input.
        bits: (words, B) uint64, one bit per sign.
    """

    Z: np.ndarray
    G: np.ndarray
    U: np.ndarray
    P: np.ndarray
    table: np.ndarray
    input_codes: np.ndarray
    row_codes: np.ndarray
    bits: np.ndarray


class Samples(NamedTuple):
    """The training data of one call.

    Args:
        X: (N + 3, 64 · words) int8 ±1. The n inputs are followed by ones: one for the bias, then padding.
        targets: (N, K) class probabilities. For the signed margin (N, 2): label and teacher's value. Without
            a loss of the logits (0, ·).
        hidden: (N, units of all threads) targets of the hidden layer, or (0, ·).
        losses: (3, N) written: the loss of the logits without its logarithm, the loss of the hidden layer,
            and the argument of that logarithm.
        rate: (steps,) learning rate / batch.
        shrink: (steps,) 1 − learning rate · weight decay.
    """

    X: np.ndarray
    targets: np.ndarray
    hidden: np.ndarray
    losses: np.ndarray
    rate: np.ndarray
    shrink: np.ndarray


class Rules(NamedTuple):
    """The settings of a step.

    Args:
        batch: rows per step.
        group: rows that are corrected together for the block's earlier groups.
        quad: rows that are corrected together for the earlier rows of their group: 4, or `batch` if it does
            not divide 4.
        kind: one of the losses in `losses`.
        alpha: weight of the label; signed margin only.
        weight: weight of the hidden layer's loss.
        before_relu: match the hidden layer before its relu.
    """

    batch: int
    group: int
    quad: int
    kind: int
    alpha: float
    weight: float
    before_relu: bool


class UnitRange(NamedTuple):
    """The hidden units of one thread.

    Args:
        column: index of the first unit in the network.
        units: number of units.
        padded: number of units, rounded up to whole vectors.
        lanes: numbers per vector.
        length: number of inputs including the bias, n + 1.
        thread: index of the thread.
    """

    column: int
    units: int
    padded: int
    lanes: int
    length: int
    thread: int


class SharedState(NamedTuple):
    """The arrays that all threads share.

    Args:
        work: (4, threads, batch, K): the threads' partial logits in two alternating slots, their logits and
            their gradients. Two slots suffice, since no thread is more than one barrier ahead of another.
        counter: the counter of the barrier.
    """

    work: np.ndarray
    counter: np.ndarray
