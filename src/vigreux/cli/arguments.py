"""Arguments of commands without a configuration, with the same types and one-line errors."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from vigreux.checks import Location, check_value
from vigreux.errors import ConfigError, cut


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that raises `ConfigError`, with messages that end with `accepted`."""

    def __init__(self, *args: Any, accepted: str = "see --help", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.accepted = accepted

    def error(self, message: str) -> NoReturn:
        """Raises argparse's message as a `ConfigError`."""
        command = self.prog.removeprefix("vigreux ")
        raise ConfigError(f"{command}: {cut(message, 300)}; accepted: {self.accepted}")


def location(text: str) -> Path:
    """The path that an argument names. Raises `ConfigError` if no file system can hold it."""
    check_value("path", text, Location)
    return Path(text)


def whole_number(option: str, hint: Any) -> Callable[[str], int]:
    """Returns a function that reads the whole number of `option`, within the range of the type `hint`."""

    def read(text: str) -> int:
        number: int | str = text
        if text.lstrip("-").isdecimal() and len(text) < 30:
            number = int(text)
        check_value(option, number, hint)
        return int(number)

    return read
