"""Whether a grammar derives a sentence: the textbook chart, for rules of any length (Cocke, Younger, Kasami)."""

from functools import cache


def derives(grammar, sentence) -> bool:
    """`sentence` is a sequence of terminals. Rules without cycles of single symbols are assumed."""
    rules = {}
    for rule in grammar.rules:
        rules.setdefault(rule.left, []).append(rule.right)

    @cache
    def symbol(name, begin, end):
        if name not in rules:
            return end == begin + 1 and sentence[begin] == name
        return any(sequence(right, begin, end) for right in rules[name])

    @cache
    def sequence(right, begin, end):
        if len(right) == 1:
            return symbol(right[0], begin, end)
        if end - begin < len(right):
            return False
        return any(symbol(right[0], begin, cut) and sequence(right[1:], cut, end) for cut in range(begin + 1, end))

    return symbol(grammar.start, 0, len(sentence))
