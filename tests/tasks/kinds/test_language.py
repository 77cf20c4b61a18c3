"""Language modelling: packing conserves tokens, labels are aligned, masks have their rates and are a function
of (seed, t).
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare
from tokenizers import Tokenizer, processors
from transformers import PreTrainedTokenizerFast

from tests.reference import tasks as reference
from tests.tasks.conftest import SENTENCES
from vigreux.config.transformer import TaskConfig
from vigreux.errors import ConfigError, DataError
from vigreux.tasks.documents.sources import Record
from vigreux.tasks.documents.split import Documents
from vigreux.tasks.kinds.language import (
    CausalCollator,
    MaskedCollator,
    causal_lm,
    cut,
    cut_documents,
    join,
    masked_lm,
)
from vigreux.tasks.stream import Example, Sample

DOCUMENTS = Documents(
    [Record(s, None, "") for s in SENTENCES], [Record(s.upper(), None, "") for s in SENTENCES[:3]]
)
IDS = st.integers(10, 99)


def sample(tokens, seed=0, t=0) -> Sample:
    return Sample(Example(np.asarray(tokens, dtype=np.int32), None), 0, seed, t)


def rows(table) -> list[list[int]]:
    return [table[i].inputs.tolist() for i in range(len(table))]


# --- packing ------------------------------------------------------------------------------------------------


@given(
    documents=st.lists(st.lists(IDS, max_size=9), min_size=1, max_size=8),
    length=st.integers(2, 7),
    separator=st.just(7),
)
def test_packing_conserves_tokens(documents, length, separator):
    flat = np.asarray([token for document in documents for token in [*document, separator]], dtype=np.int32)
    expected = reference.packed(documents, length, separator)
    if len(expected[-1]) == 1:  # the one token that nothing could predict
        expected.pop()
    if expected:
        assert rows(cut(flat, length)) == expected


@given(flat=st.lists(IDS, min_size=2, max_size=40), length=st.integers(4, 9))
def test_blocks_between_first_and_last(flat, length):
    found = rows(cut(np.asarray(flat, dtype=np.int32), length, prefix=[1], suffix=[2]))
    assert all(row[0] == 1 and row[-1] == 2 and len(row) <= length for row in found)
    assert all(len(row) == length for row in found[:-1])
    inside = [token for row in found for token in row[1:-1]]
    assert inside == flat[: len(inside)]
    assert len(flat) - len(inside) <= 1


def test_join_puts_the_separator_after_each_document(bpe):
    one, two = (bpe(text)["input_ids"] for text in SENTENCES[:2])
    end = bpe.eos_token_id
    flat, starts = join(SENTENCES[:2], bpe, suffix=[end])
    assert flat.tolist() == [*one, end, *two, end]
    assert starts.tolist() == [0, len(one) + 1]
    assert join(SENTENCES[:2], bpe)[0].tolist() == one + two


@given(
    documents=st.lists(st.lists(IDS, min_size=1, max_size=9), min_size=1, max_size=8),
    before=st.sampled_from([[1], [1, 2], [1, 2, 3]]),
    after=st.sampled_from([[], [7]]),
    extra=st.integers(2, 6),
)
def test_blocks_of_documents_that_begin_with_tokens_of_their_own(documents, before, after, extra):
    length, flat, starts = len(before) + extra, [], []
    for document in documents:
        starts.append(len(flat))
        flat += [*before, *document, *after]
    table = cut_documents(np.asarray(flat, np.int32), np.asarray(starts), length, before)
    assert rows(table) == reference.packed_documents(documents, length, before, after)


# --- what the tokenizer puts around a text ------------------------------------------------------------------


def wrapped(tokenizer, template: str, **names: str) -> PreTrainedTokenizerFast:
    """The tokenizer with a template of its own around texts."""
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.add_special_tokens([token for token in template.split() if token != "$A"])
    special = [(token, backend.token_to_id(token)) for token in template.split() if token != "$A"]
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


@pytest.mark.parametrize(
    ("template", "before", "after"),
    [
        ("<s> $A", ["<s>"], []),
        ("<s> $A </s>", ["<s>"], ["</s>"]),
        ("$A </s>", [], ["</s>"]),
        ("<a> <b> $A", ["<a>", "<b>"], []),
    ],
)
def test_a_block_carries_what_the_tokenizer_puts_around_a_text(bpe, template, before, after):
    end = after[0] if after else bpe.eos_token
    tokenizer = wrapped(bpe, template, eos_token=end, pad_token=bpe.pad_token)
    task = causal_lm(DOCUMENTS, tokenizer, TaskConfig(max_length=16))
    head, tail = (tokenizer.convert_tokens_to_ids(tokens) for tokens in (before, [end]))
    found = rows(task.train)
    assert all(row[: len(head)] == head and len(row) <= 16 for row in found)
    texts = [tokenizer(s, add_special_tokens=False)["input_ids"] for s in SENTENCES]
    if head:
        assert found == reference.packed_documents(texts, 16, head, tail)
    else:
        assert found == reference.packed(texts, 16, tail[0])
    assert any(f"begins with {' '.join(before)}" in note for note in task.notes) == bool(before)
    labels = next(iter(task.eval_batches(8)))["labels"]
    assert not torch.isin(labels, torch.tensor(head or [-1])).any()
    assert torch.isin(labels, torch.tensor(tail)).any()


def test_a_token_that_ends_a_text_and_begins_the_next_stands_once(bpe):
    """OPT's tokenizer: </s> before each text, which is its end-of-text token as well."""
    tokenizer = wrapped(bpe, "</s> $A", eos_token="</s>", bos_token="</s>", pad_token=bpe.pad_token)
    task = causal_lm(DOCUMENTS, tokenizer, TaskConfig(max_length=16))
    end = tokenizer.eos_token_id
    texts = [tokenizer(s, add_special_tokens=False)["input_ids"] for s in SENTENCES]
    inside = [token for text in texts for token in [*text, end]]
    assert all(row[0] == end for row in rows(task.train))
    assert [token for row in rows(task.train) for token in row[1:]] == inside
    assert torch.isin(next(iter(task.eval_batches(8)))["labels"], end).any()


@pytest.mark.parametrize("template", ["<s> $A </s>", "$A", "<s> <t> $A </s> </t>"])
def test_masked_blocks_are_wrapped_as_texts_are(bpe, template):
    """The second has cls and sep tokens that its template does not use."""
    bpe = wrapped(bpe, "[MASK] $A")
    tokenizer = wrapped(bpe, template, mask_token="[MASK]", cls_token="[MASK]", sep_token="[MASK]")
    before, after = (part.split() for part in template.split("$A"))
    head, tail = tokenizer.convert_tokens_to_ids(before), tokenizer.convert_tokens_to_ids(after)
    task = masked_lm(DOCUMENTS, tokenizer, TaskConfig(kind="masked-lm", max_length=16))
    found = rows(task.train)
    assert all(row[: len(head)] == head and row[len(row) - len(tail) :] == tail for row in found)
    inside = [token for row in found for token in row[len(head) : len(row) - len(tail)]]
    texts = [tokenizer(s, add_special_tokens=False)["input_ids"] for s in SENTENCES]
    flat = [token for text in texts for token in [*text, *tail]]
    assert inside == flat[: len(inside)]
    assert len(flat) - len(tail) - len(inside) <= 1  # one token that nothing could predict
    assert set(head + tail) <= set(task.collate.special)


def test_a_block_needs_space_beside_what_stands_around_a_text(bpe):
    tokenizer = wrapped(bpe, "<a> <b> <c> $A", eos_token=bpe.eos_token)
    with pytest.raises(
        ConfigError, match=r"task.max_length: 4; accepted for causal-lm with <a> and <b> and <c>: from 5"
    ):
        causal_lm(DOCUMENTS, tokenizer, TaskConfig(max_length=4))
    assert len(causal_lm(DOCUMENTS, tokenizer, TaskConfig(max_length=5)).train) > 10


# --- causal -------------------------------------------------------------------------------------------------


@given(blocks=st.lists(st.lists(IDS, min_size=2, max_size=6), min_size=1, max_size=5))
def test_causal_labels_are_the_next_tokens(blocks):
    batch = CausalCollator(pad_id=10)([sample(block) for block in blocks])  # 10 is also a token of the text
    assert batch["labels"].tolist() == reference.next_token_labels(blocks)
    assert [
        row[keep.bool()].tolist() for row, keep in zip(batch["input_ids"], batch["attention_mask"])
    ] == blocks


def test_causal_task(bpe):
    task = causal_lm(DOCUMENTS, bpe, TaskConfig(kind="causal-lm", max_length=16))
    inside = join(SENTENCES, bpe, suffix=[bpe.eos_token_id])[0].tolist()
    assert [token for row in rows(task.train) for token in row] == inside[: task.train.ends[-1]]
    assert bpe.decode([t for t in inside if t != bpe.eos_token_id]) == "".join(SENTENCES)
    assert (task.kind, task.tokens_per_sample, task.num_labels) == ("causal-lm", 16, None)
    assert "6 training documents" in task.notes[0]
    batch = next(iter(task.eval_batches(2)))
    positions = task.positions(batch)
    assert positions is not None
    assert positions.tolist() == [[True] * 15 + [False]] * 2
    assert task.token_positions(batch).all()
    assert [task.counts(batch, what) for what in ("samples", "tokens", "positions")] == [2, 32, 30]


def test_tokenizer_without_end_of_text(bpe):
    bare = PreTrainedTokenizerFast(tokenizer_object=bpe.backend_tokenizer)
    task = causal_lm(DOCUMENTS, bare, TaskConfig(max_length=16))
    assert any("no end-of-text token" in note for note in task.notes)
    assert bpe.eos_token_id not in task.train.tokens


def test_too_little_text(bpe, wordpiece):
    short = Documents([Record("a", None, "")], DOCUMENTS.held_out)
    with pytest.raises(DataError, match=r"task.data: the training text has 1 tokens; accepted: at least 2"):
        masked_lm(short, wordpiece, TaskConfig(kind="masked-lm"))
    assert rows(causal_lm(short, bpe, TaskConfig()).train) == [[*bpe("a")["input_ids"], bpe.eos_token_id]]


def test_held_out_blocks_are_capped(bpe):
    whole = causal_lm(DOCUMENTS, bpe, TaskConfig(max_length=8)).held_out
    capped = causal_lm(DOCUMENTS, bpe, TaskConfig(max_length=8, max_eval=3)).held_out
    assert len(capped) == 3 < len(whole)
    assert all(row in rows(whole) for row in rows(capped))


# --- masked -------------------------------------------------------------------------------------------------


def test_masked_task(wordpiece):
    task = masked_lm(DOCUMENTS, wordpiece, TaskConfig(kind="masked-lm", max_length=16))
    found = rows(task.train)
    cls, sep = wordpiece.cls_token_id, wordpiece.sep_token_id
    assert all(row[0] == cls and row[-1] == sep for row in found)
    text = [token for row in found for token in row[1:-1]]
    documents = [wordpiece(s, add_special_tokens=False)["input_ids"] for s in SENTENCES]
    assert text == [token for document in documents for token in [*document, sep]][:-1]
    batch = next(iter(task.eval_batches(3)))
    assert task.counts(batch, "positions") == int((batch["labels"] != -100).sum()) > 0
    assert task.counts(batch, "tokens") == int(batch["attention_mask"].sum())


def test_masks_have_their_rates():
    size, share, mask_id = 1000, 0.15, 4
    collate = MaskedCollator(pad_id=0, mask_id=mask_id, vocabulary=size, special=(0, 1, 2, 3, 4), share=share)
    tokens = np.arange(5, 505)
    chosen, masked, kept, other, drawn = 0, 0, 0, 0, []
    for t in range(400):
        batch = collate([sample(tokens, seed=1, t=t)])
        at = batch["labels"][0] != -100
        inputs, labels = batch["input_ids"][0][at], batch["labels"][0][at]
        assert torch.equal(batch["input_ids"][0][~at], torch.from_numpy(tokens)[~at])
        assert torch.equal(labels, torch.from_numpy(tokens)[at])
        chosen += int(at.sum())
        masked += int((inputs == mask_id).sum())
        kept += int((inputs == labels).sum())
        replaced = inputs[(inputs != mask_id) & (inputs != labels)]
        other += len(replaced)
        drawn += replaced.tolist()
    assert binomtest(chosen, 400 * 500, share).pvalue > 0.01
    # a random token is the mask or the token itself once in 1,000 each
    expected = np.asarray([0.8 + 1e-4, 0.1 + 1e-4, 0.1 - 2e-4]) * chosen
    assert chisquare([masked, kept, other], expected).pvalue > 0.01
    assert (
        chisquare(np.histogram(drawn, bins=10, range=(0, size))[0]).pvalue > 0.01
    )  # over the whole vocabulary


def test_masks_are_a_function_of_seed_and_place(wordpiece):
    task = masked_lm(DOCUMENTS, wordpiece, TaskConfig(kind="masked-lm", max_length=16))

    def batch(seed, t, alone):
        stream = task.stream(seed, t, 4)
        return task.collate([stream[0]] if alone else [stream[i] for i in range(4)])

    length = int(batch(5, 8, True)["attention_mask"].sum())
    for name in ("input_ids", "labels"):
        assert torch.equal(batch(5, 8, True)[name][0], batch(5, 8, False)[name][0][:length])
    size = len(task.train)
    same = [next(s for s in task.stream(0, epoch * size, size) if s.index == 0) for epoch in range(4)]
    assert (
        len({tuple(task.collate([s])["labels"][0].tolist()) for s in same}) > 1
    )  # other masks in other epochs


def test_evaluation_masks_are_fixed(wordpiece):
    task = masked_lm(DOCUMENTS, wordpiece, TaskConfig(kind="masked-lm", max_length=16))
    whole = task.collate(_held_out(task))
    for size in (1, 2, 5):
        labels = [
            row[keep.bool()]
            for b in task.eval_batches(size)
            for row, keep in zip(b["labels"], b["attention_mask"])
        ]
        expected = [row[keep.bool()] for row, keep in zip(whole["labels"], whole["attention_mask"])]
        assert all(torch.equal(a, b) for a, b in zip(labels, expected, strict=True))


def _held_out(task) -> list[Sample]:
    return [Sample(task.held_out[i], i, 0, i) for i in range(len(task.held_out))]


@given(tokens=st.lists(st.integers(0, 9), min_size=1, max_size=6), t=st.integers(0, 50))
def test_special_tokens_are_never_masked_and_every_block_has_a_loss(tokens, t):
    collate = MaskedCollator(pad_id=0, mask_id=4, vocabulary=10, special=(0, 1, 2, 3, 4), share=0.15)
    batch = collate([sample(tokens, t=t)])
    special = torch.tensor(tokens) < 5
    assert (batch["labels"][0][special] == -100).all()
    assert torch.equal(batch["input_ids"][0][special], torch.tensor(tokens)[special])
    assert bool((batch["labels"] != -100).any()) == (not special.all())


def test_masked_needs_a_mask_token(bpe):
    with pytest.raises(ConfigError, match=r"task.kind: masked-lm needs a mask token.*accepted: causal-lm"):
        masked_lm(DOCUMENTS, bpe, TaskConfig(kind="masked-lm"))


def test_masked_needs_room_for_the_ends(wordpiece):
    with pytest.raises(ConfigError, match=r"task.max_length: 3; accepted for masked-lm .*: from 4"):
        masked_lm(DOCUMENTS, wordpiece, TaskConfig(kind="masked-lm", max_length=3))
    assert masked_lm(DOCUMENTS, wordpiece, TaskConfig(kind="masked-lm", max_length=4)).train.mean_length == 4
