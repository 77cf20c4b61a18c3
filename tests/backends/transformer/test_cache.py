"""A student that learns from a cache is the student that learns from the live teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.backends.transformer.caches import cached, captured
from tests.backends.transformer.tiny import VOCABULARY, losses, run, setup_of, stage, teacher_of
from vigreux.backends.transformer import stage_builder
from vigreux.backends.transformer.capture import capture, signals_to_cache
from vigreux.backends.transformer.setup import Setup
from vigreux.backends.transformer.stage_builder import build_stage
from vigreux.config.transformer import CacheConfig
from vigreux.curriculum import Curriculum, Embedding, Hidden, Joint, Logits, Projection
from vigreux.distillation.signals.store import CacheStore, Manifest
from vigreux.errors import CacheError
from vigreux.models.layout import block_list
from vigreux.run.folder import RunFolder
from vigreux.tasks.evaluate import record_from

pytestmark = pytest.mark.filterwarnings("ignore:stage .* explained variance")
SEEN = Projection("orthogonal", 3)
EXACT = CacheConfig(precision="float32", head_precision="float32", shard_samples=7)

CURRICULA: dict[str, tuple[str, Curriculum]] = {
    "extraction": (
        "masked-lm",
        (
            stage("h1", Hidden(1, SEEN), 3, depth=1),
            stage("h2", Hidden(2, SEEN), 2, depth=2),
            stage("f", Logits(), 4),
        ),
    ),
    "everything asked": ("masked-lm", (stage("f", Logits(2.0, 0.3, 5, "jensen-shannon", 2.0), 4),)),
    "predicted tokens": ("masked-lm", (stage("h", Hidden(2, SEEN, positions="predicted"), 4, depth=1),)),
    "pca": ("masked-lm", (stage("h", Hidden(2, Projection("pca")), 4, depth=1),)),
    "learned": ("masked-lm", (stage("h", Hidden(2, Projection("learned")), 4, depth=1),)),
    "cosine": ("masked-lm", (stage("h", Hidden(2, SEEN, divergence="cosine"), 4, depth=1),)),
    "joint": ("masked-lm", (stage("j", Joint(Hidden(2, SEEN), Logits(), 0.5), 4, depth=1),)),
    "classes": ("classification", (stage("h", Hidden(1, SEEN), 2, depth=1), stage("f", Logits(), 9))),
    "embedding": ("embedding", (stage("e", Embedding("mean", SEEN), 9),)),
}


def weights(setup: Setup) -> dict[str, Tensor]:
    return setup.student.state_dict()


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", CURRICULA)
def test_the_run_of_the_live_teacher(
    name: str, fused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_builder, "FUSED_FROM", 0 if fused else VOCABULARY + 1)
    kind, curriculum = CURRICULA[name]
    live = setup_of(kind, curriculum)
    run(live, tmp_path / "live")
    store = captured(setup_of(kind, curriculum), tmp_path / "cache", EXACT)
    again = cached(setup_of(kind, curriculum), store)
    run(again, tmp_path / "cached", record=record_from(store.read_beside("held_out")))
    assert (
        RunFolder.open(tmp_path / "cached").summary().metrics.keys()
        == RunFolder.open(tmp_path / "live").summary().metrics.keys()
    )
    torch.testing.assert_close(losses(tmp_path / "cached"), losses(tmp_path / "live"), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weights(again), weights(live), rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize(
    "config", [CacheConfig(), CacheConfig(logits="top", k=8), CacheConfig(logits="top", k=VOCABULARY)]
)
def test_what_is_rounded_is_close(config: CacheConfig, tmp_path: Path) -> None:
    kind, curriculum = CURRICULA["extraction"]
    live = setup_of(kind, curriculum)
    run(live, tmp_path / "live")
    store = captured(setup_of(kind, curriculum), tmp_path / "cache", config)
    run(cached(setup_of(kind, curriculum), store), tmp_path / "cached")
    found, expected = (dict(losses(tmp_path / which)) for which in ("cached", "live"))
    for step, loss in expected.items():
        assert found[step] == pytest.approx(loss, rel=0.05)


def test_several_processes_and_a_damaged_shard(tmp_path: Path) -> None:
    kind, curriculum = CURRICULA["classes"]
    whole = captured(setup_of(kind, curriculum), tmp_path / "one", EXACT)
    setup = setup_of(kind, curriculum)
    wanted = signals_to_cache(setup, EXACT)
    store = CacheStore.create(tmp_path / "two", whole.manifest)
    capture(setup, wanted, store, process=1, processes=2)
    left = store.missing("train")
    assert 0 < len(left) < whole.manifest.shards("train")
    capture(setup, wanted, store)
    for path in sorted((tmp_path / "one").rglob("shard-*.safetensors")):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
    damaged = tmp_path / "two" / "train" / "shard-00001.safetensors"
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "two").rglob("shard*")}
    damaged.write_bytes(b"x" + damaged.read_bytes()[1:])
    done: list[int] = []
    capture(setup, wanted, store, advance=done.append)
    assert sum(done) == EXACT.shard_samples
    changed = {path.name for path, at in before.items() if path.stat().st_mtime_ns != at}
    assert changed == {"shard-00001.safetensors", "shard-00001.json"}
    assert store.missing("train", contents=True) == []


def test_processes_that_do_not_keep_step_leave_nothing_out(tmp_path: Path) -> None:
    """One is done with half of its shards before the other looks at what is missing."""
    kind, curriculum = CURRICULA["classes"]
    setup = setup_of(kind, curriculum)
    whole = captured(setup, tmp_path / "one", EXACT)
    store = CacheStore.create(tmp_path / "two", whole.manifest)
    wanted = signals_to_cache(setup, EXACT)
    for process in (0, 1):
        capture(setup, wanted, store, process=process, processes=2)
    assert store.missing("train", contents=True) == store.missing("held_out", contents=True) == []


def test_one_forward_pass_for_all_signals(tmp_path: Path) -> None:
    kind, curriculum = CURRICULA["extraction"]
    setup = setup_of(kind, curriculum)
    wanted = signals_to_cache(setup, EXACT)
    samples = {"train": 96, "held_out": 12}
    manifest = Manifest({}, "stream", 0, samples, 48, {each.name: each.form for each in wanted})  # type: ignore[arg-type]
    teacher = setup.teachers.final
    assert teacher is not None
    calls: list[int] = []
    handle = block_list(teacher.model)[0].register_forward_hook(
        lambda module, args, output: calls.append(len(args[0]))
    )
    capture(setup, wanted, CacheStore.create(tmp_path / "cache", manifest))
    handle.remove()
    assert len(wanted) == 3
    assert sum(calls) == sum(samples.values())


def test_another_width_is_refused(tmp_path: Path) -> None:
    kind, curriculum = CURRICULA["predicted tokens"]
    store = captured(setup_of(kind, curriculum), tmp_path / "cache", EXACT)
    setup = cached(setup_of(kind, (stage("h", Hidden(2, SEEN, positions="predicted"), 4, depth=1),)), store)
    setup.student = teacher_of(kind, hidden=20).model
    with pytest.raises(CacheError, match="was made for students of width 16; accepted: that width, not 20"):
        build_stage(setup, setup.curriculum[0])


def test_a_stage_that_the_cache_does_not_have(tmp_path: Path) -> None:
    kind, curriculum = CURRICULA["predicted tokens"]
    store = captured(setup_of(kind, curriculum), tmp_path / "cache", EXACT)
    setup = cached(setup_of(kind, (stage("h", Hidden(1, SEEN), 4, depth=1),)), store)
    with pytest.raises(
        CacheError, match=r"does not hold 'final: hidden 1 \(orthogonal/3\)'; accepted: final: hidden 2"
    ):
        build_stage(setup, setup.curriculum[0])
