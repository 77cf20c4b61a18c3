"""Flat storage of ragged rows, and padding."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vigreux.tasks.table import TokenTable, pad, pad_inputs

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


def test_columns_stay_beside_their_tokens_and_rows():
    ids = [[1, 2, 3], [4], [5, 6]]
    table = TokenTable.of_rows(
        ids,
        columns={
            "token_type_ids": [np.array(row) % 2 for row in ids],
            "bbox": [np.ones((len(r), 4)) for r in ids],
        },
        row_columns={"lang_ids": [7, 8, 9]},
        token_labels=[[-100, 2, 3], [4], [5, -100]],
    )
    for which in (table, table.draw(2, seed=3)):
        for example in (which[i] for i in range(len(which))):
            assert (example.columns["token_type_ids"] == example.inputs % 2).all()
            assert example.columns["bbox"].shape == (len(example.inputs), 4)
            assert int(example.columns["lang_ids"]) == {1: 7, 4: 8, 5: 9}[int(example.inputs[0])]
            assert all(label in (-100, token) for token, label in zip(example.inputs, example.token_labels))
    batch = pad_inputs([table[i] for i in range(3)], 0)
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 0, 0], [5, 6, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    assert batch["token_type_ids"].tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert batch["bbox"].shape == (3, 3, 4)
    assert batch["lang_ids"].tolist() == [7, 8, 9]
    assert table.longest == 0
    assert [name for name, _ in table.arrays()][3:] == ["token_labels", "bbox", "token_type_ids", "lang_ids"]
