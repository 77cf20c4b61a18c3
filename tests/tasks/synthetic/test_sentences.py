"""Sampled sentences: they parse, rules come as often as they should, ancestors and boundaries are those of
the derivation.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from tests.reference.cyk import derives
from vigreux.errors import DataError
from vigreux.tasks.synthetic import sentences as module
from vigreux.tasks.synthetic.grammar import load_grammar, published, read_grammar
from vigreux.tasks.synthetic.sentences import SentenceSampler

ONE_WAY = read_grammar("s -> p q\np -> m n\nq -> n\nm -> a b\nn -> c a b", "one-way")


def words(grammar, block, index) -> list[str]:
    return [grammar.terminals[token] for token in block.tokens[block.span(index)]]


@pytest.mark.parametrize("name", published())
def test_sentences_parse_and_corrupted_ones_do_not(name):
    whole = load_grammar(name)
    for grammar, count in ((whole.rooted("m"), 6), (whole, 1)):
        block = SentenceSampler(grammar, 3).block(0, count)
        for i in range(count):
            sentence = words(grammar, block, i)
            assert derives(grammar, tuple(sentence))
            assert not derives(
                grammar, ("a", "a", "a", *sentence[3:])
            )  # no three of a kind begin a sentence of any of them


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**62),
    first=st.integers(0, 10**9),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=4),
)
def test_a_sentence_is_the_same_in_any_block(seed, first, cuts):
    grammar = load_grammar("cfg3f").rooted("k")
    whole = SentenceSampler(grammar, seed).block(first, sum(cuts), ancestors=True)
    parts, at = [], first
    for count in cuts:
        parts.append(SentenceSampler(grammar, seed).block(at, count, ancestors=True))
        at += count
    for name in ("tokens", "boundaries", "ancestors"):
        np.testing.assert_array_equal(
            getattr(whole, name), np.concatenate([getattr(part, name) for part in parts])
        )
    assert np.diff(whole.ends, prepend=0).tolist() == [
        n for part in parts for n in np.diff(part.ends, prepend=0).tolist()
    ]


def test_streams_and_sentences_differ():
    grammar = load_grammar("cfg3b").rooted("m")
    one, other = (SentenceSampler(grammar, seed).block(0, 200) for seed in (1, 2))
    texts = [" ".join(words(grammar, block, i)) for block in (one, other) for i in range(200)]
    assert len(set(texts)) > 390


def test_ancestors_and_boundaries_by_hand():
    """s → (p → (m → a b) (n → c a b)) (q → (n → c a b)), by hand: of q's only child n ends q and s
    as well.
    """
    block = SentenceSampler(ONE_WAY, 0).block(0, 2, ancestors=True)
    assert words(ONE_WAY, block, 1) == list("abcabcab")
    assert block.boundaries[block.span(0)].tolist() == [0, 1, 0, 0, 2, 0, 0, 3]
    names = [[ONE_WAY.nonterminals[i] for i in row] for row in block.ancestors[block.span(1)]]
    assert names == [["m", "p", "s"]] * 2 + [["n", "p", "s"]] * 3 + [["n", "q", "s"]] * 3


def test_rules_come_as_often_as_their_probabilities_say():
    """Level 1 of cfg3b: every symbol's expansions, told apart by the tokens under it."""
    grammar = read_grammar(
        "s -> x y 0.2\ns -> y x 0.7\ns -> x x 0.1\nx -> a b 0.3\nx -> b 0.7\ny -> c", "shares"
    )
    block = SentenceSampler(grammar, 5).block(0, 20_000)
    counts: dict[str, int] = {}
    for i in range(len(block)):
        text = "".join(words(grammar, block, i))
        counts[text] = counts.get(text, 0) + 1
    expected = {
        "abc": 0.06,
        "bc": 0.14,
        "cab": 0.21,
        "cb": 0.49,
        "abab": 0.009,
        "abb": 0.021,
        "bab": 0.021,
        "bb": 0.049,
    }
    assert counts.keys() == expected.keys()
    observed = [counts[text] for text in expected]
    assert chisquare(observed, [20_000 * share for share in expected.values()]).pvalue > 1e-3


@pytest.mark.parametrize("name", published())
def test_rule_frequencies_of_the_published_grammars(name):
    grammar = load_grammar(name)
    block = SentenceSampler(grammar, 11).block(0, 300, ancestors=True)
    places = {symbol: i for i, symbol in enumerate(grammar.nonterminals)}
    for symbol in (
        s for s in grammar.nonterminals if grammar.levels[s] == 1 and len(grammar.alternatives[s]) > 1
    ):
        counts = dict.fromkeys((rule.right for rule in grammar.alternatives[symbol]), 0)
        for i in range(len(block)):
            span = block.span(i)
            tokens, parents = words(grammar, block, i), block.ancestors[span, 0]
            begin = 0
            for j, level in enumerate(block.boundaries[span]):
                if level >= 1:
                    if parents[j] == places[symbol]:
                        counts[tuple(tokens[begin : j + 1])] += 1
                    begin = j + 1
        total = sum(counts.values())
        expected = [total * rule.probability for rule in grammar.alternatives[symbol]]
        assert chisquare(list(counts.values()), expected).pvalue > 1e-4


def test_a_recursive_grammar():
    grammar = read_grammar("s -> a s b 0.4\ns -> c 0.6", "nested")
    block = SentenceSampler(grammar, 0).block(0, 2000, ancestors=True)
    assert block.ancestors is None
    texts = ["".join(words(grammar, block, i)) for i in range(2000)]
    assert all(text == "a" * (len(text) // 2) + "c" + "b" * (len(text) // 2) for text in texts)
    assert np.mean([len(text) for text in texts]) == pytest.approx(grammar.mean_length, rel=0.1)
    nested = texts.index("aacbb")
    assert block.boundaries[block.span(nested)].tolist() == [0, 0, 1, 1, 1]  # c, and each b, ends one s


def test_a_sentence_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 300)
    grammar = read_grammar("s -> s a 0.9999\ns -> a 0.0001", "runaway")
    with pytest.raises(DataError, match="runaway: sentence 0 has more than 300 tokens"):
        SentenceSampler(grammar, 0).block(0, 1)
