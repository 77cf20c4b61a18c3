"""Slow, obvious versions of what becomes of rows with an attention mask and labels of their own."""

PAD, NOTHING = 0, -100


def cut_row(ids: list[int], mask: list[int], labels: list[int]) -> list[tuple[int, int, int]]:
    """(id, seen, label) of each token, without those before the first seen one and after the last."""
    tokens = list(zip(ids, mask, labels))
    while not tokens[0][1]:
        tokens.pop(0)
    while not tokens[-1][1]:
        tokens.pop()
    return tokens


def causal_labels(tokens: list[tuple[int, int, int]]) -> list[int]:
    """Each token predicts the label of the next, if both are seen."""
    labels = []
    for here, following in zip(tokens, [*tokens[1:], None]):
        predicts = following is not None and here[1] and following[1]
        labels.append(following[2] if predicts else NOTHING)
    return labels


def batch(rows: list[tuple[list[int], list[int], list[int]]], causal: bool) -> dict[str, list[list[int]]]:
    """Ids, mask and labels of several rows, filled up on the right."""
    cut = [cut_row(*row) for row in rows]
    labels = [causal_labels(tokens) if causal else [label for _, _, label in tokens] for tokens in cut]
    longest = max(len(tokens) for tokens in cut)
    return {
        "input_ids": [[token[0] for token in tokens] + [PAD] * (longest - len(tokens)) for tokens in cut],
        "attention_mask": [[token[1] for token in tokens] + [0] * (longest - len(tokens)) for tokens in cut],
        "labels": [row + [NOTHING] * (longest - len(row)) for row in labels],
    }
