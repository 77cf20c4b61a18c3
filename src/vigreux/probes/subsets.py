"""The subsets of the coordinates to probe: all subsets if feasible, otherwise a random sample."""

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
    """A monomial χ_A.

    Attributes:
        subset: A, in ascending order, from 0.
        where: `in` the support (the union of the features), `out` of it, or `mixed`.
        feature: index of the feature that contains A; `None` if there is none.
    """

    subset: tuple[int, ...]
    where: Where
    feature: int | None


@dataclass(frozen=True)
class _Unions:
    """All unions of `take` elements of `first` and `take_second` of `second`, both sorted and disjoint."""

    first: Sequence[int]
    take: int
    second: Sequence[int] = ()
    take_second: int = 0

    @property
    def count(self) -> int:
        return comb(len(self.first), self.take) * comb(len(self.second), self.take_second)

    def member(self, rank: int) -> tuple[int, ...]:
        first_rank, second_rank = divmod(rank, comb(len(self.second), self.take_second))
        first = _combination(self.first, self.take, first_rank)
        second = _combination(self.second, self.take_second, second_rank)
        return tuple(sorted(first + second))


def _combination(items: Sequence[int], take: int, rank: int) -> list[int]:
    """Number `rank` of `itertools.combinations(items, take)`, computed directly."""
    chosen: list[int] = []
    for index, item in enumerate(items):
        if len(chosen) == take:
            break
        with_item = comb(len(items) - index - 1, take - len(chosen) - 1)
        if rank < with_item:
            chosen.append(item)
        else:
            rank -= with_item
    return chosen


@dataclass(frozen=True)
class SubsetGroup:
    """The subsets of one size and one position relative to the support. At most `most` are probed."""

    degree: int
    where: Where
    unions: Sequence[_Unions]
    most: int

    @property
    def existing(self) -> int:
        """The number of subsets."""
        return sum(u.count for u in self.unions)

    def draw(self, generator: random.Random) -> Iterator[tuple[int, ...]]:
        """All subsets, or `most` of them, sampled without replacement."""
        ends = list(accumulate(u.count for u in self.unions))
        ranks: Iterable[int] = range(self.existing)
        if self.existing > self.most:
            drawn: set[int] = set()
            while len(drawn) < self.most:
                drawn.add(generator.randrange(self.existing))
            ranks = drawn
        for rank in ranks:
            index = bisect_right(ends, rank)
            yield self.unions[index].member(rank - (ends[index - 1] if index else 0))


def subset_groups(
    task: BooleanTask, *, degree: int, feature_degree: int | None, inside: int, outside: int
) -> list[SubsetGroup]:
    """Groups of subsets in order of degree: of all coordinates up to `degree`, then within a feature.

    Args:
        task: the task, for n and the features.
        degree: see `MonomialSettings`, also for the other arguments.
        feature_degree: largest degree within one feature.
        inside: maximum number of subsets of a degree above 1 inside the support.
        outside: the same for subsets outside and mixed subsets.
    """
    support = sorted({i for feature in task.features for i in feature})
    complement = sorted(set(range(task.n)) - set(support))
    groups = [
        SubsetGroup(1, "in", [_Unions(support, 1)], task.n),
        SubsetGroup(1, "out", [_Unions(complement, 1)], task.n),
    ]
    for d in range(2, degree + 1):
        mixed = [_Unions(support, j, complement, d - j) for j in range(1, d)]
        groups.append(SubsetGroup(d, "in", [_Unions(support, d)], inside))
        groups.append(SubsetGroup(d, "out", [_Unions(complement, d)], outside))
        groups.append(SubsetGroup(d, "mixed", mixed, outside))
    largest = max(map(len, task.features))
    for d in range(degree + 1, min(largest, feature_degree or largest) + 1):
        groups.append(
            SubsetGroup(d, "in", [_Unions(sorted(feature), d) for feature in task.features], inside)
        )
    return [group for group in groups if group.existing]


def choose_monomials(task: BooleanTask, groups: Sequence[SubsetGroup], seed: int) -> tuple[Monomial, ...]:
    """The monomials of each group in order. The full product of a feature is always included."""
    feature_of = {i: j for j, feature in enumerate(task.features) for i in feature}
    generator = random.Random(seed)
    chosen: list[Monomial] = []
    for group in groups:
        subsets = set(group.draw(generator))
        if group.where == "in":
            subsets |= {tuple(sorted(feature)) for feature in task.features if len(feature) == group.degree}
        for subset in sorted(subsets):
            features = {feature_of.get(i) for i in subset}
            chosen.append(Monomial(subset, group.where, features.pop() if len(features) == 1 else None))
    return tuple(chosen)
