"""The commands, called in this process, on tiny models and texts made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.tiny import MASKED, Tiny, make_tiny, save_bert, save_llama
from vigreux.cli.main import main

# few, small steps, whatever the test is about
SMALL = [
    "--quiet",
    "--training.per_device_train_batch_size",
    "4",
    "--training.per_device_eval_batch_size",
    "8",
]


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


Vigreux = Callable[..., Outcome]


@pytest.fixture
def vigreux(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Vigreux:
    """`vigreux("distill", ...)` runs the command as a shell would, in the test's own folder."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: object) -> Outcome:
        capfd.readouterr()
        code = main([str(argument) for argument in argv])
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def llama(tiny: Tiny) -> Path:
    return save_llama(tiny.root / "llama", tiny.bpe)


@pytest.fixture(scope="session")
def classifier(tiny: Tiny) -> Path:
    return save_bert(tiny.root / "classifier", tiny.wordpiece)


@pytest.fixture(scope="session")
def masked(tiny: Tiny) -> Path:
    return save_bert(tiny.root / "masked", tiny.wordpiece, MASKED)


@pytest.fixture(scope="session")
def causal_config(tiny: Tiny, llama: Path) -> Path:
    """A configuration of the main job that runs in a second: Llama 3 × 48 to 2 × 24, 4 steps."""
    path = tiny.root / "causal.yaml"
    path.write_text(
        f"""
task: {{kind: causal-lm, data: {tiny.text}, max_length: 16, max_eval: 8}}
teacher: {{model: {llama}}}
student: {{layers: 2, hidden: 24}}
budget: {{steps: 4}}
training: {{per_device_train_batch_size: 4, per_device_eval_batch_size: 8, logging_steps: 1}}
output: run
"""
    )
    return path
