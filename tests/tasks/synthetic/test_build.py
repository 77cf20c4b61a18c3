"""Tasks drawn from a law: samples are functions of seed and place, held-out ones are never trained on, labels
are the law's.
"""

import numpy as np
import pytest
import torch

from vigreux.config.transformer import TaskConfig
from vigreux.errors import ConfigError, DataError
from vigreux.tasks.build import build_task
from vigreux.tasks.synthetic.build import generated_tokenizer, is_generated
from vigreux.tasks.synthetic.parity import HierarchicalParity, Parity
from vigreux.tasks.task import IGNORE

PARITY = TaskConfig(kind="classification", data="parity:n=12,k=3,seed=5", max_length=16, max_eval=300)
MASKED = TaskConfig(kind="masked-lm", data="grammar:cfg3b:k", max_length=64, mask_share=0.3, max_eval=50)
CAUSAL = TaskConfig(kind="causal-lm", data="grammar:cfg3f", max_length=700, max_eval=5)


def changed(config: TaskConfig, **changes) -> TaskConfig:
    from dataclasses import replace

    return replace(config, **changes)


def task_of(config: TaskConfig):
    return build_task(config, generated_tokenizer(config))


def batch_of(task, seed=0, start=0, count=8):
    stream = task.stream(seed, start, count)
    return task.collate([stream[i] for i in range(count)])


@pytest.mark.parametrize("data", ["grammar:cfg3b", "parity:n=3", "hierarchical-parity:"])
def test_laws_are_told_from_documents(data):
    assert is_generated(data)
    assert not is_generated(data.partition(":")[0] + ".txt")
    assert not is_generated("wikitext:wikitext-2")


# --- parity -------------------------------------------------------------------------------------------------


def test_parity_labels_are_those_of_its_bits():
    task = task_of(PARITY)
    batch = batch_of(task, count=500)
    tokenizer = generated_tokenizer(PARITY)
    assert (batch["input_ids"][:, 0] == tokenizer.bos_token_id).all()
    bits = batch["input_ids"][:, 1:]
    assert set(bits.unique().tolist()) == {0, 1}
    assert batch["labels"].tolist() == Parity.draw(12, 3, 5).labels(2 * bits.numpy() - 1).tolist()
    assert task.id2label == {0: "-1", 1: "+1"}


def test_hierarchical_parity_has_a_class_a_leaf():
    config = changed(PARITY, data="hierarchical-parity:n=12,k=2,classes=4,seed=1")
    batch = batch_of(task_of(config), count=200)
    law = HierarchicalParity.draw(12, 2, 4, 1)
    assert batch["labels"].tolist() == law.labels(2 * batch["input_ids"][:, 1:].numpy() - 1).tolist()
    assert set(batch["labels"].tolist()) == {0, 1, 2, 3}


# --- the stream ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [PARITY, MASKED, CAUSAL], ids=["parity", "masked", "causal"])
def test_sample_t_is_a_function_of_seed_and_t(config):
    whole = batch_of(task_of(config), seed=3, count=12)
    fresh = task_of(config)  # read from another place first, and backwards
    batch_of(fresh, seed=4, start=1000, count=2)
    later = batch_of(fresh, seed=3, start=4, count=8)
    width = later["input_ids"].shape[1]
    assert torch.equal(whole["input_ids"][4:, :width], later["input_ids"])
    assert not torch.equal(batch_of(fresh, seed=4, count=12)["input_ids"][:, :8], whole["input_ids"][:, :8])


def test_held_out_samples_are_of_another_stream():
    task = task_of(PARITY)
    held = {tuple(task.held_out[i].inputs.tolist()) for i in range(50)}
    trained = {
        tuple(row) for seed in range(3) for row in batch_of(task, seed=seed, count=50)["input_ids"].tolist()
    }
    assert (
        len(held & trained) < 10
    )  # of 4,096 inputs some come twice by chance; equal streams would share all


def test_a_fixed_number_of_samples_comes_again_every_epoch():
    task = task_of(changed(PARITY, max_train=10))
    assert task.train_samples == 10
    stream = task.stream(0, 0, 20)
    first, second = (
        [tuple(stream[i].example.inputs.tolist()) for i in span] for span in (range(10), range(10, 20))
    )
    assert sorted(first) == sorted(second)
    assert task_of(PARITY).train_samples is None


# --- grammars -----------------------------------------------------------------------------------------------


def test_masked_tokens_can_be_hidden_from_attention():
    seen, hidden = (task_of(changed(MASKED, attend_masked=attend)) for attend in (True, False))
    one, other = batch_of(seen, count=40), batch_of(hidden, count=40)
    mask_id = generated_tokenizer(MASKED).mask_token_id
    assert torch.equal(one["input_ids"], other["input_ids"])
    masked = one["input_ids"] == mask_id
    assert masked.any()
    assert (one["attention_mask"][masked] == 1).all()
    assert torch.equal(other["attention_mask"], one["attention_mask"].masked_fill(masked, 0))
    assert torch.equal(hidden.token_positions(other), one["attention_mask"].bool())  # they count all the same
    chosen = one["labels"] != IGNORE
    assert 0.25 < chosen.sum() / (one["labels"].numel() - 2 * 40) < 0.35
    terminals = one["input_ids"][chosen & ~masked]
    assert set(terminals.tolist()) <= {0, 1, 2}  # what stands in at random is a terminal


def test_only_tokens_at_boundaries_are_predicted():
    counts = []
    for level in range(4):
        task = task_of(changed(CAUSAL, boundary_level=level))
        batch = batch_of(task, count=4)
        stream = task.stream(0, 0, 4)
        for i in range(4):
            example = stream[i].example
            wanted = np.flatnonzero(example.levels >= level) if level else np.arange(1, len(example.inputs))
            found = torch.nonzero(batch["labels"][i] != IGNORE).flatten().numpy()
            assert found.tolist() == (wanted - 1).tolist()
            assert batch["labels"][i][found].tolist() == example.inputs[wanted].tolist()
        counts.append(int((batch["labels"] != IGNORE).sum()))
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 2 * counts[1] > 2 * counts[3] > 0


def test_long_sentences_are_cut_and_the_note_says_so():
    task = task_of(changed(CAUSAL, max_length=30))
    assert batch_of(task)["input_ids"].shape == (8, 30)
    assert any(
        note.startswith("100.0 % of the sentences are longer than task.max_length 30") for note in task.notes
    )
    assert not any("cut" in note for note in task_of(MASKED).notes)


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (
            changed(PARITY, kind="causal-lm"),
            ConfigError,
            "task.kind: 'causal-lm' on parity; accepted: classification",
        ),
        (changed(MASKED, kind="classification"), ConfigError, "on a grammar; accepted: masked-lm, causal-lm"),
        (changed(PARITY, data="parity:n=x"), ConfigError, "task.data: 'parity:n=x'; accepted"),
        (
            changed(PARITY, data="parity:n=9,k=2,seed=-1"),
            ConfigError,
            "seed -1; accepted: a whole number from 0",
        ),
        (changed(PARITY, data="parity:width=3"), ConfigError, "accepted after parity: n, k, seed"),
        (changed(PARITY, data="parity:n=3,k=5"), ConfigError, "task.k: 5; accepted: 1 to task.n = 3"),
        (changed(PARITY, max_length=12), ConfigError, "task.max_length: 12; accepted: from 13"),
        (changed(CAUSAL, boundary_level=9), ConfigError, "task.boundary_level: 9; accepted: 0 to 6"),
        (changed(MASKED, data="grammar:cfg9"), DataError, "cfg9"),
        (changed(MASKED, data="grammar:cfg3b:zz"), DataError, "zz"),
    ],
)
def test_what_cannot_be_drawn_gets_one_line(config, error, message):
    with pytest.raises(error) as caught:
        task_of(config)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_something_else_is_refused():
    with pytest.raises(ConfigError, match="the model's tokenizer"):
        build_task(PARITY, generated_tokenizer(MASKED))
