"""Sentences of a probabilistic context-free grammar: a pure function of (seed, index).

Draw d of a sentence is the d-th output of SplitMix64 (Steele, Lea & Flood 2014). Its initial state is hashed
from (seed, index), so sentences share no generator. Symbols are expanded depth first, leftmost first, and the
d-th expansion uses draw d. A stack holds the pending symbols, so recursive grammars work too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

MOST_ENDED = 127  # the largest boundary level that an int8 holds; higher levels are recorded as this one
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class RuleTable(NamedTuple):
    """A grammar of T terminals (0 to T − 1), N nonterminals (T to T + N − 1) and R rules.

    Rules are sorted by their left sides.

    Args:
        terminals: T.
        first: (N + 1,) int64, the first rule of each nonterminal. Its rules end where the next one's begin.
        threshold: (R,) uint64, 2^64 times the cumulative probability of a nonterminal's rules up to this one.
            A draw selects the first rule whose threshold it does not exceed. If it exceeds the thresholds of
            all other rules, it selects the last rule.
        begin: (R + 1,) int64, where a rule's right side begins. It ends where the next one begins.
        right: (…,) int32, the concatenated right sides, followed by the start symbol.
        level: (N,) int64, the level of a nonterminal in a graded grammar, from 1 to depth; otherwise unused.
    """

    terminals: int
    first: np.ndarray
    threshold: np.ndarray
    begin: np.ndarray
    right: np.ndarray
    level: np.ndarray


class Room(NamedTuple):
    """The buffers that sentences are written to, one after another.

    Args:
        tokens: (room,) int32 token ids.
        boundaries: (room,) int8, the number of consecutive ancestors, from the parent up, that a token ends.
        ancestors: (room, depth) int16, a token's ancestors at levels 1 to depth, with nonterminals counted
            from 0. With shape (room, 0) no ancestors are written.
    """

    tokens: np.ndarray
    boundaries: np.ndarray
    ancestors: np.ndarray


@njit(cache=True, nogil=True)
def expand(
    table: RuleTable, seed: np.uint64, first: int, done: int, ends: np.ndarray, room: Room, longest: int
) -> int:
    """Appends sentences `first + done`, … to the `done` sentences in `room`, until it holds len(ends).

    Args:
        table: the grammar.
        seed: seed of the stream.
        first: index of the first sentence in `room`.
        done: number of sentences already in `room`.
        ends: (count,) int64, where each sentence ends. The entries from `done` on are written.
        room: the buffers; written.
        longest: maximum number of tokens in a sentence.

    Returns:
        The number of sentences in `room`. It is below `count` if the next sentence is longer than `longest`
        or does not fit into `room`.
    """
    at = ends[done - 1] if done > 0 else 0
    stream = _mix(seed)
    # a pending right side holds at least one symbol, which becomes at least one token
    waiting = np.empty((longest, 3), np.int64)
    path = np.zeros(room.ancestors.shape[1], np.int16)
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
    """Writes one sentence from index `at` on. Returns its length, or −1 if it is longer than `limit`.

    The current right side is read from `child` to `stop`. The last token of its last symbol ends
    `last_of + 1` ancestors. `waiting` holds these three numbers for the enclosing right sides that have
    symbols left. `path` holds the last symbol read at each level. A sum selects the rule, because processors
    cannot predict branches on random draws.
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
    sides, length, symbols = 0, 0, 1  # symbols: tokens written plus symbols pending
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
