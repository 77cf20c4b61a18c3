"""`vigreux.compare` does what the command does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import vigreux
from vigreux.cli.main import main
from vigreux.config.shared import BudgetConfig
from vigreux.config.transformer import RunConfig, TeacherConfig
from vigreux.config.two_layer import TwoLayerConfig, TwoLayerTeacherConfig
from vigreux.errors import CheckpointError, ConfigError
from vigreux.sweeps.sweep import sweep


@pytest.fixture
def taught(config: TwoLayerConfig) -> TwoLayerConfig:
    """The configuration of a student with a teacher."""
    sweep({"teacher": config.for_teaching()}, ".", quiet=True)
    return replace(config, teacher=TwoLayerTeacherConfig("teacher"), curriculum="one-shot")


def test_the_function_does_what_the_command_does(taught: TwoLayerConfig) -> None:
    result = vigreux.compare(taught, ["supervised", "one-shot"], seeds=2, quiet=True)
    assert list(result.runs) == ["supervised-seed0", "one-shot-seed0", "supervised-seed1", "one-shot-seed1"]
    assert (result.plot, result.report) == (Path("grid/plot.png"), Path("grid/report.html"))
    assert result.table().baseline == "supervised"
    Path("student.yaml").write_text(
        yaml.safe_dump(
            {
                "task": {"kind": "parity", "n": 12, "k": 2, "eval_samples": 64},
                "teacher": {"model": "teacher"},
                "student": {"width": 6},
                "budget": {"steps": 64},
                "training": {"eval_every": 32},
            }
        )
    )
    options = ["--curricula", "supervised,one-shot", "--seeds", "2", "--quiet", "--output", "typed"]
    assert main(["compare", "student.yaml", *options]) == 0
    assert json.loads(Path("typed/compare.json").read_text()) == json.loads(
        Path("grid/compare.json").read_text()
    )
    for name in result.runs:
        weights = [Path(root, name, "student", "model.safetensors") for root in ("grid", "typed")]
        assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_comparison_may_grow(taught: TwoLayerConfig) -> None:
    vigreux.compare(taught, ["supervised"], seeds=[4], quiet=True)
    with pytest.raises(ConfigError, match="output: 'grid' is not empty"):
        vigreux.compare(taught, ["supervised"], seeds=[4], quiet=True)
    grown = vigreux.compare(taught, ["supervised", "one-shot"], seeds=[4, 2], resume=True, quiet=True)
    assert grown.trained == ("one-shot-seed4", "supervised-seed2", "one-shot-seed2")
    other = replace(taught, budget=BudgetConfig(steps=96))
    with pytest.raises(CheckpointError, match="belongs to another comparison: budget"):
        vigreux.compare(other, ["supervised"], seeds=[4], resume=True, quiet=True)


def test_what_is_refused_writes_nothing(config: TwoLayerConfig) -> None:
    refusals = {
        "config: 'student.yaml'": ("student.yaml", ["supervised"], 1),
        "curricula: 'one-shot'; accepted: a list": (config, "one-shot", 1),
        "unknown value 'two-shot'": (config, ["two-shot"], 1),
        "teacher.model: missing": (config, ["supervised", "one-shot"], 1),
        "seeds: 0; accepted: how many": (config, ["supervised"], 0),
        "seeds: -1; accepted: a whole number": (config, ["supervised"], [-1]),
        "budget: missing": (replace(config, budget=BudgetConfig()), ["supervised"], 1),
        "teacher.sharded": (RunConfig(teacher=TeacherConfig(sharded=True)), ["supervised"], 1),
    }
    for message, (of, curricula, seeds) in refusals.items():
        with pytest.raises(ConfigError) as caught:
            vigreux.compare(of, curricula, seeds)  # type: ignore[arg-type]
        assert message in str(caught.value)
    assert list(Path.cwd().iterdir()) == []
