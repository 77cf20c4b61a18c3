"""Causal and masked language modelling: documents packed into blocks of at most `max_length` tokens.

Documents follow one another and are cut anywhere, so that no block is padded. Only the last block can be
shorter. Attention crosses documents within a block, as is customary. Blocks also contain the tokens that the
tokenizer puts before and after a text, because models are trained with them:

* causal: each block, and each document inside a block, begins with the tokens that the tokenizer puts before
  a text (none for GPT-2). A document ends with the tokens that the tokenizer puts after a text, else with the
  end-of-text token. An end of text is predicted; the tokens before a text are not.
* masked: each block is wrapped like a text ([CLS] … [SEP]), and the tokens after a text separate documents
  inside a block (RoBERTa's FULL-SENTENCES, Liu et al. 2019, section 4.2).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from vigreux.config.transformer import TaskConfig
from vigreux.errors import ConfigError, DataError
from vigreux.tasks.documents.split import Documents
from vigreux.tasks.encoding import encode, padding_id
from vigreux.tasks.kinds.base import TaskBuilder
from vigreux.tasks.rows.columns import MASK, SPECIAL_MASK
from vigreux.tasks.stream import Example, Sample
from vigreux.tasks.table import TokenTable, pad, pad_inputs
from vigreux.tasks.task import IGNORE, Batch, Task
from vigreux.tasks.tokenizers import Wrapping, wrapping

# Characters of a text that are encoded to find the tokens around it.
_PROBED = 200

# --- packing ------------------------------------------------------------------------------------------------


def join(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    prefix: Sequence[int] = (),
    suffix: Sequence[int] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Joins all texts, with `prefix` before and `suffix` after each of them.

    Returns:
        (total,) int32 token ids, and (n,) int64 the index where each text begins, its prefix included.
    """
    flat = array("i")
    starts = array("q")
    for ids in encode(texts, tokenizer, add_special_tokens=False):
        starts.append(len(flat))
        flat.extend(prefix)
        flat.extend(ids)
        flat.extend(suffix)
    return np.asarray(flat, dtype=np.int32), np.asarray(starts, dtype=np.int64)


def cut(
    flat: np.ndarray, length: int, *, prefix: Sequence[int] = (), suffix: Sequence[int] = ()
) -> TokenTable:
    """Blocks of `length` tokens that begin with `prefix` and end with `suffix`.

    A last block with a single token of text is dropped.
    """
    head = np.asarray(prefix, dtype=np.int32)
    tail = np.asarray(suffix, dtype=np.int32)
    body = length - len(head) - len(tail)
    starts = range(0, len(flat) - 1, body)
    return TokenTable.of_rows(np.concatenate([head, flat[start : start + body], tail]) for start in starts)


def cut_documents(flat: np.ndarray, starts: np.ndarray, length: int, prefix: Sequence[int]) -> TokenTable:
    """Blocks of at most `length` tokens, all of which begin with `prefix`, as each document does.

    A block that would begin inside the prefix of a document begins at this document. A last block with
    nothing to predict is dropped.

    Args:
        flat: (total,) token ids of all documents.
        starts: (n,) the index where each document begins.
        length: tokens of a block; more than `prefix` has.
        prefix: the tokens that each document begins with.
    """
    head = np.asarray(prefix, dtype=np.int32)
    blocks: list[np.ndarray] = []
    position = 0
    while position < len(flat):
        start = int(starts[np.searchsorted(starts, position, side="right") - 1])
        if position - start <= len(head):
            block = flat[start : start + length]
            position = start + len(block)
        else:
            block = np.concatenate([head, flat[position : position + length - len(head)]])
            position += length - len(head)
        blocks.append(block)
    if len(blocks) > 1 and len(blocks[-1]) <= max(len(head), 1):
        blocks.pop()
    return TokenTable.of_rows(blocks)


def _packed(
    documents: Documents,
    config: TaskConfig,
    in_a_row: Callable[[list[str]], tuple[np.ndarray, np.ndarray]],
    into_blocks: Callable[[np.ndarray, np.ndarray], TokenTable],
) -> tuple[TokenTable, TokenTable, tuple[str, ...]]:
    """Training blocks, held-out blocks (at most `max_eval`), and notes."""
    tables = []
    for name, records in (("training", documents.train), ("held-out", documents.held_out)):
        flat, starts = in_a_row([record.text for record in records])
        if len(flat) < 2:
            raise DataError(f"task.data: the {name} text has {len(flat)} tokens; accepted: at least 2")
        tables.append(into_blocks(flat, starts))
    blocks = tables[0]
    held_out = tables[1].draw(config.max_eval, config.split_seed)
    sizes = (
        f"{len(documents.train)} training documents, {len(blocks.tokens)} tokens in {len(blocks)} blocks of"
        f" {config.max_length}; {len(held_out)} held-out blocks"
    )
    return blocks, held_out, (*documents.notes, sizes)


def _wrapping(
    documents: Documents, tokenizer: PreTrainedTokenizerBase, config: TaskConfig
) -> Wrapping | None:
    """The tokens that the tokenizer puts around these texts; `None` if they cannot be determined.

    Raises:
        ConfigError: a block has no space for text besides these tokens.
    """
    around = wrapping(tokenizer, [record.text[:_PROBED] for record in documents.train[:3]])
    tokens = (*around.before, *around.after) if around is not None else ()
    if config.max_length < 2 + len(tokens):
        names = " and ".join(map(str, tokenizer.convert_ids_to_tokens(list(tokens))))
        raise ConfigError(
            f"task.max_length: {config.max_length}; accepted for {config.kind} with {names}: from"
            f" {2 + len(tokens)}"
        )
    return around


# --- causal -------------------------------------------------------------------------------------------------


def causal_lm(documents: Documents, tokenizer: PreTrainedTokenizerBase, config: TaskConfig) -> Task:
    """Next-token prediction. The end-of-text token follows each document and is predicted, too.

    The tokens that the tokenizer puts before a text begin each block and each document. They are not
    predicted: packing chooses what precedes a document, not the text.
    """
    around = _wrapping(documents, tokenizer, config)
    is_unknown = around is None
    around = around or Wrapping((), ())
    end = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)
    prefix = around.before
    suffix = around.after or end
    # A token that ends a text and also begins the next (OPT's </s>) stands between them once.
    between = () if prefix == suffix else prefix

    def into_blocks(flat: np.ndarray, starts: np.ndarray) -> TokenTable:
        if between:
            return cut_documents(flat, starts, config.max_length, between)
        return cut(flat, config.max_length, prefix=prefix)

    in_a_row = partial(join, tokenizer=tokenizer, prefix=between, suffix=suffix)
    blocks, held_out, notes = _packed(documents, config, in_a_row, into_blocks)
    if prefix:
        names = " ".join(map(str, tokenizer.convert_ids_to_tokens(list(prefix))))
        notes += (f"each block begins with {names}, as the tokenizer begins a text",)
    if not suffix:
        notes += (
            "the tokenizer has no end-of-text token: documents follow one another with nothing between",
        )
    if is_unknown:
        notes += ("the tokens that the tokenizer puts before a text are unknown: blocks begin without them",)
    collate = CausalCollator(padding_id(tokenizer), prefix=between)
    return Task("causal-lm", blocks, held_out, collate, config.max_length, notes=notes)


@dataclass(frozen=True)
class CausalCollator:
    """The model's inputs (see `pad_inputs`), and labels (B, T) for the next token.

    `labels[b, t] = input_ids[b, t + 1]`, and −100 at row ends. Labels of an example replace these. A token
    that the attention mask hides neither predicts nor is predicted. With a boundary level (sentences of a
    grammar), only tokens that end a non-terminal of this level or a higher one are predicted. The tokens of
    `prefix`, with which documents begin, are not predicted.
    """

    pad_id: int
    boundary_level: int = 0
    prefix: tuple[int, ...] = ()

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        examples = [sample.example for sample in samples]
        inputs = pad_inputs(examples, self.pad_id)
        if (labels := pad_token_labels(examples)) is not None:
            return inputs | {"labels": labels}
        ids = inputs["input_ids"]
        mask = inputs["attention_mask"]
        labels = torch.full_like(ids, IGNORE)
        labels[:, :-1] = ids[:, 1:].masked_fill((mask[:, 1:] == 0) | (mask[:, :-1] == 0), IGNORE)
        if self.boundary_level:
            levels, _ = pad([np.asarray(sample.example.levels) for sample in samples], 0)
            labels[:, :-1].masked_fill_(levels[:, 1:] < self.boundary_level, IGNORE)
        length = len(self.prefix)
        if length and ids.shape[1] >= length:
            begins = (ids.unfold(1, length, 1) == torch.tensor(self.prefix)).all(-1)  # (B, T − length + 1)
            for i in range(length):
                is_token_i = F.pad(begins, (i, length - 1 - i))  # (B, T), True at token i of a prefix
                labels[:, :-1].masked_fill_(is_token_i[:, 1:], IGNORE)
        return inputs | {"labels": labels}


def pad_token_labels(examples: Sequence[Example]) -> Tensor | None:
    """(B, T) the labels that examples have for their tokens, padded with −100; `None` if they have none."""
    rows = [example.token_labels for example in examples if example.token_labels is not None]
    if not rows:
        return None
    assert len(rows) == len(examples), "all examples of a data set have labels of tokens, or none"
    return pad(rows, IGNORE)[0]


# --- masked -------------------------------------------------------------------------------------------------


def masked_lm(documents: Documents, tokenizer: PreTrainedTokenizerBase, config: TaskConfig) -> Task:
    """Prediction of hidden tokens, in blocks wrapped like a text ([CLS] … [SEP]).

    Training masks change each epoch.
    """
    if tokenizer.mask_token_id is None:
        raise ConfigError(
            "task.kind: masked-lm needs a mask token, and this tokenizer has none; accepted: causal-lm"
        )
    around = _wrapping(documents, tokenizer, config)
    if around is None:
        ends = (
            (token,) if token is not None else ()
            for token in (tokenizer.cls_token_id, tokenizer.sep_token_id)
        )
        around = Wrapping(*ends)

    def in_a_row(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        flat, starts = join(texts, tokenizer, suffix=around.after)
        # The end of the last block also ends the last document.
        return flat[: len(flat) - len(around.after)], starts

    def into_blocks(flat: np.ndarray, starts: np.ndarray) -> TokenTable:
        return cut(flat, config.max_length, prefix=around.before, suffix=around.after)

    blocks, held_out, notes = _packed(documents, config, in_a_row, into_blocks)
    special = tuple(dict.fromkeys([*tokenizer.all_special_ids, *around.before, *around.after]))
    pad = padding_id(tokenizer)
    mask = tokenizer.mask_token_id
    collate = MaskedCollator(pad, mask, len(tokenizer), special, config.mask_share, config.attend_masked)
    return Task("masked-lm", blocks, held_out, collate, config.max_length, notes=notes)


@dataclass(frozen=True)
class MaskedCollator:
    """The model's inputs (see `pad_inputs`) with hidden tokens, and labels (B, T) for these tokens.

    Labels are −100 at all other tokens. Each token that is not special is chosen with probability `share`. Of
    the chosen ones, 80 % become [MASK], 10 % a random token, and 10 % stay (Devlin et al. 2019, section 3.1).
    If none is chosen, the one with the smallest draw is, so that each block has a loss. The choice is a
    function of (seed, t). Tokens that the example's masks hide or mark as special are not chosen. An example
    with labels is already masked and stays unchanged.

    Without `attend`, [MASK] tokens are hidden from attention, so that the model cannot see their number. They
    are still predicted.
    """

    pad_id: int
    mask_id: int
    vocabulary: int
    special: tuple[int, ...]
    share: float
    attend: bool = True

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        examples = [sample.example for sample in samples]
        if (token_labels := pad_token_labels(examples)) is not None:
            return pad_inputs(examples, self.pad_id) | {"labels": token_labels}
        hidden = [self._hide(sample) for sample in samples]
        rows = [
            example._replace(inputs=ids, columns=_without_special_mask(example))
            for example, (ids, _) in zip(examples, hidden)
        ]
        inputs = pad_inputs(rows, self.pad_id)
        if not self.attend:
            inputs["attention_mask"][inputs["input_ids"] == self.mask_id] = 0
        labels, _ = pad([row for _, row in hidden], IGNORE)
        return inputs | {"labels": labels}

    def _hide(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """Input ids (n,) and labels (n,) of one block."""
        ids = np.asarray(sample.example.inputs)
        columns = sample.example.columns
        random = sample.generator()
        draw, fate = random.random((2, len(ids)))
        anything = random.integers(self.vocabulary, size=len(ids))
        draw[(ids[:, None] == np.asarray(self.special, ids.dtype)).any(axis=1)] = np.inf
        if MASK in columns:
            draw[columns[MASK] == 0] = np.inf
        if SPECIAL_MASK in columns:
            draw[columns[SPECIAL_MASK] == 1] = np.inf
        chosen = draw < self.share
        if not chosen.any():
            chosen[draw.argmin()] = np.isfinite(draw.min())
        replaced = np.where(fate < 0.8, self.mask_id, np.where(fate < 0.9, anything, ids))
        return np.where(chosen, replaced, ids), np.where(chosen, ids, IGNORE)


def _without_special_mask(example: Example) -> dict[str, np.ndarray]:
    return {name: values for name, values in example.columns.items() if name != SPECIAL_MASK}


# --- the kinds ----------------------------------------------------------------------------------------------


def _masked_collator(tokenizer: PreTrainedTokenizerBase, mask_share: float) -> MaskedCollator:
    """The collator of rows from Python. Raises `ConfigError` for a tokenizer without a mask token."""
    if tokenizer.mask_token_id is None:
        raise ConfigError("processing_class: masked-lm needs a mask token, and this tokenizer has none")
    special = tuple(tokenizer.all_special_ids)
    return MaskedCollator(padding_id(tokenizer), tokenizer.mask_token_id, len(tokenizer), special, mask_share)


CAUSAL_LM = TaskBuilder(
    from_documents=lambda documents, tokenizer, config, classes: causal_lm(documents, tokenizer, config),
    collator=lambda tokenizer, mask_share: CausalCollator(padding_id(tokenizer)),
)
MASKED_LM = TaskBuilder(
    from_documents=lambda documents, tokenizer, config, classes: masked_lm(documents, tokenizer, config),
    collator=_masked_collator,
)
