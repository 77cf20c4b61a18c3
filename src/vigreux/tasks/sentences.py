"""Sentences of a grammar with what is known of each token: its ancestors, and which of them it ends. No parse is needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vigreux.errors import DataError
from vigreux.kernels.derivations import Tables, derive
from vigreux.tasks.grammar import Grammar

LONGEST = 1_000_000  # tokens of a sentence; beyond, a recursive grammar has run away


@dataclass(frozen=True)
class Sentences:
    """Sentences in one flat array.

    Args:
        tokens: (total,) int32 numbers of terminals, in the order of `Grammar.terminals`.
        ends: (n,) int64, where each sentence ends.
        boundaries: (total,) int8 level of the boundary at a token: the largest l such that it is the last token of its ancestors at
            levels 1 … l, 0 where it is the last token of none.
        ancestors: (total, depth) int16, for each token its ancestor at levels 1 … depth, as a place in `Grammar.nonterminals`;
            `None` where they were not asked for or the grammar has no levels.
    """

    tokens: np.ndarray
    ends: np.ndarray
    boundaries: np.ndarray
    ancestors: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ends)

    def span(self, index: int) -> slice:
        """The tokens of a sentence."""
        return slice(int(self.ends[index - 1]) if index else 0, int(self.ends[index]))


class SentenceSampler:
    """Sentence i of a stream is a pure function of (grammar, seed, i).

    Args:
        grammar: the rules.
        seed: of the stream, 0 to 2^63 − 1.
    """

    def __init__(self, grammar: Grammar, seed: int) -> None:
        self.grammar, self.seed, self.tables = grammar, seed, tables_of(grammar)
        self._mean = 64.0  # tokens a sentence, as seen so far

    def block(self, first: int, count: int, *, ancestors: bool = False) -> Sentences:
        """Sentences `first` to `first + count − 1`.

        Raises:
            DataError: a sentence of more than `LONGEST` tokens.
        """
        depth = (self.grammar.depth or 0) if ancestors else 0
        parts, done, capacity = [], 0, int(1.2 * self._mean * count) + 256
        while done < count:
            room = _Room(capacity, count - done, depth)
            fitted = derive(self.tables, self.seed, first + done, count - done, *room.arrays)
            if fitted == 0 and capacity > LONGEST:
                raise DataError(f"{self.grammar.name}: sentence {first + done} has more than {LONGEST} tokens")
            capacity = 2 * capacity if fitted == 0 else capacity
            parts += [room.cut(fitted)] if fitted else []
            done += fitted
        found = _joined(parts)
        self._mean = max(1.0, len(found.tokens) / count)
        return found


class _Room:
    """Where `derive` writes."""

    def __init__(self, capacity: int, count: int, depth: int) -> None:
        tokens, ends, boundaries = np.empty(capacity, np.int32), np.empty(count, np.int64), np.empty(capacity, np.int8)
        self.arrays = tokens, ends, boundaries, np.empty((depth, capacity), np.int16)

    def cut(self, sentences: int) -> Sentences:
        """What has been written of so many sentences."""
        tokens, ends, boundaries, ancestors = self.arrays
        ends = ends[:sentences]
        own = ancestors[:, : ends[-1]].T if len(ancestors) else None
        return Sentences(tokens[: ends[-1]], ends, boundaries[: ends[-1]], own)


def _joined(parts: list[Sentences]) -> Sentences:
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(len(part.tokens) for part in parts)])
    ancestors = [part.ancestors for part in parts if part.ancestors is not None]
    return Sentences(
        np.concatenate([part.tokens for part in parts]),
        np.concatenate([part.ends + start for part, start in zip(parts, starts)]),
        np.concatenate([part.boundaries for part in parts]),
        np.concatenate(ancestors) if ancestors else None,
    )


def tables_of(grammar: Grammar) -> Tables:
    """The grammar in numbers."""
    symbols = (*grammar.terminals, *grammar.nonterminals)
    number = {symbol: i for i, symbol in enumerate(symbols)}
    rules = [grammar.alternatives.get(symbol, ()) for symbol in symbols]
    flat = [rule for own in rules for rule in own]
    levels = grammar.levels or dict.fromkeys(symbols, 0)
    return Tables(
        terminals=len(grammar.terminals),
        first_rule=np.cumsum([0, *map(len, rules)]),
        threshold=np.concatenate([_thresholds([rule.probability for rule in own]) for own in rules if own]),
        begins=np.cumsum([0, *(len(rule.right) for rule in flat)]),
        right=np.array([number[symbol] for rule in flat for symbol in rule.right]),
        flat=np.array([all(symbol in grammar.terminals for symbol in rule.right) for rule in flat]),
        level=np.array([levels[symbol] for symbol in symbols]),
        start=number[grammar.start],
    )


def _thresholds(probabilities: list[float]) -> np.ndarray:
    """(rules,) uint64: cumulative probabilities in units of 2^−64; the last is the largest number, which every draw meets."""
    shares = np.cumsum(probabilities)[:-1]
    return np.array([*(min(int(share * 2.0**64), 2**64 - 1) for share in shares), 2**64 - 1], dtype=np.uint64)
