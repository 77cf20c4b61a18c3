"""A series of checkpoints: found by the last number of their names, and checked before anything is
trained.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vigreux.distillation.series import check_series, find_series
from vigreux.errors import CheckpointError, ConfigError
from vigreux.models.load import weights_fingerprint


def checkpoint(root: Path, name: str, value: float = 0.0) -> str:
    (root / name).mkdir(parents=True)
    save_file({"weight": torch.full((2,), value)}, root / name / "model.safetensors")
    return str(root / name)


def test_a_directory_of_checkpoints(tmp_path: Path) -> None:
    """In rising order of steps, not of names; what is no checkpoint is left alone."""
    for step in (1000, 200, 30):
        checkpoint(tmp_path, f"checkpoint-{step}")
    (tmp_path / "runs").mkdir()
    (tmp_path / "checkpoint-5").write_text("a file")
    assert find_series(str(tmp_path)) == {
        step: str(tmp_path / f"checkpoint-{step}") for step in (30, 200, 1000)
    }
    assert list(find_series(str(tmp_path))) == [30, 200, 1000]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["org/model-70m@step1000", "org/model-70m@step20"],
            {20: "org/model-70m@step20", 1000: "org/model-70m@step1000"},
        ),
        (["a/step-3", "b/step-1/"], {1: "b/step-1/", 3: "a/step-3"}),
        (["run7/step2k"], {2: "run7/step2k"}),
    ],
)
def test_a_list(names: list[str], expected: dict[int, str]) -> None:
    assert list(find_series(names).items()) == list(expected.items())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["run7/final"], "'run7/final' has no step in its name; accepted: names that end in a number"),
        (["org/model-70m@main"], "'org/model-70m@main' has no step in its name"),
        (["a/checkpoint-3", "b/checkpoint-3"], "'a/checkpoint-3' and 'b/checkpoint-3' have the same step, 3"),
    ],
)
def test_names_without_a_step_of_their_own(names: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_series(names)
    assert message in str(caught.value)


def test_directories_without_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no directory '.*missing'"):
        find_series(str(tmp_path / "missing"))
    with pytest.raises(CheckpointError, match="holds no directory checkpoint-STEP"):
        find_series(str(tmp_path))


def test_every_checkpoint_is_looked_at(tmp_path: Path) -> None:
    series = find_series([checkpoint(tmp_path, f"checkpoint-{step}", step) for step in (1, 2, 3)])
    check_series(series, weights_fingerprint)
    with pytest.raises(CheckpointError, match=r"checkpoint-9: no such directory"):
        check_series(series | {9: str(tmp_path / "checkpoint-9")}, weights_fingerprint)
    (tmp_path / "checkpoint-2" / "model.safetensors").write_bytes(b"\x08")
    with pytest.raises(CheckpointError, match="truncated or corrupted"):
        check_series(series, weights_fingerprint)


def test_the_same_weights_twice(tmp_path: Path) -> None:
    """Published series have held them."""
    series = find_series([checkpoint(tmp_path, "checkpoint-1", 1), checkpoint(tmp_path, "checkpoint-2", 1)])
    with pytest.raises(
        CheckpointError, match=r"checkpoint-2' \(step 2\) holds the same weights as '.*checkpoint-1'"
    ):
        check_series(series, weights_fingerprint)
