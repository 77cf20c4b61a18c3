"""Sampling sentences of a grammar, in tokens per second: Vigreux, a recursive function in Python, and nltk.

    python benchmarks/pcfg.py                  # table
    python benchmarks/pcfg.py --json           # one line a case
    python benchmarks/pcfg.py --save results/pcfg.json

All contenders sample cfg3b from its start symbol on one thread. The recursive function expands a symbol by a
rule drawn with its probability, and then expands each symbol of that rule. It runs on plain dicts and, where
nltk is installed, on nltk's rules. Boundaries are always written; "with ancestors" also writes each token's
ancestor at every level. The best of several rounds counts.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

from vigreux.tasks.synthetic.grammar import Grammar, load_grammar
from vigreux.tasks.synthetic.sentences import SentenceSampler

CONTENDERS = ("vigreux", "recursive", "nltk")
ROUNDS = 5
BLOCK = 256  # sentences at a time, as a task draws them


def vigreux(grammar: Grammar, *, ancestors: bool) -> Callable[[int], int]:
    """A function that samples `count` sentences and returns the number of their tokens."""
    sampler = SentenceSampler(grammar, 0)
    return lambda count: sum(
        len(sampler.block(i, BLOCK, ancestors=ancestors).tokens) for i in range(0, count, BLOCK)
    )


def recursive(grammar: Grammar) -> Callable[[int], int]:
    """The textbook function, on plain dicts."""
    rules = {symbol: [rule.right for rule in choices] for symbol, choices in grammar.alternatives.items()}
    weights = {
        symbol: [rule.probability for rule in choices] for symbol, choices in grammar.alternatives.items()
    }

    def expand(symbol: str) -> list[str]:
        if symbol not in rules:
            return [symbol]
        right = random.choices(rules[symbol], weights[symbol])[0]
        return [token for child in right for token in expand(child)]

    return lambda count: sum(len(expand(grammar.start)) for _ in range(count))


def nltk_recursive(grammar: Grammar) -> Callable[[int], int] | None:
    """The same function on nltk's own rules; `None` where nltk is not installed."""
    try:
        from nltk import PCFG, Nonterminal
    except ImportError:
        return None
    lines = []
    for rule in grammar.rules:
        right = " ".join(s if s in grammar.nonterminals else repr(s) for s in rule.right)
        lines.append(f"{rule.left} -> {right} [{rule.probability}]")
    parsed = PCFG.fromstring("\n".join(lines))

    def expand(symbol: object) -> list[str]:
        if not isinstance(symbol, Nonterminal):
            return [str(symbol)]
        rules = parsed.productions(lhs=symbol)
        rule = random.choices(rules, [rule.prob() for rule in rules])[0]
        return [token for child in rule.rhs() for token in expand(child)]

    return lambda count: sum(len(expand(parsed.start())) for _ in range(count))


def rate(sample: Callable[[int], int] | None, count: int) -> float | None:
    """Tokens per second in the best of `ROUNDS` rounds of `count` sentences."""
    if sample is None:
        return None
    sample(2)  # the first call compiles the kernel
    best = 0.0
    for _ in range(ROUNDS):
        began = time.perf_counter()
        tokens = sample(count)
        best = max(best, tokens / (time.perf_counter() - began))
    return round(best)


def cases() -> list[dict]:
    """One record with ancestors and one without."""
    grammar = load_grammar("cfg3b")
    slow = {"recursive": rate(recursive(grammar), 50), "nltk": rate(nltk_recursive(grammar), 50)}
    return [
        {
            "case": f"cfg3b, {what}",
            "unit": "tokens/s",
            "threads": 1,
            "vigreux": rate(vigreux(grammar, ancestors=ancestors), 80 * BLOCK),
            **slow,
        }
        for what, ancestors in (("tokens and boundaries", False), ("with ancestors", True))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one line a case")
    parser.add_argument("--save", type=Path, help="write the records to a file as well")
    options = parser.parse_args()
    records = cases()
    if options.save:
        options.save.write_text(json.dumps(records, indent=1) + "\n")
    for record in records:
        if options.json:
            print(json.dumps(record))
            continue
        others = ", ".join(
            f"{name} {record[name]:,} ({record['vigreux'] / record[name]:,.0f} ×)"
            for name in CONTENDERS[1:]
            if record[name]
        )
        seconds = 1e6 / record["vigreux"]
        print(f"{record['case']}: {record['vigreux']:,} tokens/s, 1M tokens in {seconds:.3f} s; {others}")


if __name__ == "__main__":
    main()
