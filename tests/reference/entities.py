"""Entities of a sequence of named classes, word by word, as conlleval reads them."""


def entities(names: list[str]) -> set[tuple[int, int, str]]:
    """(first word, word behind the last, type) of each entity."""
    found = set()
    first: int | None = None
    before, type_before = "O", ""
    for i, name in enumerate([*names, "O"]):
        prefix, dash, kind = name.partition("-")
        if name == "O":
            prefix, kind = "O", ""
        elif not dash or prefix not in ("B", "I", "E", "S", "L", "U"):
            prefix, kind = "I", name
        prefix = {"L": "E", "U": "S"}.get(prefix, prefix)
        begins = prefix != "O" and (prefix in ("B", "S") or before in ("O", "E", "S") or kind != type_before)
        if first is not None and (begins or prefix == "O"):
            found.add((first, i, type_before))
            first = None
        if begins:
            first = i
        before, type_before = prefix, kind
    return found


def f1(labels: list[list[str]], predicted: list[list[str]]) -> float:
    """2 |right| / (|labelled| + |predicted|) over all sequences; 0 without entities."""
    right = total = 0
    for true, guess in zip(labels, predicted):
        right += len(entities(true) & entities(guess))
        total += len(entities(true)) + len(entities(guess))
    return 2 * right / total if total else 0.0
