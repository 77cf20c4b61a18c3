"""Rows from Python: which are read and as what, and which are refused, each beside its nearest valid
neighbour.
"""

import numpy as np
import pandas
import pytest
import torch
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data import Dataset as TorchDataset

from tests.reference import rows as reference
from vigreux.errors import DataError
from vigreux.tasks.fingerprint import data_fingerprint
from vigreux.tasks.rows.build import tokenised_task
from vigreux.tasks.rows.columns import ModelInputs
from vigreux.tasks.tokenizers import train_tokenizer

TEXTS = ["the cat sat", "a dog ran over the hill", "birds sang"] * 4
TOKENIZER = train_tokenizer(TEXTS, 80, "wordpiece")
IDS = TOKENIZER(TEXTS)["input_ids"]
ROWS = [{"input_ids": ids} for ids in IDS]
INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids", "position_ids"})
MODEL = ModelInputs("the student", INPUTS, 80, 80, {"token_type_ids": 2, "position_ids": 16})


def task(data, kind="causal-lm", held=None, models=(MODEL,)):
    return tokenised_task(
        kind, data, data if held is None else held, TOKENIZER, id2label={0: "no", 1: "yes"}, models=models
    )


def whole(task):
    return next(task.eval_batches(len(task.held_out)))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def with_column(name, make):
    return [{**row, name: make(row["input_ids"])} for row in ROWS]


# --- collections of rows ------------------------------------------------------------------------------------


class MapStyle(TorchDataset):
    def __len__(self):
        return len(IDS)

    def __getitem__(self, index):  # without an IndexError at the end
        return {"input_ids": torch.tensor(IDS[index % len(IDS)])}


class Streamed(IterableDataset):
    def __iter__(self):
        return iter(ROWS)


@pytest.mark.parametrize(
    "data",
    [
        Dataset.from_list(ROWS),
        Dataset.from_list(ROWS).with_format("torch"),
        Dataset.from_list(ROWS).with_format("numpy"),
        tuple(ROWS),
        [TOKENIZER(text, return_attention_mask=False, return_token_type_ids=False) for text in TEXTS],
        MapStyle(),
    ],
    ids=["dataset", "torch", "numpy", "tuple", "encodings", "map-style"],
)
def test_collections_of_rows(data):
    assert same(whole(task(data)), whole(task(ROWS)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "missing; accepted: a datasets.Dataset or a list of rows"),
        ("wikitext", "'wikitext' is a name or path"),
        (iter(ROWS), "list_iterator has no rows by number"),
        (Dataset.from_list(ROWS).to_iterable_dataset(), "IterableDataset has no rows by number"),
        (Streamed(), "Streamed has no rows by number"),
        (DataLoader(MapStyle()), "DataLoader has no rows by number"),
        (DatasetDict(train=Dataset.from_list(ROWS)), "a DatasetDict of train; accepted: one of these"),
        (TOKENIZER(TEXTS), "a BatchEncoding of columns; accepted: rows"),
        ({"input_ids": IDS}, "a dict of columns; accepted: rows"),
        (pandas.DataFrame({"input_ids": IDS}), "a DataFrame; accepted: datasets.Dataset.from_pandas"),
        (TEXTS, "row 0 is a str"),
        (IDS, "row 0 is a list"),
        (torch.ones(4, 5, dtype=torch.long), "row 0 is a Tensor"),
        ([], "no rows"),
        ([ROWS[0], None], "row 1 is a NoneType"),
        ([ROWS[0], {**ROWS[1], "labels": IDS[1]}], "row 0 has no column labels, which other rows have"),
        ([{"text": text} for text in TEXTS], "no column input_ids; found text; accepted: rows of token ids"),
    ],
)
@pytest.mark.parametrize("name", ["train_dataset", "eval_dataset"])
def test_what_is_no_collection_of_rows(data, message, name):
    with pytest.raises(DataError, match=f"^{name}: {message}") as refused:
        tokenised_task(
            "causal-lm",
            *((data, ROWS) if name == "train_dataset" else (ROWS, data)),
            TOKENIZER,
            id2label=None,
            models=(MODEL,),
        )
    assert "\n" not in str(refused.value)


# --- values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([5.5, 6.0], "'5.5' is no whole number"),
        ([True, False], "'True' is no whole number"),
        (["a"], "'a' is no whole number"),
        ([1, None], "'None' is no whole number"),
        (None, r"is missing \(None\)"),
        ([], "is empty; accepted: at least one token"),
        ([[5, 6]], r"shape \(1, 2\); accepted: \(2,\)"),
        ([[5, 6], [7, 8]], r"shape \(2, 2\)"),
        ([[5], [7, 8]], "lists of different lengths"),
        (7, r"shape \(\)"),
        ([-1, 5], "-1; accepted: 0 to 79, the embeddings of the student"),
        ([80, 5], "80; accepted: 0 to 79"),
        ([2**32 + 5, 5], "4294967301; accepted"),
    ],
)
def test_ids_that_are_none(ids, message):
    with pytest.raises(DataError, match=f"train_dataset: row 12: input_ids: {message}"):
        task([*ROWS, {"input_ids": ids}])
    assert len(task([*ROWS, {"input_ids": np.array([79, 5], dtype=np.uint8)}]).train) == 13


@pytest.mark.parametrize(
    ("column", "make", "message"),
    [
        ("attention_mask", lambda ids: [1] * (len(ids) - 1), "one number per token"),
        ("attention_mask", lambda ids: [2] * len(ids), "row 0: attention_mask: 2; accepted: 0"),
        ("attention_mask", lambda ids: [0] * len(ids), "hides every token"),
        ("attention_mask", lambda ids: np.ones((len(ids), len(ids))), "one number per token"),
        ("attention_mask", lambda ids: None, "is missing"),
        ("token_type_ids", lambda ids: [1], "1 values for .* tokens"),
        ("token_type_ids", lambda ids: [2] * len(ids), "token_type_ids: 2; accepted: 0 to 1"),
        ("token_type_ids", lambda ids: [0.5] * len(ids), "no whole number"),
        ("position_ids", lambda ids: [16] * len(ids), "position_ids: 16; accepted: 0 to 15"),
        ("labels", lambda ids: ids[1:], "one label per token"),
        ("labels", lambda ids: [-1] * len(ids), "labels: -1; accepted: 0 to 79"),
        ("labels", lambda ids: [80] * len(ids), "labels: 80; accepted: 0 to 79"),
        ("labels", lambda ids: [-100] * len(ids), "no token of its 12 rows has a label"),
        ("labels", lambda ids: 1, "one label per token"),
        ("labels", lambda ids: [float(i) for i in ids], "no whole number"),
        ("completion_mask", lambda ids: [0] * len(ids), "no token of its 12 rows has a label"),
        ("inputs_embeds", lambda ids: [0.0], "column inputs_embeds: is passed on to no model"),
        ("pixel_values", lambda ids: [0.0], "no task takes pixels yet"),
        ("decoder_input_ids", lambda ids: ids, "column decoder_input_ids"),
        ("loss_mask", lambda ids: ids, "accepted: labels that are −100 where no loss counts"),
    ],
)
def test_values_that_cannot_be_used(column, make, message):
    with pytest.raises(DataError, match=message):
        task(with_column(column, make))


def test_their_neighbours_are_used():
    for column, value in (
        ("attention_mask", True),
        ("attention_mask", 1.0),
        ("token_type_ids", 1),
        ("position_ids", 15),
    ):
        batch = whole(task(with_column(column, lambda ids, value=value: [value] * len(ids))))
        shown = batch["attention_mask"].bool()
        assert (batch[column][shown] == int(value)).all()
    assert same(whole(task(with_column("labels", list))), whole(task(ROWS)))
    assert same(whole(task(with_column("completion_mask", lambda ids: [1] * len(ids)))), whole(task(ROWS)))
    masks = with_column("completion_mask", lambda ids: [0, 0] + [1] * (len(ids) - 2))
    assert same(whole(task(masks)), whole(task(with_column("labels", lambda ids: [-100, -100, *ids[2:]]))))


def test_other_columns_are_named_once():
    data = [{**row, "text": "the cat", "label": 1, "idx": 3} for row in ROWS]
    with pytest.warns(UserWarning, match="columns that are not used: text, label, idx"):
        made = task(data)
    assert made.notes == ("columns that are not used: text, label, idx",)
    assert same(whole(made), whole(task(ROWS)))


def test_a_column_that_one_model_takes():
    other = ModelInputs("the teacher", INPUTS - {"token_type_ids"}, 80, 80)
    made = task(with_column("token_type_ids", lambda ids: [1] * len(ids)), models=(MODEL, other))
    assert made.notes == ("column token_type_ids: given to the student; the teacher takes none",)
    assert "token_type_ids" in whole(made)


def test_both_data_sets_have_the_columns_or_neither():
    for column, make in (("labels", list), ("token_type_ids", lambda ids: [0] * len(ids))):
        with pytest.raises(DataError, match=f"eval_dataset: no column {column}, which train_dataset has"):
            task(with_column(column, make), held=ROWS)
        with pytest.raises(DataError, match=f"train_dataset: no column {column}, which eval_dataset has"):
            task(ROWS, held=with_column(column, make))
    mixed = task(with_column("attention_mask", lambda ids: [1] * len(ids)), held=ROWS)
    assert same(whole(mixed), whole(task(ROWS)))


def test_padding_without_a_mask_is_refused():
    pad = TOKENIZER.pad_token_id
    for ids in ([*IDS[0], pad], [pad, *IDS[0]]):
        with pytest.raises(DataError, match=r"row 1: begins or ends with padding .* a column attention_mask"):
            task([ROWS[0], {"input_ids": ids}])
    assert len(task([ROWS[0], {"input_ids": [5, pad, 6]}]).train) == 2  # a token like any other


@pytest.mark.parametrize("padding", [True, False])
def test_padding_that_is_the_end_of_text_shows_by_several(padding):
    ends = train_tokenizer(TEXTS, 300, "bpe")
    ends.pad_token = ends.eos_token if padding else None
    end = ends.eos_token_id
    rows = [{"input_ids": [*row, end]} for row in ends(TEXTS)["input_ids"]]
    assert len(tokenised_task("causal-lm", rows, rows, ends).train) == 12
    padded = [{"input_ids": [*row["input_ids"], end]} for row in rows]
    with pytest.raises(DataError, match="begins or ends with padding"):
        tokenised_task("causal-lm", padded, padded, ends)


def test_models_without_a_mask():
    blind = ModelInputs("the student", frozenset({"input_ids"}), 80, 80)
    holes = with_column("attention_mask", lambda ids: [1, 0] + [1] * (len(ids) - 2))
    with pytest.raises(DataError, match="hides tokens, and the student takes no attention_mask"):
        task(holes, models=(blind,))
    with pytest.raises(DataError, match="accepted: rows of one length"):
        task(ROWS, "masked-lm", models=(blind,))
    assert len(task(ROWS, models=(blind,)).train) == 12  # padding comes behind what a causal model sees
    assert len(task([ROWS[0]] * 3, "masked-lm", models=(blind,)).train) == 3


# --- padding and labels -------------------------------------------------------------------------------------


@st.composite
def masked_rows(draw):
    """(ids, mask, labels) of some rows: padded left or right, with holes; labels of the caller's own."""
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        mask = draw(st.lists(st.integers(0, 1), min_size=1, max_size=8).filter(any))
        ids = draw(st.lists(st.integers(5, 40), min_size=len(mask), max_size=len(mask)))
        labels = [draw(st.sampled_from([-100, token, 7])) for token in ids]
        rows.append((ids, mask, labels))
    return rows


@settings(max_examples=150, deadline=None)
@given(rows=masked_rows(), causal=st.booleans(), given_labels=st.booleans())
def test_padding_and_labels_against_the_slow_twin(rows, causal, given_labels):
    if not given_labels:
        if not causal:
            return  # masks are drawn
        rows = [(ids, mask, ids) for ids, mask, _ in rows]
    expected = reference.batch(rows, causal)
    data = [
        {"input_ids": ids, "attention_mask": mask} | ({"labels": labels} if given_labels else {})
        for ids, mask, labels in rows
    ]
    if all(label == -100 for row in expected["labels"] for label in row):
        with pytest.raises(DataError, match="has a label"):
            task(data, "causal-lm" if causal else "masked-lm")
        return
    batch = whole(task(data, "causal-lm" if causal else "masked-lm"))
    assert batch["attention_mask"].tolist() == expected["attention_mask"]
    assert batch["labels"].tolist() == expected["labels"]
    hidden = TOKENIZER.pad_token_id
    assert [[i for i in row if i != hidden] for row in batch["input_ids"].tolist()] == [
        [i for i in row if i != reference.PAD] for row in expected["input_ids"]
    ]


def test_all_columns_are_cut_with_the_padding():
    ids, mask = [0, 0, 5, 6, 7, 0], [0, 0, 1, 1, 1, 0]
    row = {"input_ids": ids, "attention_mask": mask, "position_ids": [0, 0, 0, 1, 2, 3], "labels": ids}
    batch = whole(task([row]))
    assert {name: values.tolist() for name, values in batch.items()} == {
        "input_ids": [[5, 6, 7]],
        "attention_mask": [[1, 1, 1]],
        "position_ids": [[0, 1, 2]],
        "labels": [[6, 7, -100]],
    }


def test_labels_of_hidden_tokens_are_said():
    row = {"input_ids": [5, 6, 7, 0, 0], "attention_mask": [1, 1, 1, 0, 0], "labels": [5, 6, 7, 0, 0]}
    made = task([row])
    assert made.notes[0] == "train_dataset: 2 labels of tokens that attention_mask hides carry no loss"
    assert whole(made)["labels"].tolist() == [[6, 7, -100]]


def test_masks_of_the_callers_own_are_not_drawn_again():
    hidden = [{"input_ids": [2, 4, 9], "labels": [-100, 8, -100]}] * 3
    made = task(hidden, "masked-lm")
    assert made.has_masks
    assert not made.draws_again
    assert whole(made)["input_ids"].tolist() == [[2, 4, 9]] * 3
    assert whole(made)["labels"].tolist() == [[-100, 8, -100]] * 3
    assert task(ROWS, "masked-lm").draws_again


def test_tokens_that_the_caller_calls_special_are_never_hidden():
    special = with_column("special_tokens_mask", lambda ids: [int(i != 2) for i in range(len(ids))])
    batch = whole(task(special, "masked-lm"))
    assert (batch["labels"] != -100).nonzero()[:, 1].unique().tolist() == [2]
    assert "special_tokens_mask" not in batch


def test_hidden_tokens_are_never_masked():
    holes = with_column("attention_mask", lambda ids: [1, 1, 0] + [1] * (len(ids) - 3))
    made = task(holes, "masked-lm")
    for seed in range(5):
        batch = made.collate([made.stream(seed, 0, 12)[i] for i in range(12)])
        assert (batch["labels"][:, 2] == -100).all()
        assert (batch["attention_mask"][:, 2] == 0).all()


def test_a_cache_and_a_resume_know_every_column():
    def changed(make):
        return [{**row, **make(row["input_ids"])} for row in ROWS]

    data = [
        ROWS,
        changed(lambda ids: {"token_type_ids": [1] * len(ids)}),
        changed(lambda ids: {"token_type_ids": [0] * len(ids)}),
        changed(lambda ids: {"labels": [-100, *ids[1:-1], -100]}),
        changed(lambda ids: {"attention_mask": [1, 0] + [1] * (len(ids) - 2)}),
    ]
    assert len({data_fingerprint(task(rows)) for rows in data}) == len(data)
    padded = changed(lambda ids: {"input_ids": [*ids, 0], "attention_mask": [1] * len(ids) + [0]})
    assert data_fingerprint(task(padded)) == data_fingerprint(task(ROWS))


def test_the_longest_rows_are_at_hand():
    made = task([*ROWS, {"input_ids": [5] * 30}], held=ROWS)
    assert [len(sample.example.inputs) for sample in made.longest_samples()] == [30, max(map(len, IDS))]
