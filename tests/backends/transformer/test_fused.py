"""A run whose loss comes from hidden states is the run whose loss comes from all logits, up to rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.backends.transformer.tiny import VOCABULARY, losses, run, setup_of, stage
from vigreux.backends.transformer import stage_builder
from vigreux.backends.transformer.stage_builder import build_stage
from vigreux.curriculum import Curriculum, Duration, Labels, Logits, Stage, TeacherRef

CURRICULA: dict[str, Curriculum] = {
    "one-shot": (stage("s", Logits(), 4),),
    "everything": (stage("s", Logits(2.0, 0.3, 5, "jensen-shannon", 2.0), 4),),
    "labels": (Stage("labels", TeacherRef.labels(), Labels(), None, Duration.steps(4)),),
}


@pytest.mark.parametrize("name", CURRICULA)
def test_the_same_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for which, least in (("plain", VOCABULARY + 1), ("fused", VOCABULARY)):
        monkeypatch.setattr(stage_builder, "FUSED_FROM", least)
        setup = setup_of("masked-lm", CURRICULA[name], training={"gradient_accumulation_steps": 2})
        model, _ = build_stage(setup, setup.curriculum[0])
        assert (model.heads is not None) == (which == "fused")
        setup.student.double()
        if setup.teachers.final is not None:
            setup.teachers.final.model.double()
        run(setup, tmp_path / which)
        found.append((losses(tmp_path / which), setup.student.state_dict()))
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-9)


def test_only_where_tokens_are_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_builder, "FUSED_FROM", 0)
    model, _ = build_stage(setup_of("classification", (stage("s", Logits(), 1),)), stage("s", Logits(), 1))
    assert model.heads is None


def test_a_teacher_without_a_linear_head_teaches_by_its_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_builder, "FUSED_FROM", 0)
    setup = setup_of("masked-lm", (stage("s", Logits(), 1),))
    assert setup.teachers.final is not None
    monkeypatch.setattr(setup.teachers.final, "find_head", lambda batch: None)
    model, _ = build_stage(setup, setup.curriculum[0])
    assert model.heads is None
    assert model.matcher.signals
