"""Sentence embeddings: texts without labels; the target is the teacher's pooled embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from vigreux.config.transformer import TaskConfig
from vigreux.tasks.documents.split import Documents
from vigreux.tasks.encoding import encode_documents, padding_id
from vigreux.tasks.kinds.base import TaskBuilder
from vigreux.tasks.stream import Sample
from vigreux.tasks.table import pad_inputs
from vigreux.tasks.task import Batch, Task


def embedding(documents: Documents, tokenizer: PreTrainedTokenizerBase, config: TaskConfig) -> Task:
    """One vector per document."""
    table, cut = encode_documents(documents.train, tokenizer, config.max_length)
    held_out, _ = encode_documents(documents.held_out, tokenizer, config.max_length)
    held_out = held_out.draw(config.max_eval, config.split_seed)
    notes = (*documents.notes, f"{len(table)} training documents, {len(held_out)} held out", *cut)
    return Task(
        "embedding", table, held_out, TextCollator(padding_id(tokenizer)), table.mean_length, notes=notes
    )


@dataclass(frozen=True)
class TextCollator:
    """The model's inputs, padded to the batch's longest (see `pad_inputs`); no labels."""

    pad_id: int

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        return pad_inputs([sample.example for sample in samples], self.pad_id)


EMBEDDING = TaskBuilder(
    from_documents=lambda documents, tokenizer, config, classes: embedding(documents, tokenizer, config),
    collator=lambda tokenizer, mask_share: TextCollator(padding_id(tokenizer)),
)
