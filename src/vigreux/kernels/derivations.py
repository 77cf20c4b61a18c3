"""Random derivations of a grammar in which symbols and rules are numbers: compiled, and a function of (seed, sentence)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

_STEP, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Tables(NamedTuple):
    """A grammar in numbers: terminals come first, then the non-terminals.

    Args:
        terminals: how many there are.
        first_rule: (symbols + 1,) each symbol's first rule; terminals have none.
        threshold: (rules,) uint64, cumulative: a symbol takes its first rule whose threshold the draw does not exceed.
        begins: (rules + 1,) where each rule's right side begins in `right`.
        right: (total,) symbols.
        flat: (rules,) whether a rule's right side is terminals alone.
        level: (symbols,) from 0; all 0 where the grammar has no levels.
        start: the start symbol.
    """

    terminals: int
    first_rule: np.ndarray
    threshold: np.ndarray
    begins: np.ndarray
    right: np.ndarray
    flat: np.ndarray
    level: np.ndarray
    start: int


@njit(cache=True, nogil=True, inline="always")
def _mix(z: np.uint64) -> np.uint64:
    """SplitMix64's output function (Steele, Lea and Flood 2014)."""
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return z ^ (z >> np.uint64(31))


@njit(cache=True, nogil=True)
def derive(
    tables: Tables, seed: int, first: int, count: int, tokens: np.ndarray, ends: np.ndarray, boundaries: np.ndarray,
    ancestors: np.ndarray,
) -> int:  # fmt: skip
    """Writes sentences `first`, …, one after another, as many of `count` as fit; gives how many.

    Args:
        tables: the grammar.
        seed: of the stream.
        first, count: sentences.
        tokens: (capacity,) terminals.
        ends: (count,) where each sentence ends in `tokens`.
        boundaries: (capacity,) of how many ancestors in a row, from its parent up, a token is the last token.
        ancestors: (depth, capacity) non-terminals of levels 1, …, counted from 0; (0, ·) to leave them out.
    """
    stack, last_of = np.empty(1 << 12, np.int64), np.empty(1 << 12, np.int64)
    path, begun = np.zeros(len(ancestors) + 1, np.int64), np.zeros(len(ancestors) + 1, np.int64)  # by level: symbol, first token
    written = 0
    for number in range(count):
        state = _mix(_mix(np.uint64(seed)) + np.uint64(first + number) * _STEP)
        stack[0], last_of[0], height = tables.start, 0, 1
        begun[:] = written
        while height > 0:
            height -= 1
            symbol, ended = stack[height], last_of[height]
            if symbol < tables.terminals:
                if written == len(tokens):
                    return number
                tokens[written], boundaries[written] = symbol, min(ended, 127)
                written += 1
                continue
            if len(ancestors) > 0:
                level = tables.level[symbol]
                ancestors[level - 1, begun[level] : written] = path[level]  # the one before on this level is over
                path[level], begun[level] = symbol - tables.terminals, written
            state += _STEP
            draw, rule = _mix(state), tables.first_rule[symbol]
            while tables.threshold[rule] < draw:
                rule += 1
            begins, stop = tables.begins[rule], tables.begins[rule + 1]
            if tables.flat[rule]:  # most of a derivation: straight into the sentence
                if written + stop - begins > len(tokens):
                    return number
                for place in range(begins, stop):
                    tokens[written], boundaries[written] = tables.right[place], 0
                    written += 1
                boundaries[written - 1] = min(ended + 1, 127)
                continue
            if height + stop - begins > len(stack):
                stack, last_of = _doubled(stack), _doubled(last_of)
            for place in range(stop - 1, begins - 1, -1):  # the first symbol on top
                stack[height], last_of[height] = tables.right[place], ended + 1 if place == stop - 1 else 0
                height += 1
        for level in range(1, len(path)):
            ancestors[level - 1, begun[level] : written] = path[level]
        ends[number] = written
    return count


@njit(cache=True, nogil=True)
def _doubled(stack: np.ndarray) -> np.ndarray:
    wider = np.empty(2 * len(stack), stack.dtype)
    wider[: len(stack)] = stack
    return wider
