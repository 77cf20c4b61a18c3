"""Texts → token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from transformers import PreTrainedTokenizerBase

from vigreux.tasks.reading import Record

_AT_ONCE = 1000  # documents a call: bounds the ids that exist as Python lists


def encode(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, **options: object
) -> Iterator[list[int]]:
    """Token ids of each text; `options` are the tokenizer's own."""
    for start in range(0, len(texts), _AT_ONCE):
        part = list(texts[start : start + _AT_ONCE])
        yield from tokenizer(part, return_attention_mask=False, verbose=False, **options)["input_ids"]


def encode_documents(
    records: Sequence[Record], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[list[list[int]], tuple[str, ...]]:
    """Token ids of each document with its special tokens, cut to `max_length`; and a note where documents were cut."""
    rows = list(encode([record.text for record in records], tokenizer))
    long = [i for i, row in enumerate(rows) if len(row) > max_length]
    # Cut by the tokenizer, which keeps the special tokens at the end.
    cut = encode([records[i].text for i in long], tokenizer, truncation=True, max_length=max_length)
    for i, row in zip(long, cut):
        rows[i] = row
    share = f"{100 * len(long) / len(rows):.1f} % of the training documents"
    return rows, (f"{share} are longer than task.max_length {max_length} and are cut",) if long else ()


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """What fills a batch behind the attention mask; any id serves a tokenizer that has no padding token."""
    return next(i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None)
