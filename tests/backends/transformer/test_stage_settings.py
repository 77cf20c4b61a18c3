"""What a stage may leave out: tokens that are not predicted, weights that stay, the final norm."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.backends.transformer.tiny import extracted, run, setup_of, stage
from tests.models.families import LAYERS, batch_of, config_of
from vigreux.backends.transformer.calibrate import step_cost
from vigreux.backends.transformer.setup import Setup
from vigreux.backends.transformer.stage_builder import build_stage
from vigreux.curriculum import Hidden, Joint, Logits, Projection
from vigreux.distillation.matching import matcher_of
from vigreux.distillation.signals.live import LiveTeacher, Teachers
from vigreux.distillation.stage_model import StageModel
from vigreux.errors import ConfigError
from vigreux.models.student import build
from vigreux.models.views import cut
from vigreux.tasks.task import Batch

pytestmark = pytest.mark.filterwarnings("ignore:stage .* explained variance")
SEEN = Projection("orthogonal", 3)
TABLE = "bert.embeddings.word_embeddings.weight"


def first_batch(setup: Setup) -> Batch:
    return next(iter(setup.batches()))


def mean_square(setup: Setup, model: StageModel, teacher: LiveTeacher, batch: Batch, rows: Tensor) -> Tensor:
    """Of the projected and scaled states after block 1, at some tokens, by hand."""
    own, theirs = cut(setup.student, 1)(batch)[rows], cut(teacher.model, 2)(batch)[rows]
    assert isinstance(model.projection, Tensor)
    assert model.statistics is not None
    targets = theirs @ model.projection
    scale = model.statistics.scaled_variance("none") / model.statistics.scaled_variance("unit")
    return (own - targets / scale**0.5).pow(2).mean()


def test_predicted_tokens_alone() -> None:
    target = Hidden(2, SEEN, positions="predicted")
    setup = setup_of("masked-lm", (stage("s", target, 1, depth=1),))
    model, teacher = build_stage(setup, setup.curriculum[0])
    assert teacher is not None
    batch = first_batch(setup)
    masked = batch["labels"] != -100
    assert 0 < masked.sum() < batch["attention_mask"].sum()
    found = model(batch, matcher_of(target).ask(teacher, setup.task, batch)) / model.count_rows(batch)
    torch.testing.assert_close(found, mean_square(setup, model, teacher, batch, masked))


def test_predicted_tokens_beside_the_logits() -> None:
    """A joint stage counts the tokens that its hidden part asks for."""
    target = Joint(Hidden(2, SEEN, positions="predicted"), Logits(), weight=0.5)
    setup = setup_of("masked-lm", (stage("s", target, 1, depth=1),))
    model, teacher = build_stage(setup, setup.curriculum[0])
    assert teacher is not None
    batch = first_batch(setup)
    masked = batch["labels"] != -100
    hidden = mean_square(setup, model, teacher, batch, masked)
    alone, _ = build_stage(setup, stage("l", Logits(), 1))
    logits = alone(batch, matcher_of(Logits()).ask(teacher, setup.task, batch))
    found = model(batch, matcher_of(target).ask(teacher, setup.task, batch))
    torch.testing.assert_close(found / masked.sum(), logits / masked.sum() + 0.5 * hidden)


@pytest.mark.parametrize("joint", [False, True])
def test_states_are_compared_by_their_direction(joint: bool) -> None:
    hidden = Hidden(2, SEEN, divergence="cosine")
    target = Joint(hidden, Logits(), weight=0.5) if joint else hidden
    setup = setup_of("masked-lm", (stage("s", target, 1, depth=1),))
    model, teacher = build_stage(setup, setup.curriculum[0])
    assert teacher is not None
    batch = first_batch(setup)
    tokens = batch["attention_mask"].bool()
    own, theirs = cut(setup.student, 1)(batch)[tokens], cut(teacher.model, 2)(batch)[tokens]
    lengths = own.norm(dim=1) * (theirs @ model.projection).norm(dim=1)
    expected = (1 - (own * (theirs @ model.projection)).sum(1) / lengths).mean()
    if joint:
        alone, _ = build_stage(setup, stage("l", Logits(), 1))
        signal = matcher_of(target.logits).ask(teacher, setup.task, batch)
        expected = alone(batch, signal) / (batch["labels"] != -100).sum() + 0.5 * expected
    found = model(batch, matcher_of(target).ask(teacher, setup.task, batch)) / model.count_rows(batch)
    torch.testing.assert_close(found, expected)


def test_predicted_tokens_of_a_classifier_are_refused(tmp_path: Path) -> None:
    setup = setup_of("classification", (stage("s", Hidden(2, SEEN, positions="predicted"), 1, depth=1),))
    with pytest.raises(ConfigError, match=r"hidden.positions: 'predicted' is for language models"):
        run(setup, tmp_path / "run")


@pytest.mark.parametrize("optimizer", ["carried", "per-stage"])
def test_embeddings_that_stay_after_the_first_stage(optimizer: str, tmp_path: Path) -> None:
    first, second, final = extracted(4, 4, 4)
    setup = setup_of(
        "masked-lm", (first, replace(second, frozen=0), final), optimizer=optimizer, keep_checkpoints=True
    )
    folder = run(setup, tmp_path / "run")
    after = [_table(folder.initial)] + [_table(folder.path / record.checkpoint) for record in folder.stages()]
    moved = [not torch.equal(before, now) for before, now in pairwise(after)]
    assert moved == [True, False, True]
    assert all(parameter.requires_grad for parameter in setup.student.parameters())


def _table(directory: Path) -> Tensor:
    return load_file(directory / "model.safetensors")[TABLE]


def test_a_frozen_part_costs_no_backward_pass(tmp_path: Path) -> None:
    whole = stage("s", Logits(), 1)
    setup = setup_of("masked-lm", (whole,))
    costs = [step_cost(setup, replace(whole, frozen=frozen)).student_flops for frozen in (None, 0, 1, 2)]
    assert costs[0] >= costs[1] > costs[2] > costs[3]


def test_states_before_the_final_norm_teach() -> None:
    """A GPT-2 student's target is what the teacher's final norm is given."""
    teacher = LiveTeacher(build(config_of("gpt2"), "AutoModelForCausalLM", 1))
    target = Hidden(LAYERS, Projection("identity"), "none", final_norm=False)
    setup = setup_of("masked-lm", (stage("s", target, 1, depth=LAYERS),), teachers=Teachers(teacher))
    setup.student = build(config_of("gpt2"), "AutoModelForCausalLM", 2)
    batch = batch_of("gpt2")
    signal = teacher.hidden(batch, LAYERS, final_norm=False)
    torch.testing.assert_close(
        teacher.model.transformer.ln_f(signal), teacher.hidden(batch, LAYERS), rtol=0, atol=0
    )
    model, _ = build_stage(setup, setup.curriculum[0])
    assert not any("ln_f" in name for name, _ in model.named_parameters())
    mask = batch["attention_mask"].bool()
    own = cut(setup.student, LAYERS, final_norm=False)(batch)
    found = model(batch, matcher_of(target).ask(teacher, setup.task, batch)) / mask.sum()
    torch.testing.assert_close(found, (own - signal)[mask].pow(2).mean())
