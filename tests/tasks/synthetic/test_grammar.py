"""Grammars as text: what is read is what stands there, and every fault names its line and rule."""

import pytest

from vigreux.errors import DataError
from vigreux.tasks.synthetic.grammar import Rule, load_grammar, published, read_grammar

SMALL = """
# a comment
s -> p q 0.25
s -> q p 0.75   # and another

p -> a b
p -> b
q -> c
"""


def test_rules_and_shares():
    grammar = read_grammar(SMALL, "small.grammar")
    assert (grammar.name, grammar.start) == ("small", "s")
    assert grammar.rules == (
        Rule("s", ("p", "q"), 0.25), Rule("s", ("q", "p"), 0.75), Rule("p", ("a", "b"), 0.5), Rule("p", ("b",), 0.5),  # noqa: E501
        Rule("q", ("c",), 1.0),
    )  # fmt: skip
    assert (grammar.terminals, grammar.nonterminals) == (("a", "b", "c"), ("p", "q", "s"))
    assert grammar.levels == {"a": 0, "b": 0, "c": 0, "p": 1, "q": 1, "s": 2}
    assert (grammar.depth, grammar.longest) == (2, 3)
    assert grammar.mean_length == pytest.approx(2.5)


def test_from_another_start_on():
    grammar = read_grammar(SMALL, "small.grammar").rooted("p")
    assert (grammar.start, grammar.depth, grammar.nonterminals) == ("p", 1, ("p",))
    with pytest.raises(DataError, match="accepted"):
        grammar.rooted("q")


@pytest.mark.parametrize(
    "rules", ["s -> a s 0.3\ns -> a 0.7", "s -> a t\nt -> b"], ids=["recursive", "uneven"]
)
def test_some_grammars_have_no_levels(rules):
    grammar = read_grammar(rules, "g")
    assert grammar.levels is None
    assert grammar.depth is None
    assert (grammar.longest is None) == rules.startswith("s -> a s")


def test_the_published_grammars():
    assert published() == ["cfg3b", "cfg3f", "cfg3g", "cfg3h", "cfg3i"]
    for name in published():
        grammar = load_grammar(name)
        assert (grammar.depth, grammar.terminals, grammar.start) == (6, ("a", "b", "c"), "s")
        assert len(grammar.nonterminals) == 16
        assert all(2 <= len(rule.right) <= 3 for rule in grammar.rules)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "g: no rules"),
        ("s -> a 0.5\ns -> b 0.6", "g:1: rule 's -> a 0.5': the probabilities of 's' sum to 1.1"),
        ("s -> a\n\ns b", "g:3: rule 's b': no '->'"),
        ("s -> a\ns ->", "g:2: rule 's ->': nothing on the right"),
        ("s -> a 0.5\ns -> b", "g:2: rule 's -> b': no probability"),
        ("s -> a -1\ns -> b 2", "g:1: rule 's -> a -1'"),
        ("s -> a\ns -> b\ns -> a", "g:3: rule 's -> a': given before at g:1"),
        ("s -> a\nt -> b", "g:2: rule 't -> b': 't' cannot be reached"),
        ("s -> t\nt -> t a", "g:1: rule 's -> t': 's' derives no finite sentence"),
        ("s -> s s 0.6\ns -> a 0.4", "g:1: rule 's -> s s 0.6': the expected length"),
    ],
)
def test_a_fault_names_line_and_rule(text, message):
    with pytest.raises(DataError) as caught:
        read_grammar(text, "g")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_found_or_read(tmp_path):
    with pytest.raises(DataError, match="did you mean 'cfg3b'"):
        load_grammar("cfg3bb")
    (tmp_path / "bytes.grammar").write_bytes(b"s -> \xff")
    with pytest.raises(DataError, match="not UTF-8"):
        load_grammar(tmp_path / "bytes.grammar")
