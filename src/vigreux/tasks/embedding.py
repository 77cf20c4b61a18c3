"""Sentence embeddings: texts alone, the target is the teacher's pooled embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from vigreux.config import TaskConfig
from vigreux.tasks.encoding import encode_documents, padding_id
from vigreux.tasks.split import Documents
from vigreux.tasks.stream import Sample
from vigreux.tasks.table import TokenTable, pad
from vigreux.tasks.task import Batch, Task


def embedding(documents: Documents, tokenizer: PreTrainedTokenizerBase, config: TaskConfig) -> Task:
    """One vector a document."""
    rows, cut = encode_documents(documents.train, tokenizer, config.max_length)
    held_rows, _ = encode_documents(documents.held_out, tokenizer, config.max_length)
    table = TokenTable.of_rows(rows)
    held = TokenTable.of_rows(held_rows).draw(config.max_eval, config.split_seed)
    notes = (*documents.notes, f"{len(table)} training documents, {len(held)} held out", *cut)
    return Task("embedding", table, held, TextCollator(padding_id(tokenizer)), table.mean_length, notes=notes)


@dataclass(frozen=True)
class TextCollator:
    """input_ids (B, T) and attention_mask (B, T), padded to the batch's longest; no labels."""

    pad_id: int

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        ids, mask = pad([np.asarray(sample.example.inputs) for sample in samples], self.pad_id)
        return {"input_ids": ids, "attention_mask": mask}
