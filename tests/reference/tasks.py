"""Slow, obvious versions of packing, label alignment and evaluation."""

import math

import numpy as np


def packed(documents: list[list[int]], length: int, separator: int | None) -> list[list[int]]:
    """Tokens one by one into blocks of `length`."""
    blocks: list[list[int]] = [[]]
    for document in documents:
        for token in document + ([] if separator is None else [separator]):
            if len(blocks[-1]) == length:
                blocks.append([])
            blocks[-1].append(token)
    return blocks


def packed_documents(
    documents: list[list[int]], length: int, before: list[int], after: list[int]
) -> list[list[int]]:
    """As `packed`; every block and every document inside one begins with `before`, as far as it fits."""
    blocks = [list(before)]
    for document in documents:
        if len(blocks[-1]) > len(before):
            blocks[-1] += before[: length - len(blocks[-1])]
        for token in document + after:
            if len(blocks[-1]) == length:
                blocks.append(list(before))
            blocks[-1].append(token)
    return blocks


def next_token_labels(rows: list[list[int]]) -> list[list[int]]:
    """The token after each position, -100 after the last and in the padding."""
    longest = max(len(row) for row in rows)
    return [[row[t + 1] if t + 1 < len(row) else -100 for t in range(longest)] for row in rows]


def measures(student: np.ndarray, teacher: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Means over rows, from logits (N, C) and labels (N,), one row after another in float64."""
    rows = []
    for s, t, label in zip(student.tolist(), teacher.tolist(), labels.tolist()):
        log_s, log_t = ([x - math.log(sum(math.exp(y) for y in row)) for x in row] for row in (s, t))
        soft = -sum(math.exp(q) * p for p, q in zip(log_s, log_t))
        rows.append(
            {
                "loss": -log_s[label],
                "accuracy": float(s.index(max(s)) == label),
                "agreement": float(s.index(max(s)) == t.index(max(t))),
                "teacher_loss": -log_t[label],
                "teacher_accuracy": float(t.index(max(t)) == label),
                "soft_cross_entropy": soft,
                "kl": sum(math.exp(q) * (q - p) for p, q in zip(log_s, log_t)),
            }
        )
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
