"""Notes on an exception that say what the program was doing, for the error message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_WHILE = "while "


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Adds `what`, such as "loading the teacher", as a note to an exception that leaves the block."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"{_WHILE}{what}")
        raise


def activity(error: BaseException) -> str | None:
    """What the program was doing when `error` was raised, from the innermost note; `None` without a note."""
    notes = getattr(error, "__notes__", ())
    return next((note.removeprefix(_WHILE) for note in notes if note.startswith(_WHILE)), None)
