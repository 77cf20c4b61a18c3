"""The command itself: what it loads, how it ends, what it prints."""

from __future__ import annotations

import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest

from tests.cli.conftest import Vigreux
from vigreux.cli import main as module
from vigreux.cli.main import COMMANDS, main
from vigreux.errors import ConfigError

HEAVY = {"torch", "transformers", "numba", "datasets", "accelerate", "matplotlib"}


def test_help_and_errors_load_nothing_heavy() -> None:
    calls = [
        ["--help"],
        ["distill", "--help"],
        ["teach", "--help"],
        ["report"],
        ["plan"],
        ["distill", "--seed", "x"],
    ]
    code = f"""
import sys
from vigreux.cli.main import main
for argv in {calls!r}:
    main(argv)
print(sorted({HEAVY!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr.count("vigreux: ") == 3


def test_help_names_every_command(vigreux: Vigreux) -> None:
    for argv in ([], ["--help"], ["help"]):
        shown = vigreux(*argv)
        assert shown.code == 0
        assert all(f"  {command} " in shown.out for command in COMMANDS)
    assert vigreux("--version").out.strip()


def test_options_say_their_default_once(vigreux: Vigreux) -> None:
    shown = " ".join(vigreux("distill", "--help").out.split())
    assert "--seed SEED of the student's initial weights and of the order of the data [0]" in shown
    assert "--checkpoints CHECKPOINTS steps" in shown
    assert (
        "--teacher.trust_remote_code {true,false} run the Python code that a model directory brings --teacher.options"
        in shown
    )
    for noise in ("(type:", "null", "+", "--task CONFIG"):
        assert noise not in shown


def test_a_reader_that_stops_reading() -> None:
    """As under `| head`: no traceback."""
    code = """
import sys
from types import SimpleNamespace
import vigreux.cli.main as module
module.import_module = lambda name: SimpleNamespace(run=lambda argv: print("a table\\n" * 9999))
sys.exit(module.main(["report"]))
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def command_that(monkeypatch: pytest.MonkeyPatch, does: object) -> None:
    monkeypatch.setattr(module, "import_module", lambda name: SimpleNamespace(run=does))


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConfigError("seed: wrong"), 2, "vigreux: seed: wrong\n"),
        (KeyboardInterrupt(), 130, "vigreux: interrupted; what was finished is kept, and --resume goes on\n"),
        (SystemExit(0), 0, ""),
        (SystemExit(None), 0, ""),
    ],
)
def test_how_it_ends(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    message: str,
) -> None:
    def fail(argv: list[str]) -> None:
        raise error

    command_that(monkeypatch, fail)
    assert main(["distill"]) == code
    assert capsys.readouterr().err == message


def test_a_traceback_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(argv: list[str]) -> None:
        assert argv == ["config.yaml"]
        raise ConfigError("seed: wrong")

    command_that(monkeypatch, fail)
    with pytest.raises(ConfigError, match="seed: wrong"):
        main(["distill", "config.yaml", "--debug"])
    assert main(["distill", "config.yaml"]) == 2


def test_only_our_warnings_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warn(argv: list[str]) -> None:
        warnings.warn_explicit("a stage learned nothing", UserWarning, "src/vigreux/engines/trainer.py", 1)
        warnings.warn_explicit("old", DeprecationWarning, "src/vigreux/engines/trainer.py", 2)
        warnings.warn_explicit("something else", UserWarning, "site-packages/other.py", 3)

    command_that(monkeypatch, warn)
    before = warnings.showwarning
    assert main(["distill"]) == 0
    assert capsys.readouterr().err == "vigreux: warning: a stage learned nothing\n"
    assert warnings.showwarning is before
