"""How `vigreux COMMAND --help` looks: each option once, in the words of its dataclass, with its default."""

from __future__ import annotations

from argparse import SUPPRESS, Action
from typing import Any

from jsonargparse import DefaultHelpFormatter

CONFIG_HELP = (
    "a YAML file; without the flag as the first argument; options count after files, and the last of its kind"
)


class OptionHelp(DefaultHelpFormatter):
    """jsonargparse's formatter without types, appending options (`--x+`) and defaults that say nothing."""

    def __init__(self, prog: str, **kwargs: Any) -> None:
        super().__init__(prog, max_help_position=32, **kwargs)

    def _get_help_string(self, action: Action) -> str:
        text = (action.help or "").rstrip(".")
        nothing = action.default is None or action.default is False or action.default in (SUPPRESS, "", {})
        return text if nothing or "efault" in text else f"{text} [%(default)s]"

    def _format_action_invocation(self, action: Action) -> str:
        options = ", ".join(option for option in action.option_strings if not option.endswith("+"))
        return (
            f"{options} {self._format_args(action, self._get_default_metavar_for_optional(action))}".rstrip()
        )


def hide_sections(parser: Any) -> None:
    """Takes `--task CONFIG` and its like out of the help: whole sections belong into the YAML file."""
    for action in parser._actions:
        if action.help == "Path to a configuration file.":
            action.help = SUPPRESS
