"""The command `vigreux`: finds the subcommand, and turns errors that a user can cause into one line and exit code 2."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module

from vigreux.errors import ConfigError, VigreuxError, unknown
from vigreux.secrets import redact_command, redact_text

# command → (module, what it does); a module is imported when its command runs
COMMANDS = {
    "distill": ("vigreux.cli.distill", "distil a teacher into a smaller student through a curriculum"),
    "compare": (
        "vigreux.cli.compare",
        "several curricula at the same budget, several seeds: one table, one plot",
    ),
    "teach": ("vigreux.cli.teach", "train a teacher on labels or text, keeping a series of checkpoints"),
    "cache": ("vigreux.cli.cache", "teacher signals to disk, once: students then train without the teacher"),
    "select": (
        "vigreux.cli.select",
        "phase transitions of a teacher's run, and the checkpoints to keep for p-shot",
    ),
    "probe": (
        "vigreux.cli.probe",
        "what a model's predictions and hidden states hang on: n-grams, non-terminals",
    ),
    "plan": (
        "vigreux.cli.plan",
        "stages, FLOPs, memory and time of a configuration, before anything is trained",
    ),
    "reproduce": (
        "vigreux.cli.reproduce",
        "run a claim of the papers as a test on numbers, with its verdict",
    ),
    "report": ("vigreux.cli.report", "one self-contained HTML page from run folders"),
}

HELP = """usage: vigreux COMMAND [CONFIG.yaml] [--field.name VALUE ...]

Distil a trained network into a smaller one through a curriculum: the checkpoints of the teacher's own
training run (progressive distillation), or the hidden layers of the final one (curriculum extraction).

commands:
{commands}

  vigreux COMMAND --help   all options of a command
  vigreux --version        the version
  --debug                  a traceback with an error message
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code: 0, 2 for bad input, 130 when interrupted, 141 when nobody reads on (`| head`)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    redact_command(arguments)  # what it finds is left out of every message
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(
            HELP.format(commands="\n".join(f"  {name:<9} {text}" for name, (_, text) in COMMANDS.items())),
            end="",
        )
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(version("vigreux"))
        return 0
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning  # type: ignore[assignment]
        try:
            code = _run(arguments, debug=debug)
            sys.stdout.flush()
            if code == 0:
                _leave_processes()
        except BrokenPipeError:
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
            )  # what Python flushes at its end goes nowhere
            return 141
        return code


def _run(arguments: Sequence[str], *, debug: bool) -> int:
    try:
        if arguments[0] not in COMMANDS:
            raise ConfigError(unknown("command", arguments[0], COMMANDS))
        import_module(COMMANDS[arguments[0]][0]).run(arguments[1:])
    except VigreuxError as error:
        if debug:
            raise
        print(f"vigreux: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vigreux: interrupted; what was finished is kept, and --resume goes on", file=sys.stderr)
        return 130
    except SystemExit as end:  # how argparse leaves after --help
        return int(end.code or 0)
    return 0


def _leave_processes() -> None:
    """Ends what binds several processes together, whose threads may abort one that ends before them."""
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *args: object
) -> None:
    if issubclass(category, UserWarning) and "vigreux" in filename:
        print(f"vigreux: warning: {redact_text(str(message))}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
