"""The held-out split: seeded, by distinct document; and overlap between two sources."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigreux.errors import DataError
from vigreux.tasks.documents.sources import Record
from vigreux.tasks.documents.split import check_overlap, draw_records, split_records


def records(texts) -> list[Record]:
    return [Record(text, None, f"a.txt:{i}") for i, text in enumerate(texts, start=1)]


@given(
    texts=st.lists(st.sampled_from("abcdefgh"), min_size=2).filter(lambda t: len(set(t)) > 1),
    seed=st.integers(-3, 99),
)
def test_split_is_a_partition_and_copies_stay_together(texts, seed):
    spaced = [f"{text}{' ' * (i % 3)} x" for i, text in enumerate(texts)]  # copies that differ in white space
    train, held_out = split_records(records(spaced), 0.3, seed)
    assert sorted(train + held_out, key=lambda r: int(r.where[6:])) == records(spaced)
    assert not {r.text[0] for r in train} & {r.text[0] for r in held_out}
    distinct = len(set(texts))
    assert len({r.text[0] for r in held_out}) == min(max(1, round(0.3 * distinct)), distinct - 1)
    assert check_overlap(train, held_out, allow=False) is None


def test_split_depends_on_the_seed_alone():
    data = records(str(i) for i in range(100))
    assert split_records(data, 0.1, 0) == split_records(data, 0.1, 0)
    assert split_records(data, 0.1, 0) != split_records(data, 0.1, 1)


def test_one_document_cannot_be_split():
    with pytest.raises(
        DataError,
        match=r"task.data: 1 distinct document, which cannot be split; accepted: at least 2 .*task.eval_data",
    ):
        split_records(records(["a", "a ", " a"]), 0.5, 0)
    train, held_out = split_records(records(["a", "b"]), 0.99, 0)  # the nearest that can
    assert len(train) == len(held_out) == 1


def test_overlap_is_named():
    train, held_out = records(["one two", "three"]), records(["four", " one\n two", "one two"])
    message = (
        r"task.eval_data: 2 of 3 held-out documents .* such as a.txt:2 \('one two'\); accepted: none, unless"
    )
    with pytest.raises(DataError, match=message) as error:
        check_overlap(train, held_out, allow=False)
    assert "\n" not in str(error.value)
    assert (
        check_overlap(train, held_out, allow=True)
        == "2 of 3 held-out documents also occur in the training data"
    )
    assert check_overlap(train, held_out[:1], allow=False) is None


def test_overlap_shows_a_long_document_in_short():
    long = records(["word " * 100])
    with pytest.raises(DataError, match=r"\('(word ){11}word…'\)"):
        check_overlap(long, long, allow=False)


def test_draw():
    data = records(str(i) for i in range(50))
    drawn = draw_records(data, 10, seed=3)
    assert len(drawn) == 10
    assert [r for r in data if r in drawn] == drawn
    assert drawn != draw_records(data, 10, seed=4)
    assert draw_records(data, 50, seed=3) == draw_records(data, None, seed=3) == data
