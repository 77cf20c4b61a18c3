"""Probabilistic context-free grammars in a text format that is checked when it is read.

    # cfg3b of Allen-Zhu & Li
    s -> r q  0.5
    s -> q p  0.5

There is one rule per line; `#` starts a comment. The first rule's left side is the start symbol. A symbol
that is never on the left is a terminal. A symbol's probabilities sum to 1. If none of its rules has a
probability, they are equally probable.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from vigreux.errors import DataError, unknown

_PUBLISHED = Path(__file__).parent / "grammars"
_FORMAT = "'left -> right …', with a probability at the end of the line or without"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_SYMBOL = re.compile(r"(?!->)[^\s\d|\[\]][^\s|\[\]]*")
_ROUNDED = 1e-6 + 1e-9  # tolerance for sums of probabilities: three times 0.333333 passes
_CRITICAL = 1 - 1e-9  # the expected length counts as infinite from this spectral radius on


@dataclass(frozen=True)
class Rule:
    """`left → right` with its probability among the rules of `left`."""

    left: str
    right: tuple[str, ...]
    probability: float

    def __str__(self) -> str:
        return f"{self.left} -> {' '.join(self.right)}"


@dataclass(frozen=True)
class Grammar:
    """A probabilistic context-free grammar. `read_grammar` and `load_grammar` return checked grammars.

    Args:
        name: the name of the file, for messages.
        start: the symbol that sentences are derived from.
        rules: in the file's order.
    """

    name: str
    start: str
    rules: tuple[Rule, ...]

    @cached_property
    def nonterminals(self) -> tuple[str, ...]:
        """The symbols on the left of a rule, sorted."""
        return tuple(sorted({rule.left for rule in self.rules}))

    @cached_property
    def terminals(self) -> tuple[str, ...]:
        """The symbols that are never on the left, sorted: the index of a terminal is its token id."""
        return tuple(
            sorted({symbol for rule in self.rules for symbol in rule.right} - set(self.nonterminals))
        )

    @property
    def symbols(self) -> tuple[str, ...]:
        """Terminals, then nonterminals."""
        return self.terminals + self.nonterminals

    @cached_property
    def alternatives(self) -> dict[str, tuple[Rule, ...]]:
        """Nonterminal → its rules, in the file's order."""
        return {left: tuple(rule for rule in self.rules if rule.left == left) for left in self.nonterminals}

    @cached_property
    def levels(self) -> dict[str, int] | None:
        """Symbol → level; `None` if the grammar is not graded.

        Terminals have level 0, and a symbol of level l produces only symbols of level l − 1.
        """
        if self._bottom_up is None:
            return None
        levels = dict.fromkeys(self.terminals, 0)
        for left in self._bottom_up:
            below = {levels[symbol] for symbol in self._produced[left]}
            if len(below) > 1:
                return None
            levels[left] = 1 + below.pop()
        return {symbol: levels[symbol] for symbol in self.symbols}

    @property
    def depth(self) -> int | None:
        """Level of the start symbol; `None` if the grammar is not graded."""
        return None if self.levels is None else self.levels[self.start]

    @cached_property
    def longest(self) -> int | None:
        """Tokens of the longest sentence; `None` for a recursive grammar, which has none."""
        if self._bottom_up is None:
            return None
        longest = dict.fromkeys(self.terminals, 1)
        for left in self._bottom_up:
            longest[left] = max(
                sum(longest[symbol] for symbol in rule.right) for rule in self.alternatives[left]
            )
        return longest[self.start]

    @cached_property
    def mean_length(self) -> float:
        """The expected number of tokens of a sentence: `ℓ = (I − M)⁻¹ t`.

        One step turns each nonterminal into M expected nonterminals and t expected terminals.
        """
        number = {left: i for i, left in enumerate(self.nonterminals)}
        terminals = np.zeros(len(number))  # t
        for rule in self.rules:
            terminals[number[rule.left]] += rule.probability * sum(
                symbol not in number for symbol in rule.right
            )
        M = _expectation(self.rules, self.nonterminals)
        return float(np.linalg.solve(np.eye(len(number)) - M, terminals)[number[self.start]])

    def rooted(self, start: str) -> Grammar:
        """The rules that another start symbol can reach: `cfg3b` from `m` has depth 4.

        Token ids are those of the remaining terminals.

        Raises:
            DataError: `start` is not a nonterminal.
        """
        if start == self.start:
            return self
        if start not in self.nonterminals:
            raise DataError(unknown(f"start symbol of {self.name}", start, self.nonterminals))
        reached = _reached(start, self._produced)
        rules = tuple(rule for rule in self.rules if rule.left in reached)
        return Grammar(f"{self.name}:{start}", start, rules)

    @cached_property
    def _produced(self) -> dict[str, set[str]]:
        return _produced(self.rules)

    @cached_property
    def _bottom_up(self) -> tuple[str, ...] | None:
        """Nonterminals, each after those that its rules produce; `None` if one of them produces itself."""
        try:
            order = tuple(TopologicalSorter(self._produced).static_order())
        except CycleError:
            return None
        return tuple(symbol for symbol in order if symbol in self._produced)


def published() -> list[str]:
    """The names of the grammars that come with the library.

    They are those of Allen-Zhu & Li, "Physics of language models, part 1".
    """
    return sorted(path.stem for path in _PUBLISHED.glob("*.grammar"))


def load_grammar(name_or_path: str | Path) -> Grammar:
    """A published grammar by its name, or one of the user's by the path of its file.

    Raises:
        DataError: no such name or file, not UTF-8, or what `read_grammar` refuses.
    """
    if str(name_or_path) in published():
        return read_grammar(
            (_PUBLISHED / f"{name_or_path}.grammar").read_text("utf-8"), f"{name_or_path}.grammar"
        )
    path = Path(name_or_path).expanduser()
    if not path.exists():
        raise DataError(unknown("grammar", name_or_path, published()) + ", or the path of a file")
    try:
        return read_grammar(path.read_text("utf-8-sig"), str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte 0x{error.object[error.start]:02x} is not UTF-8; accepted: UTF-8"
        ) from None


def read_grammar(text: str, where: str) -> Grammar:
    """The grammar that `text` describes in the format above.

    Args:
        text: the contents of the file.
        where: the file's path, for the grammar's name and for messages.

    Raises:
        DataError: file, line and rule of the first of these: a line that is no rule, a rule given twice, a
            probability that is not positive, probabilities that do not sum to 1 (within 1e-6), a symbol that
            the start symbol does not reach or that derives no sentence, an infinite expected length.
    """
    lines = list(_lines(text, where))
    if not lines:
        raise DataError(f"{where}: no rules; accepted: a rule a line, {_FORMAT}")
    _check_duplicates(lines)
    rules = tuple(Rule(line.left, line.right, p) for line, p in zip(lines, _probabilities(lines)))
    _check_reached(lines, rules)
    _check_productive(lines, rules)
    _check_finite(lines, rules)
    return Grammar(Path(where).stem, lines[0].left, rules)


# --- lines --------------------------------------------------------------------------------------------------


class _Line(NamedTuple):
    """A rule as it stands in the file; `probability` is `None` where none is given."""

    where: str
    text: str
    left: str
    right: tuple[str, ...]
    probability: float | None

    def refuse(self, reason: str) -> NoReturn:
        raise DataError(f"{self.where}: rule '{self.text}': {reason}")


def _lines(text: str, where: str) -> Iterator[_Line]:
    for number, line in enumerate(text.splitlines(), start=1):
        if fields := line.partition("#")[0].split():
            yield _line(fields, f"{where}:{number}")


def _line(fields: list[str], where: str) -> _Line:
    left, arrow, right = fields[0], fields[1:2], fields[2:]
    probability = float(right.pop()) if right and _NUMBER.fullmatch(right[-1]) else None
    line = _Line(where, " ".join(fields), left, tuple(right), probability)
    if arrow != ["->"]:
        line.refuse(f"no '->' after the first symbol; accepted: {_FORMAT}")
    if not right:
        line.refuse("nothing on the right; accepted: at least one symbol")
    for symbol in (left, *right):
        if not _SYMBOL.fullmatch(symbol):
            line.refuse(
                f"{symbol!r} is not a symbol; accepted: no digit at the start, none of # | [ ] and no '->';"
                " one rule a line"
            )
    if probability is not None and not 0 < probability <= 1:
        line.refuse(f"probability {probability:g}; accepted: above 0, at most 1")
    return line


def _check_duplicates(lines: Iterable[_Line]) -> None:
    first_lines: dict[tuple[str, tuple[str, ...]], _Line] = {}
    for line in lines:
        first = first_lines.setdefault((line.left, line.right), line)
        if first is not line:
            line.refuse(f"given before at {first.where}; accepted: each rule once")


def _probabilities(lines: Iterable[_Line]) -> list[float]:
    """The probability of each line; those of a symbol sum to 1."""
    groups: dict[str, list[_Line]] = {}
    for line in lines:
        groups.setdefault(line.left, []).append(line)
    totals = {left: _total(group) for left, group in groups.items()}
    return [(1.0 if line.probability is None else line.probability) / totals[line.left] for line in lines]


def _total(group: list[_Line]) -> float:
    """The sum of the weights of one symbol's rules.

    It is 1 up to rounding, or the number of rules if none has a probability.
    """
    probabilities = [line.probability for line in group if line.probability is not None]
    if not probabilities:
        return float(len(group))
    left = group[0].left
    total = math.fsum(probabilities)
    for line in group:
        if line.probability is None:
            line.refuse(
                f"no probability, but other rules of '{left}' have one; accepted: on all of them, or on none"
                " (uniform)"
            )
    if abs(total - 1) > _ROUNDED:
        group[0].refuse(
            f"the probabilities of '{left}' sum to {total:.7g}; accepted: 1, or no probabilities (uniform)"
        )
    return total


# --- rules --------------------------------------------------------------------------------------------------


def _check_reached(lines: list[_Line], rules: Iterable[Rule]) -> None:
    reached = _reached(lines[0].left, _produced(rules))
    for line in lines:
        if line.left not in reached:
            line.refuse(
                f"'{line.left}' cannot be reached from the start symbol '{lines[0].left}'; accepted: only"
                " symbols that can"
            )


def _check_productive(lines: Iterable[_Line], rules: Iterable[Rule]) -> None:
    """A symbol is productive if one of its rules produces only terminals and productive symbols."""
    open_rules = list(rules)
    productive = _terminals_of(rules)
    while ready := {rule.left for rule in open_rules if productive.issuperset(rule.right)}:
        productive |= ready
        open_rules = [rule for rule in open_rules if rule.left not in productive]
    for line in lines:
        if line.left not in productive:
            line.refuse(
                f"'{line.left}' derives no finite sentence; accepted: some rule of it has to lead to"
                " terminals alone"
            )


def _check_finite(lines: Iterable[_Line], rules: tuple[Rule, ...]) -> None:
    """Checks that each class of symbols that produce each other has a spectral radius below 1.

    Then the expected length is finite.
    """
    produced = _produced(rules)
    reached = {left: _reached(left, produced) for left in produced}
    done: set[str] = set()
    for line in lines:
        if line.left in done:
            continue
        mutual = [
            symbol for symbol in produced if symbol in reached[line.left] and line.left in reached[symbol]
        ]
        done.update(mutual)
        radius = max(abs(np.linalg.eigvals(_expectation(rules, mutual))))
        if radius >= _CRITICAL:
            line.refuse(
                f"the expected length of what '{line.left}' derives is infinite (recursion multiplies symbols"
                f" by {radius:.3g} a step); accepted: below 1, by more probable rules that end the recursion"
            )


def _expectation(rules: Iterable[Rule], symbols: Iterable[str]) -> np.ndarray:
    """(n, n): the expected number of each of `symbols` that one step makes of each of them."""
    number = {symbol: i for i, symbol in enumerate(symbols)}
    M = np.zeros((len(number), len(number)))
    for rule in rules:
        for symbol in rule.right:
            if rule.left in number and symbol in number:
                M[number[rule.left], number[symbol]] += rule.probability
    return M


def _produced(rules: Iterable[Rule]) -> dict[str, set[str]]:
    """Nonterminal → the symbols on the right of its rules."""
    produced: dict[str, set[str]] = {}
    for rule in rules:
        produced.setdefault(rule.left, set()).update(rule.right)
    return produced


def _terminals_of(rules: Iterable[Rule]) -> set[str]:
    produced = _produced(rules)
    return set().union(*produced.values()) - set(produced)


def _reached(start: str, produced: Mapping[str, set[str]]) -> set[str]:
    """`start`, and all symbols in derivations from it."""
    reached = {start}
    open_symbols = [start]
    while open_symbols:
        new = produced.get(open_symbols.pop(), set()) - reached
        reached |= new
        open_symbols.extend(new)
    return reached
