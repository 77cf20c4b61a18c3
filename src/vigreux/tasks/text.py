"""Causal and masked language modelling: documents packed into blocks of `max_length` tokens.

Documents follow one another with a separator between (causal: the end-of-text token, as GPT-2 was trained; masked: [SEP],
RoBERTa's FULL-SENTENCES, Liu et al. 2019, section 4.2) and are cut without regard to their ends, so that no block is padded; only
the last one may be shorter. Attention crosses documents within a block, as is customary.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from vigreux.config import TaskConfig
from vigreux.errors import ConfigError, DataError
from vigreux.tasks.encoding import encode, padding_id
from vigreux.tasks.split import Documents
from vigreux.tasks.stream import Example, Sample
from vigreux.tasks.table import TokenTable, pad, pad_inputs
from vigreux.tasks.task import IGNORE, Batch, Task

# --- packing --------------------------------------------------------------------------------------------------------


def join(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, separator: int | None) -> np.ndarray:
    """(total,) int32: the ids of all texts in a row, `separator` after each."""
    flat = array("i")
    for ids in encode(texts, tokenizer, add_special_tokens=False):
        flat.extend(ids)
        if separator is not None:
            flat.append(separator)
    return np.asarray(flat, dtype=np.int32)


def cut(flat: np.ndarray, length: int, *, first: int | None = None, last: int | None = None) -> TokenTable:
    """Blocks of `length` tokens, with `first` before and `last` after each; a last block of one token is dropped."""
    head, tail = (np.asarray([] if token is None else [token], dtype=np.int32) for token in (first, last))
    body = length - len(head) - len(tail)
    starts = range(0, len(flat) - 1, body)
    return TokenTable.of_rows(np.concatenate([head, flat[start : start + body], tail]) for start in starts)


def _packed(
    documents: Documents,
    tokenizer: PreTrainedTokenizerBase,
    config: TaskConfig,
    *,
    separator: int | None,
    first: int | None = None,
    last: int | None = None,
) -> tuple[TokenTable, TokenTable, tuple[str, ...]]:
    """Training blocks, held-out blocks (at most `max_eval`), and the notes with one of their sizes."""
    tables = []
    for name, records in (("training", documents.train), ("held-out", documents.held_out)):
        flat = join([record.text for record in records], tokenizer, separator)
        if last is not None:
            flat = flat[:-1]  # the last block's own end closes the last document
        if len(flat) < 2:
            raise DataError(f"task.data: the {name} text has {len(flat)} tokens; accepted: at least 2")
        tables.append(cut(flat, config.max_length, first=first, last=last))
    blocks, held = tables[0], tables[1].draw(config.max_eval, config.split_seed)
    sizes = f"{len(documents.train)} training documents, {len(blocks.tokens)} tokens in {len(blocks)} blocks of {config.max_length}"
    return blocks, held, (*documents.notes, f"{sizes}; {len(held)} held-out blocks")


# --- causal ---------------------------------------------------------------------------------------------------------


def causal_lm(documents: Documents, tokenizer: PreTrainedTokenizerBase, config: TaskConfig) -> Task:
    """Next-token prediction; each document is followed by the end-of-text token, which is predicted too."""
    end = tokenizer.eos_token_id
    blocks, held, notes = _packed(documents, tokenizer, config, separator=end)
    if end is None:
        notes += (
            "the tokenizer has no end-of-text token: documents follow one another with nothing between",
        )
    collate = CausalCollator(padding_id(tokenizer))
    return Task("causal-lm", blocks, held, collate, config.max_length, notes=notes)


@dataclass(frozen=True)
class CausalCollator:
    """The model's inputs (see `pad_inputs`) and labels (B, T): `labels[b, t] = input_ids[b, t + 1]`, −100 at row ends.

    Labels that an example brings take their place. A token that the attention mask hides neither predicts nor is
    predicted. With a boundary level (sentences of a grammar) only tokens that end a non-terminal of this level or a
    higher one are predicted.
    """

    pad_id: int
    boundary_level: int = 0

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        examples = [sample.example for sample in samples]
        inputs = pad_inputs(examples, self.pad_id)
        if (labels := pad_token_labels(examples)) is not None:
            return inputs | {"labels": labels}
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        labels = torch.full_like(ids, IGNORE)
        labels[:, :-1] = ids[:, 1:].masked_fill((mask[:, 1:] == 0) | (mask[:, :-1] == 0), IGNORE)
        if self.boundary_level:
            levels, _ = pad([np.asarray(sample.example.levels) for sample in samples], 0)
            labels[:, :-1].masked_fill_(levels[:, 1:] < self.boundary_level, IGNORE)
        return inputs | {"labels": labels}


def pad_token_labels(examples: Sequence[Example]) -> Tensor | None:
    """(B, T) the labels that examples bring for each token, −100 behind their ends; `None` where they bring none."""
    rows = [example.token_labels for example in examples if example.token_labels is not None]
    if not rows:
        return None
    assert len(rows) == len(examples), "all examples of a data set bring labels, or none"
    return pad(rows, IGNORE)[0]


# --- masked ---------------------------------------------------------------------------------------------------------


def masked_lm(documents: Documents, tokenizer: PreTrainedTokenizerBase, config: TaskConfig) -> Task:
    """Prediction of hidden tokens, in blocks [CLS] … [SEP] where the tokenizer has these; training masks change every epoch."""
    if tokenizer.mask_token_id is None:
        raise ConfigError(
            "task.kind: masked-lm needs a mask token, and this tokenizer has none; accepted: causal-lm"
        )
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    if config.max_length < 2 + (first is not None) + (last is not None):
        raise ConfigError(
            f"task.max_length: {config.max_length}; accepted for masked-lm with [CLS] and [SEP]: from 4"
        )
    blocks, held, notes = _packed(documents, tokenizer, config, separator=last, first=first, last=last)
    special = tuple(tokenizer.all_special_ids)
    pad, mask = padding_id(tokenizer), tokenizer.mask_token_id
    collate = MaskedCollator(pad, mask, len(tokenizer), special, config.mask_share, config.attend_masked)
    return Task("masked-lm", blocks, held, collate, config.max_length, notes=notes)


@dataclass(frozen=True)
class MaskedCollator:
    """The model's inputs (see `pad_inputs`), some tokens hidden, and labels (B, T): what was hidden, −100 elsewhere.

    Each token that is not special is chosen with probability `share`; of the chosen 80 % become [MASK], 10 % any
    token, 10 % stay (Devlin et al. 2019, section 3.1). Where none is chosen, one is, so that every block carries a
    loss. A function of (seed, t). A token that the example's own attention mask hides is not chosen. An example that
    brings labels has been hidden by its maker, and stays as it is.

    Without `attend`, [MASK] tokens are hidden from attention, so that their number cannot be seen; they are predicted all the same.
    """

    pad_id: int
    mask_id: int
    vocabulary: int
    special: tuple[int, ...]
    share: float
    attend: bool = True

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        examples = [sample.example for sample in samples]
        if (given := pad_token_labels(examples)) is not None:
            return pad_inputs(examples, self.pad_id) | {"labels": given}
        hidden = [self._hide(sample) for sample in samples]
        rows = [example._replace(inputs=ids) for example, (ids, _) in zip(examples, hidden)]
        inputs = pad_inputs(rows, self.pad_id)
        if not self.attend:
            inputs["attention_mask"][inputs["input_ids"] == self.mask_id] = 0
        labels, _ = pad([row for _, row in hidden], IGNORE)
        return inputs | {"labels": labels}

    def _hide(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """Input ids (n,) and labels (n,) of one block."""
        ids, columns = np.asarray(sample.example.inputs), sample.example.columns
        random = sample.generator()
        draw, fate = random.random((2, len(ids)))
        anything = random.integers(self.vocabulary, size=len(ids))
        draw[np.isin(ids, self.special)] = np.inf
        if "attention_mask" in columns:
            draw[columns["attention_mask"] == 0] = np.inf
        chosen = draw < self.share
        if not chosen.any():
            chosen[draw.argmin()] = np.isfinite(draw.min())
        replaced = np.where(fate < 0.8, self.mask_id, np.where(fate < 0.9, anything, ids))
        return np.where(chosen, replaced, ids), np.where(chosen, ids, IGNORE)
