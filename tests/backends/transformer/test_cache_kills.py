"""A capture, or a run that learns from a cache, that is killed anywhere goes on to the same result."""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.backends.transformer.caches import cached, captured
from tests.backends.transformer.tiny import Killed, extracted, killed_at, losses, prepared_run, run, setup_of
from tests.processes import python_m
from vigreux.backends.transformer.setup import Setup
from vigreux.backends.transformer.stage_trainer import StageTrainer
from vigreux.config.transformer import CacheConfig
from vigreux.distillation.signals import store as cache_store
from vigreux.distillation.signals.store import CacheStore
from vigreux.run.folder import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore:stage .* explained variance")
CACHE = CacheConfig(shard_samples=8)
STEPS = (4, 3, 5)
POINTS = 20


def setup() -> Setup:
    return setup_of("masked-lm", extracted(*STEPS))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> CacheStore:
    return captured(setup(), tmp_path_factory.mktemp("whole") / "cache", CACHE)


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }


@pytest.mark.parametrize("point", range(POINTS))
def test_a_capture_goes_on(point: int, whole: CacheStore, tmp_path: Path) -> None:
    """At a file drawn at random: before it is written, after it, or with half of it on the disk under another
    name.
    """
    draw = random.Random(point)
    files = len([name for name in contents(whole.root) if name.endswith((".safetensors", ".json"))])
    with (
        pytest.raises(Killed),
        killed_at(cache_store, "write_atomic", draw.randint(1, files), after=draw.random() < 0.5),
    ):
        captured(setup(), tmp_path / "cache", CACHE)
    if draw.random() < 0.3:
        (tmp_path / "cache" / "train").mkdir(parents=True, exist_ok=True)
        (tmp_path / "cache" / "train" / ".shard-00001.safetensors.9.tmp").write_bytes(b"half")
    captured(setup(), tmp_path / "cache", CACHE)
    found = {name: data for name, data in contents(tmp_path / "cache").items() if not name.endswith(".tmp")}
    assert found == contents(whole.root)


def test_a_capture_that_the_kernel_kills(whole: CacheStore, tmp_path: Path) -> None:
    ended = python_m(
        "tests.backends.transformer.test_cache_kills", tmp_path / "cache", 5, cwd=Path(__file__).parents[3]
    )
    assert ended.code == -signal.SIGKILL, ended.err
    assert CacheStore.open(tmp_path / "cache").missing("train")
    captured(setup(), tmp_path / "cache", CACHE)
    assert contents(tmp_path / "cache") == contents(whole.root)


@pytest.fixture(scope="module")
def uninterrupted(whole: CacheStore, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("run") / "run"
    one = cached(setup(), whole)
    run(one, root)
    return root, {name: value.clone() for name, value in one.student.state_dict().items()}


@pytest.mark.parametrize("point", range(POINTS))
def test_a_run_from_a_cache_goes_on(
    point: int, whole: CacheStore, uninterrupted: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """At a step drawn at random, of any stage."""
    root, expected = uninterrupted
    prepared = prepared_run(cached(setup(), whole), tmp_path / "run")
    assert prepared.folder is not None
    step = random.Random(point).randint(1, sum(STEPS))
    with prepared.folder, pytest.raises(Killed), killed_at(StageTrainer, "compute_loss", step):
        prepared.run()
    again = cached(setup(), CacheStore.open(whole.root))
    run(again, tmp_path / "run", resume=True)
    assert RunFolder.open(tmp_path / "run").status == "finished"
    assert losses(tmp_path / "run") == losses(root)
    for name, value in again.student.state_dict().items():
        assert torch.equal(value, expected[name]), name


if __name__ == "__main__":
    with killed_at(
        cache_store, "write_atomic", int(sys.argv[2]), die=lambda: os.kill(os.getpid(), signal.SIGKILL)
    ):
        captured(setup(), Path(sys.argv[1]), CACHE)
