"""An endless stream of sentences of a grammar: sentence i is a pure function of (grammar, seed, i).

As with `BitStream`, a block does not depend on where reading starts. So a resumed run continues exactly, and
the students of a comparison see the same sentences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vigreux.errors import DataError
from vigreux.kernels.derivations import Room, RuleTable, expand
from vigreux.tasks.synthetic.grammar import Grammar

LONGEST = 1 << 20  # the maximum tokens of a sentence: a recursive grammar has no longest sentence
_SPARE = 1.05  # buffers have this multiple of the expected tokens of one more sentence than requested


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
        self.grammar = grammar
        self.seed = seed
        self._table = _rule_table(grammar)

    def block(self, first: int, count: int, *, ancestors: bool = False) -> Sentences:
        """Sentences `first` to `first + count − 1`.

        Raises:
            DataError: a sentence has more than 2^20 tokens, which happens with recursive grammars.
        """
        columns = (self.grammar.depth or 0) if ancestors else 0
        ends = np.empty(count, np.int64)
        done = 0
        buffers = _buffers(int(_SPARE * (count + 1) * min(self.grammar.mean_length, LONGEST)) + 1, columns)
        while (
            done := expand(self._table, np.uint64(self.seed % 2**64), first, done, ends, buffers, LONGEST)
        ) < count:
            used = int(ends[done - 1]) if done > 0 else 0
            if len(buffers.tokens) - used >= LONGEST:
                raise DataError(self._too_long(first + done))
            buffers = _grown(buffers, used)
        used = int(ends[-1]) if count > 0 else 0
        token_ancestors = buffers.ancestors[:used] if columns > 0 else None
        return Sentences(buffers.tokens[:used], ends, buffers.boundaries[:used], token_ancestors)

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


# --- buffers ------------------------------------------------------------------------------------------------


def _buffers(tokens: int, columns: int) -> Room:
    return Room(np.empty(tokens, np.int32), np.empty(tokens, np.int8), np.empty((tokens, columns), np.int16))


def _grown(buffers: Room, used: int) -> Room:
    """Buffers of twice the size, with the first `used` tokens copied."""
    larger = _buffers(2 * len(buffers.tokens), buffers.ancestors.shape[1])
    for new, old in zip(larger, buffers):
        new[:used] = old[:used]
    return larger
