"""Flat storage of ragged rows, and padding."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vigreux.tasks.table import TokenTable, pad

ROWS = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=6), min_size=1, max_size=8)


@given(rows=ROWS)
def test_rows_come_back(rows):
    table = TokenTable.of_rows(rows, labels=list(range(len(rows))))
    assert [table[i].inputs.tolist() for i in range(len(table))] == rows
    assert [table[i].label for i in range(len(table))] == list(range(len(rows)))
    assert table.tokens.dtype == np.int32
    assert table.mean_length == -(-sum(map(len, rows)) // len(rows))


@given(rows=ROWS)
def test_padding_is_on_the_right_and_masked(rows):
    ids, mask = pad([np.asarray(row, dtype=np.int32) for row in rows], 77)
    assert [row[keep.bool()].tolist() for row, keep in zip(ids, mask)] == rows
    assert mask.sum(1).tolist() == [len(row) for row in rows]
    assert (mask.diff(dim=1) <= 0).all()  # ones, then zeros
    assert (ids[mask == 0] == 77).all()
    assert ids.shape[1] == max(map(len, rows))


def test_draw():
    table = TokenTable.of_rows([[i] * (i + 1) for i in range(20)], labels=list(range(20)))
    drawn = table.draw(5, seed=1)
    labels = [drawn[i].label for i in range(5)]
    assert len(drawn) == 5
    assert labels == sorted(labels)
    assert [drawn[i].inputs.tolist() for i in range(5)] == [[label] * (label + 1) for label in labels]
    assert labels != [table.draw(5, seed=2)[i].label for i in range(5)]
    assert table.draw(20, seed=1) is table
    assert TokenTable.of_rows([[1], [2], [3]]).draw(2, seed=0).labels is None
