"""Teachers that are loaded with arguments of `from_pretrained`: quantised, or with another attention."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch._dynamo

from tests.cli.conftest import Vigreux
from vigreux.run.folder import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore:stage .* explained variance", "ignore:.*BitNet.*")

# the one method that runs on a CPU with nothing beside torch: weights of three values, made in each forward
# pass
THREE_VALUES = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"}


@pytest.fixture
def quantised(llama: Path, tmp_path: Path) -> Iterator[Path]:
    """A teacher that was published quantised."""
    copy = shutil.copytree(llama, tmp_path / "quantised-llama")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"quantization_config": THREE_VALUES}))
    with torch._dynamo.config.patch(disable=True):  # its layers ask to be compiled
        yield copy


def distilled(vigreux: Vigreux, config: Path, output: str, *more: object) -> dict[str, float]:
    done = vigreux("distill", config, "--quiet", "--output", output, *more)
    assert done.code == 0, done.err
    summary = RunFolder.open(output).summary()
    assert summary is not None
    return dict(summary.teacher_metrics)


def test_a_quantised_teacher(vigreux: Vigreux, causal_config: Path, quantised: Path) -> None:
    """It teaches hidden states and logits, answers otherwise than the teacher whose weights are whole, and
    its student is plain.
    """
    whole = distilled(vigreux, causal_config, "whole")
    rounded = distilled(vigreux, causal_config, "rounded", "--teacher.model", quantised)
    assert rounded["loss"] != pytest.approx(whole["loss"], rel=1e-6)
    run = RunFolder.open("rounded")
    assert [stage.name for stage in run.stages()] == ["hidden-2-to-1", "final"]
    assert "quantization_config" not in json.loads((run.student / "config.json").read_text())


def test_the_same_model_with_another_attention(vigreux: Vigreux, causal_config: Path) -> None:
    eager, fused = (
        distilled(vigreux, causal_config, name, "--teacher.options", f"{{attn_implementation: {name}}}")
        for name in ("eager", "sdpa")
    )
    assert eager == pytest.approx(fused, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "{dtype: bfloat16}",
            "teacher.options: dtype is set elsewhere; accepted: other arguments of from_pretrained",
        ),
        ("{attn_implementation: thunder}", "cannot be loaded: "),
    ],
)
def test_options_that_cannot_be(vigreux: Vigreux, causal_config: Path, options: str, message: str) -> None:
    refused = vigreux("distill", causal_config, "--quiet", "--teacher.options", options)
    assert refused.code == 2
    assert message in refused.err
    assert refused.err.count("\n") == 1
    assert not Path("run").exists()


def test_a_device_beside_a_placed_teacher(vigreux: Vigreux, causal_config: Path, quantised: Path) -> None:
    refused = vigreux(
        "distill", causal_config, "--quiet", "--teacher.model", quantised, "--teacher.device", "cpu"
    )
    assert refused.code == 2
    assert "teacher.device: of a model that is quantised or placed by device_map" in refused.err
