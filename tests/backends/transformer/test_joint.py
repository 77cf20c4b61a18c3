"""Hidden states and logits in one stage: one forward pass gives what two views give, and a step is that of
the sum by hand.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.backends.transformer.tiny import bert, losses, run, setup_of, stage, task_of
from tests.models.families import batch_of, model_of
from vigreux.backends.transformer.stage_builder import build_stage
from vigreux.curriculum import Hidden, Joint, Logits, Projection
from vigreux.distillation.matching import matcher_of
from vigreux.models.layout import num_blocks
from vigreux.models.views import JointView, LogitsView, cut
from vigreux.tasks.task import Batch, Task

pytestmark = pytest.mark.filterwarnings("ignore:stage .* explained variance")
SEEN = Projection("orthogonal", 3)


def first_batch(task: Task) -> Batch:
    stream = task.stream(0, 0, 8)
    return task.collate([stream[i] for i in range(8)])


@pytest.mark.parametrize("kind", ["masked-lm", "classification"])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_one_pass_gives_what_two_views_give(kind: str, depth: int) -> None:
    task, model = task_of(kind), bert(kind, layers=2, hidden=16, seed=1)
    batch = first_batch(task)
    positions = task.positions(batch)
    logits, hidden = JointView(model, depth)(batch, positions)
    torch.testing.assert_close(logits, LogitsView(model)(batch, positions), rtol=0, atol=0)
    torch.testing.assert_close(hidden, cut(model, depth)(batch), rtol=0, atol=0)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("depth", [1, 2])
def test_one_pass_gives_the_states_before_the_final_norm(depth: int) -> None:
    model, batch = model_of("gpt2", "AutoModelForCausalLM"), batch_of("gpt2")
    _, hidden = JointView(model, depth, final_norm=False)(batch)
    torch.testing.assert_close(hidden, cut(model, depth, final_norm=False)(batch), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["masked-lm", "classification"])
@pytest.mark.parametrize(("layer", "depth"), [(1, 1), (3, None)])
def test_the_loss_is_the_weighted_sum_of_both_means(kind: str, layer: int, depth: int | None) -> None:
    target = Joint(Hidden(layer, SEEN), Logits(), weight=0.3)
    setup = setup_of(kind, (stage("s", target, 1, depth=depth),))
    model, teacher = build_stage(setup, setup.curriculum[0])
    batch = first_batch(setup.task)
    rows = setup.task.positions(batch)
    found = model(batch, matcher_of(target).ask(teacher, setup.task, batch))

    alone = [
        build_stage(setup, stage("h", target.hidden, 1, depth=depth or num_blocks(setup.student))),
        build_stage(setup, stage("l", target.logits, 1)),
    ]
    hidden, logits = (
        own(batch, matcher_of(part).ask(teacher, setup.task, batch))
        for (own, _), part in zip(alone, (target.hidden, target.logits))
    )
    count = int(rows.sum()) if rows is not None else 8
    states = int(batch["attention_mask"].sum())
    torch.testing.assert_close(found / count, logits / count + 0.3 * hidden / states)


def test_a_joint_stage_trains_both(tmp_path: Path) -> None:
    run(
        setup_of("masked-lm", (stage("all", Joint(Hidden(2, SEEN), Logits()), 40, depth=1),)),
        tmp_path / "run",
    )
    found = [loss for _, loss in losses(tmp_path / "run")]
    assert sum(found[-3:]) < sum(found[:3])
