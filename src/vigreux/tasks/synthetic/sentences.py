"""An endless stream of sentences of a grammar: sentence i is a pure function of (grammar, seed, i).

As with `BitStream`, a block is the same as that part of the stream read from its start. So a resumed run
continues exactly, and the students of a comparison see the same sentences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vigreux.errors import DataError
from vigreux.kernels.derivations import Room, RuleTable, expand
from vigreux.tasks.synthetic.grammar import Grammar

LONGEST = 1 << 20  # the most tokens of a sentence: a recursive grammar has no longest one
_SPARE = 1.05  # buffers hold this multiple of the expected tokens of one more sentence than asked


@dataclass(frozen=True)
class Sentences:
    """Sentences and their derivations.

    Args:
        tokens: (total,) int32 token ids, all sentences one after another; id i is the grammar's i-th
            terminal.
        ends: (n,) int64, the index behind each sentence.
        boundaries: (total,) int8, the boundary level of each token: the number of consecutive ancestors whose
            last token it is, counted from its parent up (at most 127). In a graded grammar that is the
            largest l such that it ends its ancestor at every level 1 … l.
        ancestors: (total, depth) int16, column l − 1 has the token's ancestor of level l, as an index into
            `Grammar.nonterminals`; `None` if they were not asked for, or the grammar is not graded.
    """

    tokens: np.ndarray
    ends: np.ndarray
    boundaries: np.ndarray
    ancestors: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ends)

    def span(self, index: int) -> slice:
        """The slice of `tokens`, `boundaries` and `ancestors` that holds sentence `index`."""
        return slice(int(self.ends[index - 1]) if index > 0 else 0, int(self.ends[index]))

    def sentence(self, index: int) -> np.ndarray:
        """(length,) int32 token ids, a view."""
        return self.tokens[self.span(index)]


class SentenceSampler:
    """Independent sentences of a grammar.

    Args:
        grammar: checked, from `load_grammar` or `read_grammar`.
        seed: the seed of the stream.
    """

    def __init__(self, grammar: Grammar, seed: int) -> None:
        self.grammar, self.seed = grammar, seed
        self._table = _rule_table(grammar)

    def block(self, first: int, count: int, *, ancestors: bool = False) -> Sentences:
        """Sentences `first` to `first + count − 1`.

        Raises:
            DataError: a sentence has more than 2^20 tokens, which happens with recursive grammars.
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
        token_ancestors = room.ancestors[:used] if columns > 0 else None
        return Sentences(room.tokens[:used], ends, room.boundaries[:used], token_ancestors)

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
