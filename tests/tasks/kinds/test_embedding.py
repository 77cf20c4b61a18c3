"""Sentence embeddings: texts alone."""

from tests.tasks.conftest import SENTENCES
from vigreux.config.transformer import TaskConfig
from vigreux.tasks.documents.sources import Record
from vigreux.tasks.documents.split import Documents
from vigreux.tasks.kinds.embedding import embedding


def test_task(wordpiece):
    data = Documents(
        [Record(s, None, "") for s in SENTENCES[:4]], [Record(s, None, "") for s in SENTENCES[4:]]
    )
    task = embedding(data, wordpiece, TaskConfig(kind="embedding", max_length=12))
    assert (task.kind, task.num_labels) == ("embedding", None)
    (batch,) = task.eval_batches(4)
    assert set(batch) == {"input_ids", "attention_mask"}
    assert task.positions(batch) is None
    assert task.counts(batch, "positions") == task.counts(batch, "samples") == 2
    assert task.token_positions(batch).sum() == task.counts(batch, "tokens")
    assert batch["input_ids"].shape[1] <= 12
    assert "are cut" in task.notes[1]
