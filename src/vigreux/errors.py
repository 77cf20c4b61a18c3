"""Errors that a user can cause, each one line: what is wrong, where, and what is accepted.

Everything here derives from `VigreuxError`; the command line prints its message without a traceback and exits
with 2. Our own invariants are `assert`ed instead.
"""

from collections.abc import Iterable
from difflib import get_close_matches

from vigreux.secrets import redact_text


class VigreuxError(Exception):
    """Something the user can put right.

    The message is one line that says how, without tokens or passwords.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(redact_text(str(message)))

    def __str__(self) -> str:
        """The message; a line end or control character in a name from outside is written as its escape."""
        text = super().__str__()
        return text if text.isprintable() else "".join(map(_printable, text))


class ConfigError(VigreuxError):
    """A field of the configuration, a curriculum or an argument is not acceptable."""


class DataError(VigreuxError):
    """Text, labels or a data file are not acceptable."""


class CheckpointError(VigreuxError):
    """Weights, a checkpoint or a run folder are missing, damaged or not the ones asked for."""


class CacheError(VigreuxError):
    """A cache of teacher signals or of downloaded assets does not fit or is damaged."""


class TrainingError(VigreuxError):
    """A training run cannot go on (a loss that is not finite, a full disk)."""


class MissingPackageError(ConfigError, ImportError):
    """A package of an extra is not installed. The message says what to install."""


def _printable(character: str) -> str:
    plain = character.isprintable() or character == "\xa0"
    return character if plain else character.encode("unicode_escape").decode()


def unknown(field: str, found: object, accepted: Iterable[object]) -> str:
    """The message for a value outside a set: names the field, the value, the set, and the nearest member.

    >>> unknown("curriculum", "extracton", ["one-shot", "extraction"])
    "curriculum: unknown value 'extracton'; did you mean 'extraction'? accepted: one-shot, extraction"
    """
    names = [str(name) for name in accepted]
    near = get_close_matches(str(found)[:100], names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    return f"{field}: unknown value {shown(str(found))}{hint} accepted: {', '.join(names)}"


def shown(value: object, limit: int = 100) -> str:
    """A value for a message: its `repr` on one line, shortened in the middle to `limit` characters."""
    try:
        text = redact_text(" ".join(repr(value).split()))
    except (RecursionError, ValueError):  # lists that hold themselves; numbers of thousands of digits
        text = f"a {type(value).__name__} that cannot be shown"
    return cut(text, limit)


def cut(text: str, limit: int) -> str:
    """A text of at most `limit` characters: what is too much is left out before its last 17 characters."""
    return text if len(text) <= limit else f"{text[: limit - 20]} … {text[-17:]}"
