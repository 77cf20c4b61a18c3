"""Sentences of a probabilistic context-free grammar: a pure function of (seed, index).

Draw number d of a sentence is the d-th output of SplitMix64 (Steele, Lea & Flood 2014) from a state that is
itself hashed from (seed, index): no generator is carried from sentence to sentence. Symbols are expanded
depth first, leftmost first, the d-th expansion with draw d (on a stack, so that recursive grammars work too).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

MOST_ENDED = 127  # largest boundary level that is told apart: int8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class RuleTable(NamedTuple):
    """A grammar of T terminals (0 to T − 1), N nonterminals (T to T + N − 1) and R rules.

    Rules are in the order of their left sides.

    Args:
        terminals: T.
        first: (N + 1,) int64, first rule of a nonterminal; its last one stands before the next one's first.
        threshold: (R,) uint64, 2^64 times the probabilities of a nonterminal's rules, summed up to this one:
            a draw takes the first rule whose threshold it does not exceed, and the last rule where it exceeds
            those of all others.
        begin: (R + 1,) int64, where a rule's right side begins; it ends where the next begins.
        right: (…,) int32 right sides, one after another, and behind them the start symbol.
        level: (N,) int64 level of a nonterminal, 1 to depth, of a graded grammar; else unused.
    """

    terminals: int
    first: np.ndarray
    threshold: np.ndarray
    begin: np.ndarray
    right: np.ndarray
    level: np.ndarray


class Room(NamedTuple):
    """Where sentences are written, one after another.

    Args:
        tokens: (room,) int32 token ids.
        boundaries: (room,) int8, of how many consecutive ancestors, from its parent up, a token is the last.
        ancestors: (room, depth) int16, a token's ancestors of level 1 to depth, nonterminals counted from 0;
            (room, 0) writes none.
    """

    tokens: np.ndarray
    boundaries: np.ndarray
    ancestors: np.ndarray


@njit(cache=True, nogil=True)
def expand(
    table: RuleTable, seed: np.uint64, first: int, done: int, ends: np.ndarray, room: Room, longest: int
) -> int:
    """Writes sentences `first + done`, …, behind the `done` that stand in `room`, until there are len(ends).

    Args:
        table: the grammar.
        seed: of the stream.
        first: index of the sentence that stands first.
        done: how many sentences stand there already.
        ends: (count,) int64, where each sentence ends; those behind `done` are written.
        room: is written.
        longest: most tokens that a sentence may have.

    Returns:
        How many sentences stand there now. Fewer than `count`: the next one is longer than `longest`, or than
        the room left.
    """
    at = ends[done - 1] if done > 0 else 0
    stream = _mix(seed)
    # a right side that waits holds at least one symbol, and that becomes at least one token
    waiting, path = np.empty((longest, 3), np.int64), np.zeros(room.ancestors.shape[1], np.int16)
    for i in range(done, len(ends)):
        state = _mix(stream + _GOLDEN * np.uint64(first + i))
        length = _sentence(table, state, at, min(longest, len(room.tokens) - at), room, waiting, path)
        if length < 0:
            return i
        at += length
        ends[i] = at
    return len(ends)


@njit(cache=True, nogil=True)
def _sentence(
    table: RuleTable, state: np.uint64, at: int, limit: int, room: Room, waiting: np.ndarray, path: np.ndarray
) -> int:
    """Writes one sentence from place `at` on; gives its length, or −1 where that exceeds `limit`.

    The right side at hand is read from `child` to `stop`; its last symbol's last token is the last of
    `last_of + 1` ancestors. `waiting` holds these three numbers of the right sides around it that have
    symbols left, `path` the symbol read last at each level. A rule is found by a sum, not by branches, which
    no processor could predict.
    """
    terminals, first, threshold, begin, right = (
        table.terminals,
        table.first,
        table.threshold,
        table.begin,
        table.right,
    )
    tokens, boundaries, ancestors, depth = room.tokens, room.boundaries, room.ancestors, len(path)
    child, stop, last_of = len(right) - 1, len(right), -1
    sides, length, symbols = 0, 0, 1  # symbols: tokens written, and symbols that wait
    while length < symbols:
        if child == stop:
            sides -= 1
            child, stop, last_of = waiting[sides, 0], waiting[sides, 1], waiting[sides, 2]
        symbol = right[child]
        child += 1
        ended = last_of + 1 if child == stop else 0
        if symbol < terminals:
            tokens[at + length] = symbol
            boundaries[at + length] = min(ended, MOST_ENDED)
            for level in range(depth):
                ancestors[at + length, level] = path[level]
            length += 1
            continue
        if child < stop:
            waiting[sides, 0], waiting[sides, 1], waiting[sides, 2] = child, stop, last_of
            sides += 1
        symbol -= terminals
        if depth > 0:
            path[table.level[symbol] - 1] = symbol
        state += _GOLDEN
        draw, rule = _mix(state), first[symbol]
        for other in range(first[symbol], first[symbol + 1] - 1):
            rule += draw > threshold[other]
        child, stop, last_of = begin[rule], begin[rule + 1], ended
        symbols += stop - child - 1
        if symbols > limit:
            return -1
    return length


@njit(cache=True, nogil=True, forceinline=True)
def _mix(z: np.uint64) -> np.uint64:
    """The finaliser of SplitMix64, a bijection."""
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return z ^ (z >> np.uint64(31))
