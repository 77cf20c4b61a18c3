"""Sampled sentences: in the language, equal to the recursive twin's, of the right frequencies, the same in
blocks of any size.
"""

from collections import Counter
from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from tests.reference import derivation
from tests.reference.cyk import derives
from vigreux.errors import DataError
from vigreux.tasks.synthetic import sentences as module
from vigreux.tasks.synthetic.grammar import load_grammar, published, read_grammar
from vigreux.tasks.synthetic.sentences import SentenceSampler

RECURSIVE = read_grammar(
    "s -> s s 0.2\ns -> open s close 0.3\ns -> t 0.3\ns -> x 0.2\nt -> x y 0.5\nt -> s 0.5", "recursive"
)
RIGHT = read_grammar("s -> a s 0.99\ns -> a 0.01", "right")


def words(grammar, ids):
    return [grammar.terminals[i] for i in ids]


def language(grammar, symbol):
    """Sentence → probability, of a grammar without recursion."""
    if symbol in grammar.terminals:
        return {(symbol,): 1.0}
    found = Counter()
    for rule in grammar.alternatives[symbol]:
        for parts in product(*(language(grammar, child).items() for child in rule.right)):
            found[sum((part for part, _ in parts), ())] += rule.probability * prod(p for _, p in parts)
    return found


# --- by hand ------------------------------------------------------------------------------------------------


def test_a_derivation_by_hand():
    """s ⇒ (u v) (v): one rule a symbol, so each sentence is this one."""
    grammar = read_grammar("s -> p q\np -> u v\nq -> v\nu -> b a\nv -> c", "hand")
    found = SentenceSampler(grammar, 0).block(5, 2, ancestors=True)
    assert found.ends.tolist() == [4, 8]
    p, q, s, u, v = range(5)
    for i in range(2):
        assert words(grammar, found.sentence(i)) == ["b", "a", "c", "c"]
        assert found.boundaries[found.span(i)].tolist() == [0, 1, 2, 3]
        assert found.ancestors[found.span(i)].tolist() == [[u, p, s], [u, p, s], [v, p, s], [v, q, s]]
    assert (found.tokens.dtype, found.ends.dtype, found.boundaries.dtype, found.ancestors.dtype) == (
        np.int32,
        np.int64,
        np.int8,
        np.int16,
    )


def test_boundaries_without_levels_by_hand():
    """The c ends v, t and s; the b ends u alone; the a is the first child of s."""
    grammar = read_grammar("s -> a t\nt -> u v\nu -> b\nv -> c", "hand")
    found = SentenceSampler(grammar, 0).block(0, 1, ancestors=True)
    assert words(grammar, found.tokens) == ["a", "b", "c"]
    assert found.boundaries.tolist() == [0, 1, 3]
    assert found.ancestors is None


def test_a_boundary_level_is_at_most_127():
    found = SentenceSampler(RIGHT, 0).block(0, 50)
    lengths = np.diff(found.ends, prepend=0)
    assert lengths.max() > 127
    assert found.boundaries[found.ends - 1].tolist() == np.minimum(lengths, 127).tolist()


def test_ancestors_only_where_asked_for():
    assert SentenceSampler(load_grammar("cfg3b"), 0).block(0, 3).ancestors is None


# --- against the twin ---------------------------------------------------------------------------------------


@st.composite
def grammars(draw):
    """Three levels; where they are not graded, rules skip levels."""
    graded = draw(st.booleans())
    levels = [["a", "b", "c"], ["d", "e"], ["f", "g"], ["h"]]
    lines = []
    for level, row in enumerate(levels[1:], start=1):
        below = levels[level - 1] if graded else [symbol for lower in levels[:level] for symbol in lower]
        for symbol in row:
            # every symbol below stands in the first rule, so that all can be reached
            rights = [
                tuple(below),
                *draw(
                    st.lists(st.lists(st.sampled_from(below), min_size=1, max_size=4).map(tuple), max_size=3)
                ),
            ]
            weights = draw(st.lists(st.integers(1, 9), min_size=(n := len(set(rights))), max_size=n))
            lines += [
                f"{symbol} -> {' '.join(right)} {w / sum(weights)!r}"
                for right, w in zip(dict.fromkeys(rights), weights)
            ]
    return read_grammar("\n".join(reversed(lines)), "drawn")


def check_against_the_twin(grammar, seed, first, count):
    found = SentenceSampler(grammar, seed).block(first, count, ancestors=True)
    assert len(found) == count
    assert (found.ancestors is None) == (grammar.depth is None)
    for i in range(count):
        tree = derivation.tree(grammar, seed, first + i)
        assert words(grammar, found.sentence(i)) == derivation.tokens(tree)
        assert found.boundaries[found.span(i)].tolist() == derivation.boundaries(tree)
        if found.ancestors is not None:
            rows = found.ancestors[found.span(i)].tolist()
            named = [[grammar.nonterminals[k] for k in row] for row in rows]
            assert named == derivation.ancestors(tree)


@given(
    grammar=grammars(), seed=st.integers(0, 2**64 - 1), first=st.integers(0, 2**50), count=st.integers(0, 4)
)
def test_drawn_grammars_against_the_twin(grammar, seed, first, count):
    check_against_the_twin(grammar, seed, first, count)


@pytest.mark.parametrize("name", published())
def test_published_grammars_against_the_twin(name):
    check_against_the_twin(load_grammar(name), 7, 10**9, 3)


@given(seed=st.integers(0, 2**64 - 1), first=st.integers(0, 2**50))
def test_a_recursive_grammar_against_the_twin(seed, first):
    check_against_the_twin(RECURSIVE, seed, first, 5)


def test_a_negative_seed_is_taken_as_unsigned():
    one, other = (SentenceSampler(RECURSIVE, seed).block(0, 20) for seed in (-1, 2**64 - 1))
    np.testing.assert_array_equal(one.tokens, other.tokens)


# --- blocks -------------------------------------------------------------------------------------------------


@given(
    grammar=st.sampled_from([load_grammar("cfg3f"), RECURSIVE, RIGHT]),
    cuts=st.lists(st.integers(0, 30), min_size=1, max_size=5),
    first=st.integers(0, 2**50),
)
def test_blocks_of_any_size_join_to_the_same_stream(grammar, cuts, first):
    sampler, at, blocks = SentenceSampler(grammar, 3), first, []
    for count in cuts:
        blocks.append(sampler.block(at, count, ancestors=True))
        at += count
    whole = sampler.block(first, sum(cuts), ancestors=True)
    for field in ("tokens", "boundaries") + (("ancestors",) if grammar.depth else ()):
        np.testing.assert_array_equal(
            np.concatenate([getattr(b, field) for b in blocks]), getattr(whole, field)
        )
    lengths = np.concatenate([np.diff(b.ends, prepend=0) for b in blocks])
    np.testing.assert_array_equal(np.cumsum(lengths), whole.ends)


def test_room_that_is_too_small_grows(monkeypatch):
    sampler = SentenceSampler(load_grammar("cfg3b"), 0)
    expected = sampler.block(10, 40, ancestors=True)
    monkeypatch.setattr(module, "_SPARE", 0.01)
    found = sampler.block(10, 40, ancestors=True)
    for field in ("tokens", "ends", "boundaries", "ancestors"):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))


def test_a_sentence_beyond_the_longest_is_refused(monkeypatch):
    lengths = np.diff(SentenceSampler(RIGHT, 0).block(0, 30).ends, prepend=0)
    monkeypatch.setattr(module, "LONGEST", int(lengths.max()))
    assert len(SentenceSampler(RIGHT, 0).block(0, 30)) == 30
    monkeypatch.setattr(module, "LONGEST", int(lengths.max()) - 1)
    with pytest.raises(DataError) as caught:
        SentenceSampler(RIGHT, 0).block(0, 30)
    assert str(caught.value) == (
        f"grammar right: sentence {lengths.argmax()} has more than {lengths.max() - 1:,} tokens, the mean is"
        " 100.0; accepted: "
        "rules that end the recursion sooner"
    )


# --- the language -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", published())
def test_the_parser_knows_a_language_that_can_be_listed(name):
    """All sentences from level 2, and all of these with one token changed."""
    grammar = load_grammar(name).rooted("h")
    sentences = set(language(grammar, "h"))
    changed = {
        (*s[:i], token, *s[i + 1 :])
        for s in list(sentences)[:40]
        for i in range(len(s))
        for token in grammar.terminals
    }
    assert changed - sentences
    for sentence in sentences | changed:
        assert derives(grammar, sentence) == (sentence in sentences)


def test_the_parser_follows_unit_rules():
    assert [derives(RECURSIVE, s.split()) for s in ("x", "x y", "open x y close x", "open x", "y x", "")] == [
        True
    ] * 3 + [False] * 3


@pytest.mark.parametrize("name", published())
@pytest.mark.parametrize("start", ["l", "n"])
def test_sentences_parse_and_reversed_ones_do_not(name, start):
    grammar = load_grammar(name).rooted(start)
    found = SentenceSampler(grammar, 1).block(0, 5)
    for i in range(5):
        sentence = words(grammar, found.sentence(i))
        assert derives(grammar, sentence)
        assert not derives(grammar, sentence[::-1])


@pytest.mark.parametrize("name", published())
def test_a_whole_sentence_parses(name):
    grammar = load_grammar(name)
    assert derives(grammar, words(grammar, SentenceSampler(grammar, 2).block(0, 1).tokens))


def test_sentences_of_a_recursive_grammar_parse():
    found = SentenceSampler(RECURSIVE, 1).block(0, 100)
    assert all(
        derives(RECURSIVE, words(RECURSIVE, found.sentence(i)))
        for i in range(100)
        if len(found.sentence(i)) < 60
    )


# --- frequencies --------------------------------------------------------------------------------------------

RARE = 1e-5  # a p-value below this fails: a few dozen tests, fixed seeds


def rule_counts(found, grammar):
    """How often each rule was taken, read off ancestors and boundaries."""
    counts, levels = Counter(), grammar.depth
    names = [[grammar.terminals[t] for t in found.tokens]]
    names += [[grammar.nonterminals[k] for k in column] for column in found.ancestors.T]
    for level in range(1, levels + 1):
        children = []
        for i, boundary in enumerate(found.boundaries):
            if boundary >= level - 1:  # a node of the level below ends here
                children.append(names[level - 1][i])
            if boundary >= level:
                counts[names[level][i], tuple(children)] += 1
                children = []
    return counts


@pytest.mark.parametrize("name", published())
def test_rules_are_taken_as_often_as_they_are_probable(name):
    grammar = load_grammar(name)
    counts = rule_counts(SentenceSampler(grammar, 11).block(0, 400, ancestors=True), grammar)
    assert set(counts) == {(rule.left, rule.right) for rule in grammar.rules}
    for rules in grammar.alternatives.values():
        observed = np.array([counts[rule.left, rule.right] for rule in rules])
        expected = observed.sum() * np.array([rule.probability for rule in rules])
        assert len(rules) == 1 or chisquare(observed, expected).pvalue > RARE


def test_whole_sentences_are_as_frequent_as_they_are_probable():
    """So the draws within a sentence are independent of each other."""
    grammar = read_grammar(
        "s -> t u t\nt -> a 0.7\nt -> b 0.3\nu -> t t 0.1\nu -> c t 0.6\nu -> t 0.3", "joint"
    )
    found = SentenceSampler(grammar, 0).block(0, 50_000)
    counts = Counter(tuple(words(grammar, found.sentence(i))) for i in range(len(found)))
    probable = language(grammar, "s")
    assert set(counts) == set(probable)
    expected = 50_000 * np.array(list(probable.values()))
    assert chisquare([counts[s] for s in probable], expected / expected.sum() * 50_000).pvalue > RARE


@pytest.mark.parametrize("other", [(0, 1), (1, 0), (2**32, 0), (2**64 - 1, 0)])
def test_sentences_of_neighbouring_places_and_seeds_are_independent(other):
    """Pairs of sentences of one draw each: the next sentence of the stream, and the same one of
    another seed.
    """
    grammar = read_grammar("s -> a\ns -> b\ns -> c", "one")
    seed, shift = other
    one, two = (
        SentenceSampler(grammar, 0).block(0, 30_000).tokens,
        SentenceSampler(grammar, seed).block(shift, 30_000).tokens,
    )
    assert chisquare(np.bincount(3 * one + two, minlength=9)).pvalue > RARE


def test_the_mean_length():
    for grammar in (load_grammar("cfg3b"), RECURSIVE):
        lengths = np.diff(SentenceSampler(grammar, 0).block(0, 20_000).ends, prepend=0)
        assert abs(lengths.mean() - grammar.mean_length) < 5 * lengths.std() / len(lengths) ** 0.5
