"""Two processes with half of each step's samples give what one process gives with all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.backends.transformer.distributed import (
    CASES,
    PROCESSES,
    SPREAD,
    WHOLE_AND_SPREAD,
    case,
    made_for,
    ready,
)
from tests.backends.transformer.tiny import losses, run
from tests.processes import two_ranks
from vigreux.backends.transformer.stage_trainer import LEARNED_PROJECTION
from vigreux.errors import CheckpointError
from vigreux.run.folder import RunFolder

pytestmark = [
    pytest.mark.filterwarnings("ignore:stage .* explained variance"),
    pytest.mark.filterwarnings("ignore:.*activation_checkpointing:FutureWarning"),
]


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases run in one pair of processes."""
    root = tmp_path_factory.mktemp("distributed")
    ended = two_ranks("tests.backends.transformer.distributed", root, cwd=Path(__file__).parents[3])
    assert [rank.code for rank in ended] == [0, 0], "\n".join(rank.err[-4000:] for rank in ended)
    return root


@pytest.mark.parametrize("name", [*CASES, *SPREAD])
def test_two_processes_train_as_one(name: str, launched: Path, tmp_path: Path) -> None:
    tolerance = 1e-5 if name.endswith("learned projection") else 1e-9  # which is float32
    with made_for(name):
        setup = ready(name, 1, launched)
        start = {name: value.clone() for name, value in setup.student.state_dict().items()}
        single = run(setup, tmp_path)
    found = [torch.load(launched / f"{name}.{rank}.pt") for rank in range(PROCESSES)]
    for key, value in setup.student.state_dict().items():
        assert torch.equal(found[0][key], found[1][key]), key
        torch.testing.assert_close(
            found[0][key], value, rtol=0, atol=tolerance, msg=lambda text, key=key: f"{key}: {text}"
        )
    assert any((value - start[key]).abs().max() > 1e-3 for key, value in setup.student.state_dict().items())
    expected = [(step, pytest.approx(loss, rel=1e-5)) for step, loss in losses(tmp_path)]
    assert losses(launched / name) == expected
    summaries = [RunFolder.open(root).summary() for root in (launched / name, tmp_path)]
    assert summaries[0] is not None
    assert summaries[1] is not None
    assert summaries[0].metrics == pytest.approx(dict(summaries[1].metrics), rel=1e-5)
    assert summaries[0].steps == summaries[1].steps
    assert [stage.name for stage in RunFolder.open(launched / name).stages()] == [
        stage.name for stage in single.stages()
    ]


@pytest.mark.parametrize("name", ["learned projection", "sharded, learned projection"])
def test_a_learned_projection_is_trained_by_all(name: str, launched: Path, tmp_path: Path) -> None:
    run(case(name, 1), tmp_path)
    place = Path("stages") / "00-hidden-1" / "checkpoint-4" / LEARNED_PROJECTION
    found, expected = (load_file(root / place)["weight"] for root in (launched / name, tmp_path))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert not (launched / name / "stages" / "01-final" / "checkpoint-5" / LEARNED_PROJECTION).exists()


@pytest.mark.parametrize("name", WHOLE_AND_SPREAD)
def test_two_processes_go_on_where_they_were(name: str, launched: Path) -> None:
    for rank in range(PROCESSES):
        found, expected = (torch.load(launched / f"{kind}.{rank}.pt") for kind in (f"{name}, resumed", name))
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert len(RunFolder.open(launched / f"{name}, resumed").info()["resumed"]) == 1


@pytest.mark.parametrize("name", WHOLE_AND_SPREAD)
def test_one_process_goes_on_with_what_two_began(name: str, launched: Path) -> None:
    with pytest.raises(
        CheckpointError, match="2 processes took 8 samples a step, and 1 would take 4; accepted: "
    ):
        run(case(name, 2), launched / f"{name}, killed", resume=True)
    setup = case(name, 1)
    run(setup, launched / f"{name}, killed", resume=True)
    expected = torch.load(launched / f"{name}.0.pt")
    found = setup.student.state_dict()
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-9)


def test_each_process_holds_a_part_of_a_spread_student(launched: Path) -> None:
    shares = [float((launched / f"share.{rank}.txt").read_text()) for rank in range(PROCESSES)]
    assert sum(shares) == pytest.approx(1)
    assert max(shares) < 0.6


def test_a_loss_that_is_no_number_stops_all(launched: Path) -> None:
    messages = [(launched / f"error.{rank}.txt").read_text() for rank in range(PROCESSES)]
    assert messages[0] == messages[1]
    assert messages[0].startswith(
        "stage 'hidden-2': the loss is nan at step 2; no checkpoint of this stage was reached"
    )
    assert RunFolder.open(launched / "not a number").status == "failed"
