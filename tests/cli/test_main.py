"""The command itself: what it loads, how it ends, what it prints."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cli.conftest import Vigreux
from vigreux.activity import doing
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
        "--teacher.trust_remote_code {true,false} run the Python code in a model directory"
        " --teacher.options" in shown
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


LONG_COMMAND = """
import sys
from pathlib import Path
from types import SimpleNamespace
import vigreux.cli.main as module
def run(argv):
    for number in range(9999):
        print("a line ↓", number, flush=number % 1000 == 0)
    print("on standard error", file=sys.stderr)
    Path("done").touch()
module.import_module = lambda name: SimpleNamespace(run=run)
sys.exit(module.main(["distill"]))
"""


@pytest.mark.parametrize(
    ("redirected", "code", "said"),
    [
        ("| true", 141, ""),
        (">&-", 0, ""),
        (">&- 2>&-", 0, ""),
        ("> /dev/full", 141, "vigreux: standard output or error cannot be written"),
        ("2> /dev/full", 141, ""),
    ],
)
def test_an_output_that_nobody_reads_stops_no_run(
    tmp_path: Path, redirected: str, code: int, said: str
) -> None:
    (tmp_path / "command.py").write_text(LONG_COMMAND)
    shell = f"{sys.executable} command.py {redirected}; echo ${{PIPESTATUS[0]}} > code"
    done = subprocess.run(["bash", "-c", shell], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (tmp_path / "done").exists()
    assert (tmp_path / "code").read_text() == f"{code}\n"
    told = done.stderr.replace("on standard error\n", "")
    assert told.startswith(said)
    assert told.count("\n") == bool(said)


def test_characters_that_the_terminal_lacks(tmp_path: Path) -> None:
    (tmp_path / "command.py").write_text(LONG_COMMAND)
    env = dict(os.environ, PYTHONIOENCODING="ascii")
    done = subprocess.run(
        [sys.executable, "command.py"], cwd=tmp_path, env=env, capture_output=True, check=True
    )
    assert done.stdout.startswith(b"a line ? 0\n")


def command_that(monkeypatch: pytest.MonkeyPatch, does: object) -> None:
    monkeypatch.setattr(module, "import_module", lambda name: SimpleNamespace(run=does))


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConfigError("seed: wrong"), 2, "vigreux: seed: wrong\n"),
        (KeyboardInterrupt(), 130, "vigreux: interrupted; --resume continues from what was finished\n"),
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
        warnings.warn_explicit("a stage learned nothing", UserWarning, "src/vigreux/loop/run.py", 1)
        warnings.warn_explicit("old", DeprecationWarning, "src/vigreux/loop/run.py", 2)
        warnings.warn_explicit("something else", UserWarning, "site-packages/other.py", 3)

    command_that(monkeypatch, warn)
    before = warnings.showwarning
    assert main(["distill"]) == 0
    assert capsys.readouterr().err == "vigreux: warning: a stage learned nothing\n"
    assert warnings.showwarning is before


@pytest.mark.parametrize(
    ("error", "code", "parts"),
    [
        (
            KeyError("foo"),
            1,
            ["distill: unexpected error while loading the teacher: KeyError: 'foo'", "report"],
        ),
        (RecursionError("too deep"), 1, ["RecursionError: too deep"]),
        (RuntimeError("a\nb\x1b[31m"), 1, ["RuntimeError: 'a b\\x1b[31m'"]),
        (RuntimeError("x" * 9999), 1, ["RuntimeError: xxx", "…"]),
        (MemoryError(), 1, ["out of memory while loading the teacher"]),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, ["out of memory"]),
        (
            OSError(errno.ENOSPC, "No space left on device", "run/x"),
            2,
            ["run/x cannot be written", "--resume"],
        ),
        (OSError(errno.EFBIG, "File too large"), 2, ["cannot be written"]),
        (type("TerminatedWorkerError", (Exception,), {})("x"), 1, ["--jobs", "--resume continues"]),
    ],
)
def test_an_error_that_nobody_foresaw(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    error: Exception,
    code: int,
    parts: list[str],
) -> None:
    """One line with what was being done; the traceback is in a file that it names, or with --debug on the
    terminal.
    """

    def fail(argv: list[str]) -> None:
        with doing("a run"), doing("loading the teacher"):
            raise error

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    command_that(monkeypatch, fail)
    assert main(["distill"]) == code
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert len(told) < 600
    assert all(part in told for part in parts), told
    logs = list(tmp_path.glob("vigreux-*.log"))
    if "unexpected error" in told:
        assert "Traceback" in logs[0].read_text()
        assert str(logs[0]) in told
    else:
        assert not logs
    with pytest.raises(type(error)):
        main(["distill", "--debug"])


def test_secrets_stay_out_of_the_line_and_the_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(argv: list[str]) -> None:
        raise KeyError("https://me:secretsecret@example.org/x")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    command_that(monkeypatch, fail)
    assert main(["distill"]) == 1
    (log,) = tmp_path.glob("vigreux-*.log")
    assert "secretsecret" not in capsys.readouterr().err + log.read_text()
