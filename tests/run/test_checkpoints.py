import json
import os
from pathlib import Path

import pytest

from vigreux.run import checkpoints


def checkpoint(stage_dir: Path, number: int) -> Path:
    directory = stage_dir / f"checkpoint-{number}"
    (directory / "deep").mkdir(parents=True)
    (directory / "model.safetensors").write_bytes(bytes(range(256)) * number)
    (directory / "deep" / "rng.pth").write_bytes(b"rng")
    checkpoints.write_manifest(directory)
    return directory


def test_a_whole_checkpoint_verifies(tmp_path):
    directory = checkpoint(tmp_path, 10)
    assert checkpoints.verify_manifest(directory) == []
    assert set(json.loads((directory / "manifest.json").read_text())["files"]) == {
        "model.safetensors",
        "deep/rng.pth",
    }


def flip_a_byte(directory: Path) -> None:
    path = directory / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


def truncate(directory: Path) -> None:
    os.truncate(directory / "model.safetensors", 5)


DAMAGE = {
    "model.safetensors is damaged (its SHA-256 differs from the recorded one)": flip_a_byte,
    "model.safetensors has 5 bytes instead of 2560": truncate,
    "deep/rng.pth is missing": lambda directory: (directory / "deep" / "rng.pth").unlink(),
    "manifest.json is missing (the run stopped while it wrote the checkpoint)": lambda directory: (
        directory / "manifest.json"
    ).unlink(),
    "manifest.json is damaged": lambda directory: os.truncate(directory / "manifest.json", 20),
}


@pytest.mark.parametrize("problem", DAMAGE)
def test_damage_is_named_and_the_checkpoint_before_is_used(tmp_path, problem, caplog):
    older, newest = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    assert checkpoints.latest_checkpoint(tmp_path) == newest  # by number, not by name
    DAMAGE[problem](newest)
    assert checkpoints.verify_manifest(newest) == [problem]
    assert checkpoints.latest_checkpoint(tmp_path) == older
    assert caplog.messages == [f"{newest}: not used: {problem}"]


def test_without_a_whole_checkpoint_there_is_none(tmp_path):
    assert checkpoints.latest_checkpoint(tmp_path / "none") is None
    truncate(checkpoint(tmp_path, 10))
    assert checkpoints.latest_checkpoint(tmp_path) is None


def test_rotate_keeps_the_newest_whole_ones(tmp_path):
    for number in (5, 10, 15, 20):
        checkpoint(tmp_path, number)
    (tmp_path / "checkpoint-20" / "manifest.json").unlink()
    (tmp_path / "checkpoint-best").mkdir()
    checkpoints.rotate(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-10",
        "checkpoint-15",
        "checkpoint-best",
    ]


def test_checkpoints_come_in_order_of_steps_and_need_no_manifest(tmp_path):
    """The output of a Trainer of another program has no manifests."""
    for name in ("checkpoint-200", "checkpoint-30", "checkpoint-1000", "checkpoint-best", "runs"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-5").write_text("a file")
    found = checkpoints.checkpoints_in(tmp_path)
    assert list(found) == [30, 200, 1000]
    assert all(path == checkpoints.checkpoint_path(tmp_path, step) for step, path in found.items())
    assert all(checkpoints.step_of(path) == step for step, path in found.items())
    with pytest.raises(ValueError, match="not a checkpoint-STEP directory"):
        checkpoints.step_of(tmp_path / "checkpoint-best")
    assert checkpoints.checkpoints_in(tmp_path / "none") == {}
