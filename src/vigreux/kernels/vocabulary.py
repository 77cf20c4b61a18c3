"""The arrays that kernels pass to each other, as named tuples, which compiled code can unpack.

Notation: n inputs, m hidden units of one thread, K logits, B rows (samples) of a block, N samples of a call.
m is rounded up to an odd number of vectors, so that rows do not fall on each other in the cache; the units
beyond the network's stay 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Network(NamedTuple):
    """One thread's part of the weights.

    Args:
        tiles: (T, inputs, units) hidden layer, an input a row, the bias last: `W = scale · tiles`.
        A: (K, m) output layer.
        c: (K,) its bias; each thread has a copy.
    """

    tiles: np.ndarray
    A: np.ndarray
    c: np.ndarray


class Block(NamedTuple):
    """The rows that go through together.

    Args:
        Z: (B, m) pre-activations; correct up to the last few steps before a row's own, hidden activations `h`
            after it.
        G: (B, B) products of the inputs plus 1 (the bias is one more input that is always 1), below the
            diagonal.
        U: (B, m) what each row adds to a unit. After step i,  W = s_i (W_0 + Σ_j U_j x_jᵀ)  and
            b = s_i (b_0 + Σ_j U_j). The scale s_i is the product of the steps' `shrink`.
        P: (batch, m) pre-activations of a step that matches the hidden layer as well as logits, else (0, m).
        table: sums of four vectors (see `signs`).
        input_codes: (B, chunks of inputs) which sums a row takes for its products.
        row_codes: (chunks of rows, n + 1) which sums an input takes for its updates.
        bits: (words, B) uint64, a bit a sign.
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
    """What is learned from.

    Args:
        X: (N + 3, 64 · words) int8 ±1; after the n inputs a column of ones for the bias, and ones beyond.
        targets: (N, K) class probabilities; for the signed margin (N, 2): label and teacher's value; (0, ·)
            without logits.
        hidden: (N, units of all threads) targets of the hidden layer, or (0, ·).
        losses: (3, N) written: of the logits, of the hidden layer, and what the first still lacks the
            logarithm of.
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
    """How a step is made.

    Args:
        batch: rows a step.
        group: rows that take in all earlier rows of the block together.
        quad: rows that take in the earlier rows of their group together; 4, or one step where that is no
            divisor of 4.
        kind: a loss of `losses`.
        alpha: weight of the label, signed margin only.
        weight: of the hidden layer's loss.
        before: match the hidden layer before its relu.
    """

    batch: int
    group: int
    quad: int
    kind: int
    alpha: float
    weight: float
    before: bool


class Place(NamedTuple):
    """Where a thread's part lies.

    Args:
        column: its first unit in the network.
        units: how many it has.
        padded: these rounded up to whole vectors.
        lanes: numbers in a vector.
        length: inputs that count, the bias among them: n + 1.
        thread: its number.
    """

    column: int
    units: int
    padded: int
    lanes: int
    length: int
    thread: int


class Meeting(NamedTuple):
    """What threads share.

    Args:
        work: (4, threads, batch, K): their parts of the logits at this step and the one before (no thread is
            ahead of another by more than one meeting); each thread's logits; each thread's gradients.
        counter: of the barrier.
    """

    work: np.ndarray
    counter: np.ndarray
