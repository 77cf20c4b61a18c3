"""The command `vigreux`: runs a subcommand, and turns every error into one line and an exit code."""

from __future__ import annotations

import errno
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from vigreux.activity import activity
from vigreux.cli.streams import guarded_streams
from vigreux.errors import ConfigError, VigreuxError, shown, unknown
from vigreux.secrets import redact_command, redact_text

# command → (module, description); a module is imported when its command runs
COMMANDS = {
    "distill": ("vigreux.cli.distill", "distil a teacher into a smaller student through a curriculum"),
    "compare": (
        "vigreux.cli.compare",
        "compare curricula at the same budget with several seeds, in a table and a plot",
    ),
    "teach": ("vigreux.cli.teach", "train a teacher on labels or text, keeping a series of checkpoints"),
    "cache": (
        "vigreux.cli.cache",
        "write teacher signals to disk once; students then train without the teacher",
    ),
    "select": (
        "vigreux.cli.select",
        "find the phase transitions of a teacher's run, and the checkpoints to keep for p-shot",
    ),
    "probe": (
        "vigreux.cli.probe",
        "measure what a model's predictions and hidden states depend on: n-grams, non-terminals",
    ),
    "plan": (
        "vigreux.cli.plan",
        "print stages, FLOPs, memory and time of a configuration, before anything is trained",
    ),
    "reproduce": (
        "vigreux.cli.reproduce",
        "run a claim of the papers as a test on numbers, and print its verdict",
    ),
    "report": ("vigreux.cli.report", "write one self-contained HTML page from run folders"),
}

HELP = """usage: vigreux COMMAND [CONFIG.yaml] [--field.name VALUE ...]

Distil a trained network into a smaller one through a curriculum: the checkpoints of the teacher's
training run (progressive distillation), or the hidden layers of the final one (curriculum extraction).

commands:
{commands}

  vigreux COMMAND --help   all options of a command
  vigreux --version        the version
  --debug                  a traceback with an error message

Options override the values of files. If an option is repeated, the last one counts.

exit codes: 0 done; 1 an unexpected error (the message names the file with its traceback); 2 an input that is
not accepted, or a run that cannot continue; 130 interrupted; 141 closed output (a run is finished first)
"""
ISSUES = "report it with that file where you got vigreux"
# the exceptions of joblib and concurrent.futures when a worker was killed
LOST_WORKERS = frozenset({"TerminatedWorkerError", "BrokenProcessPool"})


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command, and returns its exit code (see `HELP`).

    A closed or full output never stops a command. What it prints is dropped, and the exit code says so at the
    end.
    """
    with guarded_streams() as guards:
        code = _main(list(sys.argv[1:] if argv is None else argv))
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        failures = [guard.failure for guard in guards if guard.failure is not None]
        if code == 0 and failures:
            _say_lost(failures[0])
            return 141
        return code


def _main(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    redact_command(arguments)  # the secrets that it finds are removed from every message
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
        code = _run(arguments, debug=debug)
        if code == 0:
            _leave_processes()
        return code


def _run(arguments: Sequence[str], *, debug: bool) -> int:
    try:
        if arguments[0] not in COMMANDS:
            raise ConfigError(unknown("command", arguments[0], COMMANDS))
        import_module(COMMANDS[arguments[0]][0]).run(arguments[1:])
    except VigreuxError as error:
        if debug:
            raise
        _say(str(error))
        return 2
    except KeyboardInterrupt:
        with _no_interrupts():
            _say("interrupted; --resume continues from what was finished")
        return 130
    except SystemExit as end:  # raised by argparse after --help
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception as error:
        if debug:
            raise
        return _unexpected(arguments[0], error)
    return 0


# --- the last resort ----------------------------------------------------------------------------------------


def _unexpected(command: str, error: Exception) -> int:
    """Prints one line for an unexpected error, writes its traceback to a file, and returns the exit code."""
    what = activity(error)
    where = f" while {what}" if what else ""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        _say(
            f"{command}: {error.filename or 'a file'} cannot be written{where} ({_words(error)});"
            " free some space, then --resume"
        )
        return 2
    if type(error).__name__ in LOST_WORKERS:
        _say(
            f"{command}: a process of --jobs was killed, perhaps for its memory;"
            " --resume continues, and fewer --jobs need less memory"
        )
        return 1
    if _out_of_memory(error):
        _say(
            f"{command}: out of memory{where} ({_words(error)}); accepted: smaller models,"
            " shorter samples, or fewer a batch"
        )
        return 1
    _say(f"{command}: unexpected error{where}: {_words(error)}; {_log(error)}")
    return 1


def _out_of_memory(error: Exception) -> bool:
    message = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in message or "can't allocate memory" in message


def _words(error: Exception) -> str:
    """An exception on one line of ordinary length."""
    name = type(error).__name__
    text = " ".join(redact_text(str(error)).split())
    if not text:
        return name
    if not text.isprintable():
        text = shown(text)
    if len(text) > 300:
        text = f"{text[:300]} …"
    return f"{name}: {text}"


def _log(error: Exception) -> str:
    """Writes the traceback to a new file. Returns its path, and what the user should do with it."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="vigreux-", suffix=".log", delete=False, encoding="utf-8", errors="replace"
        ) as file:
            file.write(redact_text("".join(traceback.format_exception(error))))
        return f"its traceback is in {Path(file.name)}; please {ISSUES}"
    except OSError:
        return "--debug shows its traceback"


def _say(message: str) -> None:
    """Prints one line on standard error."""
    print(f"vigreux: {' '.join(message.splitlines())}", file=sys.stderr)


def _say_lost(failure: OSError) -> None:
    if failure.errno != errno.EPIPE:
        _say(f"standard output or error cannot be written ({_words(failure)}); the command itself is done")


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Keeps a second Ctrl-C from interrupting the message about the first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _leave_processes() -> None:
    """Ends the process group, whose threads may abort a process that ends before them."""
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
