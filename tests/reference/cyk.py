"""Whether a grammar derives a sentence: Cocke, Younger & Kasami's chart, for rules of any length and unit
rules too.
"""


def derives(grammar, sentence):
    """Whether `sentence`, a sequence of terminals, is in the language; probabilities play no part."""
    binary, unary = binarised([(rule.left, rule.right) for rule in grammar.rules])
    n = len(sentence)
    chart = {}  # (i, j) → symbols that derive sentence[i:j]
    stops = {}  # (X, i) → bit j is set where X derives sentence[i:j]
    starts = {}  # (X, j) → bit i is set where X derives sentence[i:j]
    for width in range(1, n + 1):
        for i in range(n - width + 1):
            j = i + width
            # a bit in both is a place where the span can be cut
            found = {left for left, a, b in binary if stops.get((a, i), 0) & starts.get((b, j), 0)}
            if width == 1:
                found.add(sentence[i])
            chart[i, j] = closed(found, unary)
            for symbol in chart[i, j]:
                stops[symbol, i] = stops.get((symbol, i), 0) | 1 << j
                starts[symbol, j] = starts.get((symbol, j), 0) | 1 << i
    return n > 0 and grammar.start in chart[0, n]


def binarised(rules):
    """Rules of two symbols and rules of one; `A → B C D` becomes `A → B (C, D)` and `(C, D) → C D`."""
    binary, unary = set(), set()
    for left, right in rules:
        while len(right) > 2:
            rest = right[1:]
            binary.add((left, right[0], rest))
            left, right = rest, rest
        if len(right) == 2:
            binary.add((left, *right))
        else:
            unary.add((left, *right))
    return sorted(binary, key=str), unary


def closed(found, unary):
    """`found`, and what unit rules make of it."""
    new = found
    while new:
        new = {left for left, right in unary if right in new} - found
        found = found | new
    return found
