"""Half precision, recomputed activations and adapters: the stages run as they do without, up to rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.backends.transformer.tiny import Killed, extracted, killed_at, losses, prepared_run, run, setup_of
from vigreux.backends.transformer import stage_builder
from vigreux.backends.transformer.setup import Setup
from vigreux.backends.transformer.stage_trainer import StageTrainer

pytestmark = pytest.mark.filterwarnings("ignore:stage .* explained variance")


@pytest.mark.parametrize("fused", [False, True])
def test_bfloat16_autocast(fused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_builder, "FUSED_FROM", 0 if fused else 10**9)
    for name, training in (("whole", {}), ("half", {"bf16": True})):
        run(setup_of("masked-lm", extracted(6, 12), training=training), tmp_path / name)
    whole, half = (dict(losses(tmp_path / name)) for name in ("whole", "half"))
    assert whole.keys() == half.keys()
    for step, loss in whole.items():
        assert half[step] == pytest.approx(loss, rel=0.02)


@pytest.mark.parametrize("fused", [False, True])
def test_recomputed_activations(fused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_builder, "FUSED_FROM", 0 if fused else 10**9)
    for name, training in (("kept", {}), ("recomputed", {"gradient_checkpointing": True})):
        run(setup_of("masked-lm", extracted(4, 8), training=training), tmp_path / name)
    kept, recomputed = (losses(tmp_path / name) for name in ("kept", "recomputed"))
    assert recomputed == [(step, pytest.approx(loss, rel=1e-4)) for step, loss in kept]


def adapted() -> Setup:
    """A student whose adapters alone are trained."""
    peft: Any = pytest.importorskip("peft")
    setup = setup_of("masked-lm", extracted(4, 8))
    setup.student.add_adapter(peft.LoraConfig(r=2, target_modules=["query", "value"]))
    return setup


def test_a_student_with_adapters_goes_on(tmp_path: Path) -> None:
    base = tmp_path / "base"
    setup_of("masked-lm", extracted(4, 8)).student.save_pretrained(base)

    def again() -> Setup:
        setup = adapted()
        setup.student.config._name_or_path = str(base)
        setup.student.peft_config["default"].base_model_name_or_path = str(base)
        torch.manual_seed(0)
        for name, parameter in setup.student.named_parameters():
            if "lora_A" in name:
                parameter.data.normal_(std=0.1)
        return setup

    whole = again()
    before = {name: value.clone() for name, value in whole.student.state_dict().items()}
    run(whole, tmp_path / "whole")
    changed = {
        name for name, value in whole.student.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed
    assert all("lora" in name for name in changed)
    prepared = prepared_run(again(), tmp_path / "killed")
    assert prepared.folder is not None
    with prepared.folder, pytest.raises(Killed), killed_at(StageTrainer, "compute_loss", 10):
        prepared.run()
    resumed = again()
    run(resumed, tmp_path / "killed", resume=True)
    for name, value in whole.student.state_dict().items():
        assert torch.equal(value, resumed.student.state_dict()[name]), name
