"""Training and held-out documents, drawn by a seed. Copies of one text are never on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vigreux.errors import DataError
from vigreux.tasks.documents.sources import Record


class Documents(NamedTuple):
    """Training and held-out documents.

    Args:
        train: documents to train on.
        held_out: documents to evaluate on.
        notes: notes for the user.
    """

    train: list[Record]
    held_out: list[Record]
    notes: tuple[str, ...] = ()


def split_records(
    records: Sequence[Record], eval_share: float, seed: int
) -> tuple[list[Record], list[Record]]:
    """Holds out `eval_share` of the distinct documents, at least one.

    All copies of a text go to the same side; differences in white space do not count.

    Returns:
        Training and held-out records, both in the order of `records`.

    Raises:
        DataError: fewer than two distinct documents.
    """
    texts = [_normalised(record.text) for record in records]
    # In order of first appearance, so that the draw depends only on the data and the seed.
    distinct = list(dict.fromkeys(texts))
    if len(distinct) < 2:
        accepted = "at least 2 (in .txt, paragraphs between blank lines), or task.eval_data"
        raise DataError(
            f"task.data: {len(distinct)} distinct document, which cannot be split; accepted: {accepted}"
        )
    count = min(max(1, round(eval_share * len(distinct))), len(distinct) - 1)
    chosen = {distinct[i] for i in np.random.default_rng(seed % 2**64).permutation(len(distinct))[:count]}
    train = [record for record, text in zip(records, texts) if text not in chosen]
    return train, [record for record, text in zip(records, texts) if text in chosen]


def draw_records(records: list[Record], most: int | None, seed: int) -> list[Record]:
    """At most `most` records, drawn by `seed`, in their order."""
    if most is None or len(records) <= most:
        return records
    return [records[i] for i in np.sort(np.random.default_rng(seed % 2**64).permutation(len(records))[:most])]


def check_overlap(train: Sequence[Record], held_out: Sequence[Record], *, allow: bool) -> str | None:
    """Finds held-out documents that are also training documents; white space does not count.

    Returns:
        `None` without overlap; a note on the overlap if `allow` is set.

    Raises:
        DataError: there is overlap and `allow` is not set.
    """
    train_texts = {_normalised(record.text) for record in train}
    shared = [record for record in held_out if _normalised(record.text) in train_texts]
    if not shared:
        return None
    overlap = f"{len(shared)} of {len(held_out)} held-out documents also occur in the training data"
    if allow:
        return overlap
    first = _normalised(shared[0].text)
    excerpt = first if len(first) <= 60 else first[:59] + "…"
    example = f"such as {shared[0].where} ({excerpt!r})"
    raise DataError(f"task.eval_data: {overlap}, {example}; accepted: none, unless task.allow_overlap is set")


def _normalised(text: str) -> str:
    return " ".join(text.split())
