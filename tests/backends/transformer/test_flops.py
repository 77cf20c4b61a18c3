"""What a step costs: the FLOPs of the blocks that run, and the steps that a budget of them buys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.backends.transformer.tiny import bert, extracted, run, setup_of, stage, teacher_of
from vigreux.backends.transformer.calibrate import plan_stages, step_cost
from vigreux.backends.transformer.setup import Setup
from vigreux.config.shared import BudgetConfig
from vigreux.curriculum import (
    Duration,
    Embedding,
    Hidden,
    Labels,
    Logits,
    Projection,
    Stage,
    TeacherRef,
)
from vigreux.distillation.signals.live import Teachers
from vigreux.models.freezing import freeze_first_blocks

pytestmark = pytest.mark.filterwarnings("ignore:stage .* explained variance")

WHOLE = Duration.share(1.0)


def counted(run: Any) -> int:
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return int(counter.get_total_flops())


def blocks_alone(model: Any, blocks: int, setup: Setup, *, backward: bool) -> int:
    """FLOPs of the blocks themselves on the first batch, one after another on embeddings that need a
    gradient.
    """
    batch = next(setup.batches())
    mask = torch.zeros_like(batch["attention_mask"])[:, None, None].float()  # (B, 1, 1, T)
    states = model.bert.embeddings(batch["input_ids"]).detach().requires_grad_(backward)

    def through() -> None:
        hidden = states
        for block in model.bert.encoder.layer[:blocks]:
            hidden = block(hidden, mask)
        if backward:
            hidden.sum().backward()

    found = counted(through)
    model.zero_grad()
    return found


def projection_flops(setup: Setup, widths: tuple[int, int]) -> int:
    """Of the teacher's states at every token of the first batch to the student's width."""
    return 2 * int(next(setup.batches())["attention_mask"].sum()) * widths[0] * widths[1]


@pytest.mark.parametrize(("layer", "depth"), [(1, 1), (2, 1), (3, 2), (2, None)])
def test_an_early_stage_costs_its_blocks_alone(layer: int, depth: int | None) -> None:
    setup = setup_of("masked-lm", (stage("s", Hidden(layer), 1, depth=depth),))
    final: Any = setup.teachers.final
    with torch.no_grad():
        of_teacher = blocks_alone(final.model, layer, setup, backward=False)
    of_student = blocks_alone(setup.student, depth or 2, setup, backward=True)
    cost = step_cost(setup, setup.curriculum[0], batches=1)
    assert cost.teacher_flops == of_teacher > 0
    assert cost.student_flops == of_student + projection_flops(setup, (24, 16))


def test_labels_cost_no_teacher_and_a_backward_pass_costs_two_forward_ones() -> None:
    setup = setup_of(
        "masked-lm", (Stage("s", TeacherRef.labels(), Labels(), None, WHOLE),), budget=BudgetConfig(steps=1)
    )
    cost = step_cost(setup, setup.curriculum[0], batches=1)
    batch = next(setup.batches())
    rows, width = int((batch["labels"] != -100).sum()), 16
    head = 2 * rows * (width * width + width * 40)  # transform and decoder, at the predicted positions alone
    assert cost.teacher_flops == 0
    assert cost.student_flops == blocks_alone(setup.student, 2, setup, backward=True) + 3 * head


def test_half_the_depth_costs_about_half() -> None:
    """Of blocks four times as wide, beside which the projection is small."""
    setup = setup_of("masked-lm", (stage("s", Hidden(1), 1, depth=1), stage("t", Hidden(2), 1, depth=2)))
    setup.student = bert("masked-lm", layers=2, hidden=64, seed=0)
    half, whole = (step_cost(setup, each) for each in setup.curriculum)
    assert half.student_flops / whole.student_flops == pytest.approx(0.5, abs=0.03)
    assert half.teacher_flops / whole.teacher_flops == pytest.approx(0.5, abs=1e-9)


def test_frozen_blocks_cost_their_forward_pass() -> None:
    setup = setup_of("masked-lm", (stage("s", Logits(), 1),))
    free = step_cost(setup, setup.curriculum[0], batches=1)
    forward = blocks_alone(setup.student, 1, setup, backward=False)
    trained = blocks_alone(setup.student, 1, setup, backward=True)
    freeze_first_blocks(setup.student, 1)
    frozen = step_cost(setup, setup.curriculum[0], batches=1)
    saved = free.student_flops - frozen.student_flops
    assert 0.9 * (trained - forward) < saved <= trained  # the second block's input needs no gradient either


def test_a_step_is_all_its_micro_batches() -> None:
    """Two batches are averaged, so four micro-batches cost twice the two."""
    setup = setup_of("masked-lm", extracted(1, 1))
    one = step_cost(setup, setup.curriculum[0])
    setup.training |= {"gradient_accumulation_steps": 4}
    assert step_cost(setup, setup.curriculum[0]).flops == 4 * one.flops


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize(
    "target",
    [Labels(), Logits(), Hidden(1), Hidden(1, Projection("learned")), Hidden(1, Projection("pca"))],
    ids=str,
)
def test_measuring_leaves_everything_as_it_was(target: Any, timed: bool) -> None:
    teacher = TeacherRef.labels() if isinstance(target, Labels) else TeacherRef.final()
    setup = setup_of("masked-lm", (Stage("s", teacher, target, None, Duration.steps(1)),), dropout=0.1)
    before = {name: value.clone() for name, value in setup.student.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    cost = step_cost(setup, setup.curriculum[0], timed=timed)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in setup.student.state_dict().items())
    assert all(parameter.grad is None for parameter in setup.student.parameters())
    assert (cost.seconds is not None) is timed
    assert cost.seconds is None or cost.seconds > 0


def test_embeddings_are_counted_too() -> None:
    setup = setup_of("embedding", (stage("s", Embedding(), 1),))
    cost = step_cost(setup, setup.curriculum[0])
    assert cost.student_flops > 0
    assert cost.teacher_flops > 0


@pytest.mark.parametrize("share", [0.2, 0.4, 0.5])
def test_a_budget_of_flops_is_not_overspent(share: float, tmp_path: Path) -> None:
    curriculum = (
        stage("hidden", Hidden(1), Duration.share(share), depth=1),
        stage("final", Logits(), Duration.share(1 - share)),
    )
    setup = setup_of("masked-lm", curriculum, budget=BudgetConfig(flops=6e7))
    plan = plan_stages(setup)
    spent = sum(planned.steps * planned.cost.flops for planned in plan)
    assert 6e7 - sum(planned.cost.flops for planned in plan) < spent <= 6e7
    summary = run(setup, tmp_path).summary()
    assert summary is not None
    assert summary.flops == pytest.approx(spent)
    assert summary.steps == sum(planned.steps for planned in plan)


def test_early_stages_buy_more_steps() -> None:
    budget = BudgetConfig(flops=6e7)
    early = (
        stage("hidden", Hidden(1), Duration.share(0.5), depth=1),
        stage("final", Logits(), Duration.share(0.5)),
    )
    steps = [
        sum(p.steps for p in plan_stages(setup_of("masked-lm", c, budget=budget)))
        for c in (early, (stage("a", Logits(), WHOLE),))
    ]
    assert steps[0] > steps[1]


def test_a_budget_of_seconds(tmp_path: Path) -> None:
    """Measured, then spent: within what one measurement on a busy machine is worth."""
    setup = setup_of("masked-lm", (stage("final", Logits(), WHOLE),), budget=BudgetConfig(seconds=2.0))
    (planned,) = plan_stages(setup)
    assert planned.cost.seconds is not None
    assert planned.steps == int(2.0 / planned.cost.seconds + 1e-9)


def test_a_checkpoint_teacher_is_counted(tmp_path: Path) -> None:
    small = teacher_of("masked-lm", layers=1, seed=5)
    teachers = Teachers(teacher_of("masked-lm"), {10: "ten"}, lambda source: small)
    curriculum = (
        Stage("ten", TeacherRef.checkpoint(10), Logits(), None, Duration.steps(1)),
        stage("final", Logits(), 1),
    )
    setup = setup_of("masked-lm", curriculum, teachers=teachers)
    ten, final = (step_cost(setup, each, batches=1) for each in curriculum)
    assert ten.student_flops == final.student_flops
    with torch.no_grad():
        differ = blocks_alone(teachers.final.model, 3, setup, backward=False) - blocks_alone(
            small.model, 1, setup, backward=False
        )
    assert final.teacher_flops - ten.teacher_flops == differ
