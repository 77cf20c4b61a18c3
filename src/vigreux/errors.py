"""Errors that a user can cause. Each is one line: what is wrong, where, and what is accepted.

All errors derive from `VigreuxError`. The command line prints the message without a traceback and exits with
code 2. Our own invariants are `assert`ed instead.
"""

from collections.abc import Iterable
from difflib import get_close_matches

from vigreux.secrets import redact_text


class VigreuxError(Exception):
    """An error that the user can correct.

    The message is one line that says how. It contains no tokens or passwords.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(redact_text(str(message)))

    def __str__(self) -> str:
        """The message, with line ends and control characters of names from outside as escapes."""
        text = super().__str__()
        return text if text.isprintable() else "".join(map(_printable, text))


class ConfigError(VigreuxError):
    """A field of the configuration, a curriculum or an argument is not acceptable."""


class DataError(VigreuxError):
    """Text, labels or a data file are not acceptable."""


class CheckpointError(VigreuxError):
    """Weights, a checkpoint or a run folder are missing, damaged or not the expected ones."""


class CacheError(VigreuxError):
    """A cache of teacher signals or of downloaded assets does not fit or is damaged."""


class TrainingError(VigreuxError):
    """A training run cannot continue (a loss that is not finite, a full disk)."""


class MissingPackageError(ConfigError, ImportError):
    """A package of an extra is not installed. The message says what to install."""


def _printable(character: str) -> str:
    plain = character.isprintable() or character == "\xa0"
    return character if plain else character.encode("unicode_escape").decode()


def unknown(field: str, value: object, accepted: Iterable[object]) -> str:
    """The message for a value outside a set. It names the field, the value, the set and the nearest member.

    >>> unknown("curriculum", "extracton", ["one-shot", "extraction"])
    "curriculum: unknown value 'extracton'; did you mean 'extraction'? accepted: one-shot, extraction"
    """
    names = [str(name) for name in accepted]
    near = get_close_matches(str(value)[:100], names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    return f"{field}: unknown value {shown(str(value))}{hint} accepted: {', '.join(names)}"


def shown(value: object, limit: int = 100) -> str:
    """A value for a message: its `repr` on one line, shortened in the middle to `limit` characters."""
    try:
        text = redact_text(" ".join(repr(value).split()))
    except (RecursionError, ValueError):  # lists that contain themselves; numbers of thousands of digits
        text = f"a {type(value).__name__} that cannot be shown"
    return cut(text, limit)


def cut(text: str, limit: int) -> str:
    """Shortens a text to at most `limit` characters; omits the excess before its last 17 characters."""
    return text if len(text) <= limit else f"{text[: limit - 20]} … {text[-17:]}"
