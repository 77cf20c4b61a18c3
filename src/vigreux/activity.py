"""Notes on an exception: what the program was doing, for the line that a user reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_WHILE = "while "


@contextmanager
def doing(what: str) -> Iterator[None]:
    """An exception that leaves the block carries `what`, such as "loading the teacher", as a note."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"{_WHILE}{what}")
        raise


def activity(error: BaseException) -> str | None:
    """What was being done when `error` was raised, in the narrowest words; `None` where nobody said."""
    notes = getattr(error, "__notes__", ())
    return next((note.removeprefix(_WHILE) for note in notes if note.startswith(_WHILE)), None)
