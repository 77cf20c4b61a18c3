"""`vigreux select` on run folders written as `vigreux teach` writes them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import Vigreux
from vigreux.cli.parsing import read_arguments
from vigreux.config.curricula import from_config
from vigreux.config.transformer import RunConfig
from vigreux.curriculum.recipes import one_shot, p_shot, supervised
from vigreux.curriculum.serialize import to_plain
from vigreux.run.checkpoints import write_manifest
from vigreux.run.folder import RunFolder

STEPS = np.arange(1, 81) * 100_000


def accuracy(*middles: float) -> list[float]:
    """From 1/2^m, doubled within 0.6M steps at each of m places, with noise."""
    rise = sum(1 / (1 + np.exp(-(STEPS - middle) / 1.4e5)) for middle in middles)
    return list(2.0 ** (rise - len(middles)) + np.random.default_rng(0).normal(0, 0.002, len(STEPS)))


@dataclass(frozen=True)
class Teacher:
    """A run to write: held-out values by metric, and the steps of its checkpoints."""

    values: dict[str, list[float | None]] = field(default_factory=lambda: {"accuracy": list(accuracy(6.5e6))})
    kept: Sequence[int] = range(500_000, 8_000_001, 500_000)
    stages: Any = field(default_factory=supervised)

    def write(self, path: Path) -> Path:
        with RunFolder.create(path, {"curriculum": "supervised", "seed": 0}, to_plain(self.stages)) as run:
            for i, step in enumerate(map(int, STEPS)):
                record = {
                    "stage": self.stages[-1].name,
                    "step": step,
                    "global_step": step,
                    "samples": step,
                    "flops": 1.0,
                    "seconds": 1.0,
                }
                run.log_metrics({"kind": "train", **record, "loss": 0.7, "learning_rate": 0.1})
                measured = {name: values[i] for name, values in self.values.items() if i < len(values)}
                if measured:
                    run.log_metrics({"kind": "eval", **record, **measured})
            for step in self.kept:
                directory = run.stage_dir(len(self.stages) - 1, self.stages[-1].name) / f"checkpoint-{step}"
                directory.mkdir(parents=True)
                (directory / "weights").write_text(str(step))
                write_manifest(directory)
        return path


def refused(vigreux: Vigreux, *argv: object) -> str:
    """The one line of a command that ends with 2."""
    ended = vigreux("select", *argv)
    assert ended.code == 2
    assert ended.err.startswith("vigreux: ")
    assert ended.err.count("\n") == 1
    return ended.err


def test_the_table_the_reasons_and_the_plot(vigreux: Vigreux, tmp_path: Path) -> None:
    Teacher().write(tmp_path / "run")
    shown = vigreux("select", "run")
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    assert any(
        " 50.2 % → " in line and " × " in line and line.rstrip().endswith(" 6,500,000") for line in lines
    )
    assert any(line.startswith("checkpoint 6,500,000: inside transition 1, ") for line in lines)
    assert (
        "use: --teacher.checkpoints run/stages/00-labels --curriculum p-shot --checkpoints '[6500000]'"
        in lines
    )
    assert lines[-1] == "plot: run/selection.png"
    assert (tmp_path / "run" / "selection.png").read_bytes().startswith(b"\x89PNG")


def test_the_arguments_are_those_of_distill(vigreux: Vigreux, tmp_path: Path) -> None:
    Teacher({"accuracy": accuracy(2e6, 6.5e6)}, range(100_000, 8_000_001, 100_000)).write(tmp_path / "a run")
    plain = json.loads(vigreux("select", "a run", "--json").out)
    steps = [checkpoint["step"] for checkpoint in plain["checkpoints"]]
    config, _ = read_arguments("distill", shlex.split(plain["arguments"])).parse(RunConfig, "")
    assert Path(config.teacher.checkpoints) == Path("a run/stages/00-labels")  # type: ignore[arg-type]
    assert from_config(
        config, student_layers=2, teacher_layers=4, series=range(100_000, 8_000_000, 100_000)
    ) == p_shot(steps)


def test_json(vigreux: Vigreux, tmp_path: Path) -> None:
    Teacher({"accuracy": accuracy(2e6, 6.5e6), "loss": list(np.linspace(2, 1, 80))}).write(tmp_path / "run")
    plain = json.loads(vigreux("select", "run", "--json", "--plot", "elsewhere.png").out)
    assert (tmp_path / "elsewhere.png").exists()
    assert not (tmp_path / "run" / "selection.png").exists()
    assert set(plain) == {"run", "metric", "transitions", "checkpoints", "arguments", "plot"}
    assert plain["metric"] == "accuracy"
    assert [t["middle"] for t in plain["transitions"]] == pytest.approx([2e6, 6.5e6], abs=1e5)
    assert [t["before"] for t in plain["transitions"]] == pytest.approx([0.25, 0.5], abs=0.02)
    assert [(c["step"], c["transition"]) for c in plain["checkpoints"]] == [(2_000_000, 1), (6_500_000, 2)]


def test_shots(vigreux: Vigreux, tmp_path: Path) -> None:
    Teacher({"accuracy": accuracy(2e6, 6.5e6)}, range(100_000, 8_000_001, 100_000)).write(tmp_path / "run")

    def chosen(shots: int) -> list[int]:
        plain = json.loads(vigreux("select", "run", "--json", "--shots", shots).out)
        return [checkpoint["transition"] for checkpoint in plain["checkpoints"]]

    assert [chosen(shots) for shots in (2, 3, 4, 5)] == [[2], [1, 2], [1, 2, 2], [1, 1, 2, 2]]
    assert "--shots: 1; accepted: a whole number from 2" in refused(vigreux, "run", "--shots", 1)
    assert "accepted: at most" in refused(vigreux, "run", "--shots", 50)
    assert "--shots: 'x'; accepted: a whole number from 2" in refused(vigreux, "run", "--shots", "x")


def test_metric(vigreux: Vigreux, tmp_path: Path) -> None:
    falling = [1 - value for value in accuracy(3e6)]
    Teacher({"loss": falling}, [3_000_000]).write(tmp_path / "lm")
    assert json.loads(vigreux("select", "lm", "--json").out)["metric"] == "loss"
    Teacher({"accuracy": accuracy(6.5e6), "loss": falling}, [3_000_000, 6_500_000]).write(tmp_path / "both")
    assert "checkpoint 6,500,000: " in vigreux("select", "both").out
    assert "checkpoint 3,000,000: " in vigreux("select", "both", "--metric", "loss").out
    message = refused(vigreux, "both", "--metric", "acuracy")
    assert "--metric: unknown value 'acuracy'; did you mean 'accuracy'? accepted: accuracy, loss" in message


def test_values_that_were_not_finite_are_left_out(vigreux: Vigreux, tmp_path: Path) -> None:
    values: list[float | None] = list(accuracy(6.5e6))
    values[10] = None
    Teacher({"accuracy": values}).write(tmp_path / "run")
    assert "checkpoint 6,500,000: " in vigreux("select", "run").out


def test_only_whole_checkpoints_before_the_final_one(vigreux: Vigreux, tmp_path: Path) -> None:
    late = Teacher({"accuracy": accuracy(7.9e6)}, [7_800_000, 8_000_000]).write(tmp_path / "late")
    assert "--checkpoints '[7800000]'" in vigreux("select", "late").out
    (late / "stages" / "00-labels" / "checkpoint-7800000" / "weights").unlink()
    (late / "stages" / "00-labels" / "checkpoint-best").mkdir()
    assert "(none is kept)" in refused(vigreux, "late")


def test_of_several_stages_the_last(vigreux: Vigreux, tmp_path: Path) -> None:
    stages = (*(stage for stage in supervised()), *one_shot())
    Teacher(stages=stages).write(tmp_path / "run")
    assert "--teacher.checkpoints run/stages/01-final" in vigreux("select", "run").out


# --- bad input ----------------------------------------------------------------------------------------------


def test_no_run(vigreux: Vigreux, tmp_path: Path) -> None:
    assert "not a run folder (run.json is missing)" in refused(vigreux, "nowhere")
    Teacher().write(tmp_path / "runs" / "teacher")
    assert "run folders inside it: teacher" in refused(vigreux, "runs")
    assert "the following arguments are required: RUN" in refused(vigreux)


def test_a_run_without_evaluations_or_with_too_few(vigreux: Vigreux, tmp_path: Path) -> None:
    Teacher({}).write(tmp_path / "none")
    assert "none: no evaluations; accepted: " in refused(vigreux, "none")
    Teacher({"accuracy": [0.5] * 5}).write(tmp_path / "few")
    assert "few: 5 evaluations of 'accuracy'; accepted: at least 12 (training.eval_steps" in refused(
        vigreux, "few"
    )
    jump = [0.5, 0.51, 0.49, 0.5, 0.5, 0.49, 1.0, 1.0, 0.99, 1.0, 1.0, 1.0]
    Teacher({"accuracy": [*jump]}, [650_000]).write(tmp_path / "enough")
    assert (
        "checkpoint 650,000: inside transition 1, after 50 % of its change" in vigreux("select", "enough").out
    )


def test_no_transition(vigreux: Vigreux, tmp_path: Path) -> None:
    Teacher({"accuracy": list(np.random.default_rng(0).normal(0.5, 0.008, 80))}).write(tmp_path / "run")
    message = refused(vigreux, "run")
    assert (
        "run: no phase transition in 'accuracy' (80 evaluations, steps 100,000 to 8,000,000): the curve is"
        " flat, at 0.5" in message
    )
    assert (
        "accepted: checkpoints named by hand (--curriculum p-shot --checkpoints '[STEP, ...]'), or another"
        " --metric" in message
    )
    assert not (tmp_path / "run" / "selection.png").exists()


def test_no_checkpoint_inside_shows_what_was_found(vigreux: Vigreux, tmp_path: Path) -> None:
    Teacher(kept=[6_000_000, 7_000_000]).write(tmp_path / "run")
    ended = vigreux("select", "run")
    assert ended.code == 2
    assert "6,500,000" not in ended.err
    assert "the nearest is 6,000,000" in ended.err or "the nearest is 7,000,000" in ended.err
    assert "plot: run/selection.png" in ended.out
    assert "use:" not in ended.out
    assert vigreux("select", "run", "--json").out == ""


def test_plots_that_cannot_be_written(vigreux: Vigreux, tmp_path: Path) -> None:
    Teacher().write(tmp_path / "run")
    assert "--plot: 'a.svg'; accepted: a name that ends in .png" in refused(vigreux, "run", "--plot", "a.svg")
    assert "cannot be written" in refused(vigreux, "run", "--plot", "missing/a.png")
    (tmp_path / "folder.png").mkdir()
    assert "cannot be written" in refused(vigreux, "run", "--plot", "folder.png")


def test_help_and_refusals_load_nothing_heavy() -> None:
    code = """
import sys
from vigreux.cli.main import main
assert main(["select", "--help"]) == 0
assert main(["select"]) == 2
assert not {"torch", "transformers", "numba", "ruptures", "matplotlib", "datasets"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "200"},
    )
    assert "vigreux select" in done.stdout


def test_phases_of_a_loss_that_falls_on(vigreux: Vigreux, tmp_path: Path) -> None:
    loss = list(np.interp(STEPS / 1e6, [0, 0.4, 2, 3.5, 8], [1.4, 1.0, 0.99, 0.5, 0.2]))
    root = Teacher({"loss": loss}, kept=range(500_000, 8_000_001, 500_000)).write(tmp_path / "run")
    found = json.loads(vigreux("select", root, "--phases", "--json").out)
    assert found["checkpoints"] == [3_000_000]
    assert found["phase_2"]["start"] == pytest.approx(2e6, abs=2e5)
    assert found["phase_2"]["middle"] == pytest.approx(2.75e6, abs=1.5e5)
    assert found["phase_2"]["end"] == pytest.approx(3.5e6, abs=2e5)
    shown = vigreux("select", root, "--phases").out
    assert "checkpoint 3,000,000: next to the middle of phase 2" in shown
    assert found["arguments"] in shown


def test_phases_that_are_not_there(vigreux: Vigreux, tmp_path: Path) -> None:
    steady = Teacher({"loss": list(1 - STEPS / 1e7)}).write(tmp_path / "steady")
    assert "no plateau before it falls" in refused(vigreux, steady, "--phases")
    loss = list(np.interp(STEPS / 1e6, [0, 0.4, 2, 3.5, 8], [1.4, 1.0, 0.99, 0.5, 0.2]))
    bare = Teacher({"loss": loss}, kept=[500_000, 8_000_000]).write(tmp_path / "bare")
    assert "no checkpoint lies in phase 2" in refused(vigreux, bare, "--phases")
