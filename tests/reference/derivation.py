"""Sentences by recursion: the tree of sentence `index` of stream `seed`, and what each of its tokens is, read
off the tree.

A tree is (symbol, children); a terminal has none.
"""

from fractions import Fraction
from itertools import accumulate

GOLDEN = 0x9E3779B97F4A7C15
WORD = 2**64


def mix(z):
    """SplitMix64's finaliser."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def draws(seed, index):
    """Fractions in [0, 1)."""
    state = mix((mix(seed) + GOLDEN * index) % WORD)
    while True:
        state = (state + GOLDEN) % WORD
        yield Fraction(mix(state), WORD)


def tree(grammar, seed, index):
    return expand(grammar, grammar.start, draws(seed, index))


def expand(grammar, symbol, draw):
    rules = [rule for rule in grammar.rules if rule.left == symbol]
    if not rules:
        return symbol, []
    u = next(draw)
    sums = accumulate(Fraction(rule.probability) for rule in rules)
    rule = next((rule for rule, total in zip(rules, sums) if u < total), rules[-1])
    return symbol, [expand(grammar, child, draw) for child in rule.right]


def paths(node):
    """Of each token: the nodes from the root down to it, as (symbol, whether it is its parent's
    last child).
    """

    def below(node, last, path):
        symbol, children = node
        path = [*path, (symbol, last)]
        if not children:
            return [path]
        return [
            found for i, child in enumerate(children) for found in below(child, i == len(children) - 1, path)
        ]

    return below(node, False, [])


def tokens(node):
    return [path[-1][0] for path in paths(node)]


def ancestors(node):
    """Of each token its ancestors, parent first."""
    return [[symbol for symbol, _ in path[-2::-1]] for path in paths(node)]


def boundaries(node):
    """Of each token, of how many consecutive ancestors it is the last token, counted from its parent."""
    found = []
    for path in paths(node):
        level = 0
        while level < len(path) - 1 and path[-1 - level][1]:
            level += 1
        found.append(level)
    return found
