"""Which subsets of the coordinates are probed: all where that is feasible, otherwise a random sample."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import comb
from typing import Literal

from vigreux.tasks.synthetic.parity import BooleanTask

Where = Literal["in", "out", "mixed"]


@dataclass(frozen=True)
class Monomial:
    """χ_A.

    Attributes:
        subset: A, rising, from 0.
        where: `in` the support (the union of the features), `out` of it, or `mixed`.
        feature: index of the feature that contains A; `None` where none does.
    """

    subset: tuple[int, ...]
    where: Where
    feature: int | None


@dataclass(frozen=True)
class _Unions:
    """All unions of `take` elements of `first` and `take_second` of `second`, both rising and disjoint."""

    first: Sequence[int]
    take: int
    second: Sequence[int] = ()
    take_second: int = 0

    @property
    def count(self) -> int:
        return comb(len(self.first), self.take) * comb(len(self.second), self.take_second)

    def member(self, rank: int) -> tuple[int, ...]:
        one, two = divmod(rank, comb(len(self.second), self.take_second))
        return tuple(
            sorted(
                _combination(self.first, self.take, one) + _combination(self.second, self.take_second, two)
            )
        )


def _combination(items: Sequence[int], take: int, rank: int) -> list[int]:
    """Number `rank` of `itertools.combinations(items, take)`, without those before it."""
    chosen: list[int] = []
    for place, item in enumerate(items):
        if len(chosen) == take:
            break
        with_item = comb(len(items) - place - 1, take - len(chosen) - 1)
        if rank < with_item:
            chosen.append(item)
        else:
            rank -= with_item
    return chosen


@dataclass(frozen=True)
class Place:
    """The subsets of one size and place, of which at most `most` are probed."""

    degree: int
    where: Where
    unions: Sequence[_Unions]
    most: int

    @property
    def existing(self) -> int:
        """How many there are."""
        return sum(u.count for u in self.unions)

    def draw(self, draw: random.Random) -> Iterator[tuple[int, ...]]:
        """All subsets, or `most` of them, drawn without replacement."""
        ends = list(accumulate(u.count for u in self.unions))
        ranks: Iterable[int] = range(self.existing)
        if self.existing > self.most:
            drawn: set[int] = set()
            while len(drawn) < self.most:
                drawn.add(draw.randrange(self.existing))
            ranks = drawn
        for rank in ranks:
            which = bisect_right(ends, rank)
            yield self.unions[which].member(rank - (ends[which - 1] if which else 0))


def places(
    task: BooleanTask, *, degree: int, feature_degree: int | None, inside: int, outside: int
) -> list[Place]:
    """Groups of subsets by rising degree: up to `degree` of all coordinates, beyond it within a feature.

    Args:
        task: n and features.
        degree: see `MonomialSettings`, as the next three.
        feature_degree: within one feature.
        inside: most subsets of a degree above 1.
        outside: the same.
    """
    support = sorted({i for feature in task.features for i in feature})
    rest = sorted(set(range(task.n)) - set(support))
    found = [Place(1, "in", [_Unions(support, 1)], task.n), Place(1, "out", [_Unions(rest, 1)], task.n)]
    for d in range(2, degree + 1):
        across = [_Unions(support, j, rest, d - j) for j in range(1, d)]
        found.append(Place(d, "in", [_Unions(support, d)], inside))
        found.append(Place(d, "out", [_Unions(rest, d)], outside))
        found.append(Place(d, "mixed", across, outside))
    largest = max(map(len, task.features))
    for d in range(degree + 1, min(largest, feature_degree or largest) + 1):
        found.append(Place(d, "in", [_Unions(sorted(feature), d) for feature in task.features], inside))
    return [place for place in found if place.existing]


def choose_monomials(task: BooleanTask, among: Sequence[Place], seed: int) -> tuple[Monomial, ...]:
    """The monomials of each place in turn. A feature's whole product is never left to the draw."""
    feature_of = {i: j for j, feature in enumerate(task.features) for i in feature}
    draw = random.Random(seed)
    chosen: list[Monomial] = []
    for place in among:
        subsets = set(place.draw(draw))
        if place.where == "in":
            subsets |= {tuple(sorted(feature)) for feature in task.features if len(feature) == place.degree}
        for subset in sorted(subsets):
            within = {feature_of.get(i) for i in subset}
            chosen.append(Monomial(subset, place.where, within.pop() if len(within) == 1 else None))
    return tuple(chosen)
