"""What a plan says of a cache is what a cache takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.tiny import make_tiny, save_llama
from vigreux.assembly.caching import begin_capture
from vigreux.backends.transformer.planning import cache_price, make_plan
from vigreux.config.shared import BudgetConfig
from vigreux.config.transformer import CacheConfig, RunConfig, StudentConfig, TaskConfig, TeacherConfig
from vigreux.models.flops import count_flops


@pytest.mark.parametrize(
    "cache",
    [
        CacheConfig(by="stream"),
        CacheConfig(by="stream", logits="top", k=4),
        CacheConfig(by="stream", precision="bfloat16"),
    ],
    ids=["head input", "top", "half"],
)
def test_bytes_and_flops_of_a_small_capture(cache: CacheConfig, tmp_path: Path) -> None:
    tiny = make_tiny(tmp_path)
    config = RunConfig(
        task=TaskConfig(kind="causal-lm", data=tiny.text, max_length=16),
        teacher=TeacherConfig(model=str(save_llama(tmp_path / "teacher", tiny.bpe))),
        student=StudentConfig(layers=2, hidden=16),
        budget=BudgetConfig(steps=100),
        cache=CacheConfig(**(vars(cache) | {"path": str(tmp_path / "cache")})),
        training={"per_device_train_batch_size": 4, "per_device_eval_batch_size": 8, "use_cpu": True},
    )
    plan = make_plan(config, {})
    price = cache_price(config, plan)
    begun = begin_capture(config)
    held_out = begun.store.manifest.samples["held_out"]
    begun.run()
    written = sum(path.stat().st_size for path in (tmp_path / "cache" / "train").glob("*.safetensors"))
    assert written == pytest.approx(price.bytes, rel=0.1)
    assert begun.size == pytest.approx(price.bytes + held_out * price.bytes / 400, rel=0.2)
    for path in (tmp_path / "cache").rglob("shard-*"):
        path.unlink()
    flops = count_flops(begun.run) * 400 / (400 + held_out)
    assert flops == pytest.approx(
        price.capture_flops, rel=0.25
    )  # eager attention counts more than what a CPU's fused one shows
