"""Small configurations: two-layer networks that train in a few milliseconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from vigreux.config.shared import BudgetConfig
from vigreux.config.two_layer import BooleanTaskConfig, NetworkConfig, SGDConfig, TwoLayerConfig


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIGREUX_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def config() -> TwoLayerConfig:
    """A student of 6 units on labels: 64 steps on 2 of 12 coordinates."""
    return TwoLayerConfig(
        task=BooleanTaskConfig(n=12, k=2, eval_samples=64),
        student=NetworkConfig(width=6),
        curriculum="supervised",
        budget=BudgetConfig(steps=64),
        training=SGDConfig(eval_every=32),
        output="grid",
    )
