"""Texts → token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from vigreux.tasks.documents.sources import Record
from vigreux.tasks.table import TokenTable

TOKEN_TYPES = "token_type_ids"
_AT_ONCE = 1000  # documents per call, which bounds the number of ids in Python lists


def encode(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, **options: object
) -> Iterator[list[int]]:
    """Token ids of each text; `options` go to the tokenizer."""
    yield from (row["input_ids"] for row in encode_rows(texts, tokenizer, **options))


def encode_rows(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, **options: object
) -> Iterator[dict[str, list[int]]]:
    """The `input_ids` of each text, and its `token_type_ids` if the tokenizer makes them."""
    for start in range(0, len(texts), _AT_ONCE):
        batch = list(texts[start : start + _AT_ONCE])
        columns = tokenizer(batch, return_attention_mask=False, verbose=False, **options)
        for i in range(len(batch)):
            yield {name: columns[name][i] for name in ("input_ids", TOKEN_TYPES) if name in columns}


def encode_documents(
    records: Sequence[Record],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    labels: Sequence[int] | None = None,
) -> tuple[TokenTable, tuple[str, ...]]:
    """Encodes documents with special tokens, cut to `max_length`; returns a note if some were cut.

    `labels` are the class ids of the documents. Token types become a column unless all are 0, the default of
    the models.
    """
    rows = list(encode_rows([record.text for record in records], tokenizer))
    long = [i for i, row in enumerate(rows) if len(row["input_ids"]) > max_length]
    # The tokenizer cuts the texts, because it keeps the special tokens at the end.
    cut = encode_rows([records[i].text for i in long], tokenizer, truncation=True, max_length=max_length)
    for i, row in zip(long, cut):
        rows[i] = row
    columns = {}
    if any(any(row.get(TOKEN_TYPES, ())) for row in rows):
        columns[TOKEN_TYPES] = [np.asarray(row[TOKEN_TYPES], dtype=np.int64) for row in rows]
    share = f"{100 * len(long) / len(rows):.1f} % of the training documents"
    note = f"{share} are longer than task.max_length {max_length} and are cut"
    table = TokenTable.of_rows((row["input_ids"] for row in rows), labels, columns=columns)
    return table, (note,) if long else ()


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that pads a batch.

    The attention mask hides it, so any id serves if there is no padding token.
    """
    return next(i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None)
