"""An endless stream of sentences of a grammar: sentence i is a pure function of (grammar, seed, i).

As with `BitStream`, a block from any place is the same as the stream read from its start: a resume goes on
    exactly, and every
student of a comparison sees the same sentences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vigreux.errors import DataError
from vigreux.kernels.derivations import Room, RuleTable, expand
from vigreux.tasks.generated.grammar import Grammar

LONGEST = 1 << 20  # tokens of a sentence: a recursive grammar has no longest one
_SPARE = 1.05  # room for so many times the expected tokens, and one sentence more


@dataclass(frozen=True)
class Sentences:
    """Sentences with what is known of their derivations.

    Args:
        tokens: (total,) int32 token ids, all sentences one after another; id i is the grammar's i-th
            terminal.
        ends: (n,) int64, where each sentence ends.
        boundaries: (total,) int8, the boundary level of each token: of how many consecutive ancestors it is
            the last token, counted from its parent up (at most 127). In a graded grammar that is the largest
            l such that it ends its ancestor at every level 1 … l.
        ancestors: (total, depth) int16, column l − 1 has the token's ancestor of level l, as a place in
            `Grammar.nonterminals`; `None` where they were not asked for, or the grammar is not graded.
    """

    tokens: np.ndarray
    ends: np.ndarray
    boundaries: np.ndarray
    ancestors: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ends)

    def span(self, index: int) -> slice:
        """Where sentence `index` stands in `tokens`, `boundaries` and `ancestors`."""
        return slice(int(self.ends[index - 1]) if index > 0 else 0, int(self.ends[index]))

    def sentence(self, index: int) -> np.ndarray:
        """(length,) int32 token ids, a view."""
        return self.tokens[self.span(index)]


class SentenceSampler:
    """Sentences of a grammar, each independent of the others.

    Args:
        grammar: checked, from `load_grammar` or `read_grammar`.
        seed: of the stream.
    """

    def __init__(self, grammar: Grammar, seed: int) -> None:
        self.grammar, self.seed = grammar, seed
        self._table = _rule_table(grammar)

    def block(self, first: int, count: int, *, ancestors: bool = False) -> Sentences:
        """Sentences `first` to `first + count − 1`.

        Raises:
            DataError: one of them has more than 2^20 tokens, which only a recursive grammar is likely to
                give.
        """
        columns = (self.grammar.depth or 0) if ancestors else 0
        ends, done = np.empty(count, np.int64), 0
        room = _room(int(_SPARE * (count + 1) * min(self.grammar.mean_length, LONGEST)) + 1, columns)
        while (
            done := expand(self._table, np.uint64(self.seed % 2**64), first, done, ends, room, LONGEST)
        ) < count:
            used = int(ends[done - 1]) if done > 0 else 0
            if len(room.tokens) - used >= LONGEST:
                raise DataError(self._too_long(first + done))
            room = _grown(room, used)
        used = int(ends[-1]) if count > 0 else 0
        found = room.ancestors[:used] if columns > 0 else None
        return Sentences(room.tokens[:used], ends, room.boundaries[:used], found)

    def _too_long(self, index: int) -> str:
        return (
            f"grammar {self.grammar.name}: sentence {index} has more than {LONGEST:,} tokens, the mean is "
            f"{self.grammar.mean_length:,.1f}; accepted: rules that end the recursion sooner"
        )


# --- the grammar as arrays ----------------------------------------------------------------------------------


def _rule_table(grammar: Grammar) -> RuleTable:
    number = {symbol: i for i, symbol in enumerate(grammar.symbols)}
    alternatives = [grammar.alternatives[left] for left in grammar.nonterminals]
    rights = [[number[symbol] for symbol in rule.right] for rules in alternatives for rule in rules]
    levels = grammar.levels or dict.fromkeys(grammar.nonterminals, 0)
    return RuleTable(
        terminals=len(grammar.terminals),
        first=np.cumsum([0, *map(len, alternatives)]),
        threshold=np.concatenate(
            [_thresholds([rule.probability for rule in rules]) for rules in alternatives]
        ),
        begin=np.cumsum([0, *map(len, rights)]),
        right=np.array([*(symbol for right in rights for symbol in right), number[grammar.start]], np.int32),
        level=np.array([levels[symbol] for symbol in grammar.nonterminals]),
    )


def _thresholds(probabilities: list[float]) -> np.ndarray:
    """(rules,) uint64, see `RuleTable.threshold`; sums may round to 2^64, which does not fit."""
    return np.array(
        [min(int(share * 2.0**64), 2**64 - 1) for share in np.cumsum(probabilities)], dtype=np.uint64
    )


# --- room ---------------------------------------------------------------------------------------------------


def _room(tokens: int, columns: int) -> Room:
    return Room(np.empty(tokens, np.int32), np.empty(tokens, np.int8), np.empty((tokens, columns), np.int16))


def _grown(room: Room, used: int) -> Room:
    """Twice the room, with what is written of it so far."""
    larger = _room(2 * len(room.tokens), room.ancestors.shape[1])
    for new, old in zip(larger, room):
        new[:used] = old[:used]
    return larger
