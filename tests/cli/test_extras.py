"""What works without the extra `lab`, and what says which package to install."""

import subprocess
import sys
from pathlib import Path

import pytest

from vigreux.errors import ConfigError
from vigreux.extras import require_lab

HIDE = """
import builtins, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

HIDDEN = {"numba", "ruptures"}
sys.meta_path.insert(0, Hidden())

# libraries may import these on Unix: Vigreux does not
UNIX = {"fcntl", "grp", "pwd", "resource", "termios"}
original = builtins.__import__

def guarded(name, globals=None, *rest, **more):
    if name in UNIX and (globals or {}).get("__name__", "").startswith("vigreux"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return original(name, globals, *rest, **more)

builtins.__import__ = guarded
"""

IMPORT_ALL = """
import pkgutil
from importlib import import_module
import vigreux
from vigreux.errors import MissingPackageError

missing = set()
for module in pkgutil.walk_packages(vigreux.__path__, "vigreux."):
    if module.name != "vigreux.__main__":
        try:
            import_module(module.name)
        except MissingPackageError as error:
            missing.add((module.name, str(error)))
"""

COMMANDS = """
from vigreux.cli.main import main

def run(*arguments, code=0):
    assert main(list(arguments)) == code, arguments

causal, folder, parity, grammar = sys.argv[1:]
run("plan", causal)
run("distill", causal)
run("compare", causal, "--output", "grid", "--curricula", "supervised")
assert main(["report", "grid"]) == 0
assert main(["select", "run"]) == 2  # too few evaluations: no matter of packages
run("teach", parity, "--output", "parity", code=2)
run("plan", parity, "--curriculum", "supervised", code=2)
run("compare", parity, "--curricula", "supervised", "--output", "parity", code=2)
run("teach", grammar, "--output", "grammar", code=2)
assert main(["reproduce", "C2", "--preset", "smoke"]) == 2
"""


def run(code: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HIDE + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


def test_only_the_laboratory_needs_its_packages(tmp_path):
    """And every module is imported without `fcntl` and `resource`, which Windows does not have."""
    code = IMPORT_ALL + "print(sorted(missing))"
    done = run(code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    missing = dict(eval(done.stdout))
    laboratory = ("backends.two_layer", "claims", "kernels", "probes.monomials", "tasks.synthetic.sentences")
    assert "vigreux.kernels" in missing
    assert [name for name in missing if not name.removeprefix("vigreux.").startswith(laboratory)] == []
    assert set(missing.values()) == {
        "two-layer networks and grammars: numba and ruptures missing;"
        ' install with: pip install "vigreux[lab]"'
    }


def test_commands_without_the_laboratory(causal_config, tmp_path):
    parity = tmp_path / "parity.yaml"
    parity.write_text("task: {kind: parity, n: 8, k: 2}\nstudent: {width: 8}\nbudget: {steps: 8}\n")
    grammar = tmp_path / "grammar.yaml"
    grammar.write_text(
        "task: {kind: causal-lm, data: 'grammar:cfg3b'}\n"
        "model: {family: gpt2, layers: 1, hidden: 8, heads: 1}\nbudget: {steps: 1}\n"
    )
    done = run(COMMANDS, causal_config, "run", parity, grammar, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "vigreux[lab]" in line]
    assert len(lines) == 5, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["grid", "run"]


def test_the_extra_is_named(monkeypatch):
    require_lab("grammars")
    monkeypatch.setitem(sys.modules, "ruptures", None)
    with pytest.raises(
        ConfigError, match=r'^grammars: ruptures missing; install with: pip install "vigreux\[lab\]"$'
    ) as error:
        require_lab("grammars")
    assert isinstance(error.value, ImportError)
