"""Caches of tiny setups."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import PartialState

from vigreux.backends.transformer.capture import capture, samples_needed, signals_to_cache
from vigreux.backends.transformer.evaluation import HeldOut
from vigreux.backends.transformer.setup import Setup
from vigreux.config.transformer import CacheConfig
from vigreux.distillation.signals.cached import CachedTeachers, head_file, head_to_plain, keyed
from vigreux.distillation.signals.store import CacheStore, Manifest
from vigreux.models.placed import device_of


def captured(setup: Setup, root: Path, config: CacheConfig) -> CacheStore:
    """The cache of a setup's own curriculum."""
    by_stream = setup.task.draws_again or config.by == "stream"
    steps = [int(each.duration.value) for each in setup.curriculum] if by_stream else None
    wanted = signals_to_cache(setup, config, steps)
    manifest = Manifest(
        fits={},
        by="stream" if by_stream else "index",
        seed=setup.seed if by_stream else None,
        samples={"train": samples_needed(setup, steps), "held_out": len(setup.task.held_out)},
        shard_samples=config.shard_samples,
        signals={each.name: each.form for each in wanted},
        spans={each.name: [list(span) for span in each.spans] for each in wanted if each.spans is not None},
    )
    store = CacheStore.create(root, manifest)
    state = PartialState()
    capture(setup, wanted, store, process=state.process_index, processes=state.num_processes)
    if not state.is_main_process:
        return store
    record = HeldOut(setup.task, setup.teachers.final).teacher_record(torch.device("cpu"))  # type: ignore[arg-type]
    store.write_beside("held_out", vars(record))
    for each in wanted:
        if each.before_head:
            teacher = setup.teachers.final
            assert teacher is not None
            head = teacher.find_head(next(setup.batches()))
            assert head is not None
            store.write_beside(head_file(each.ref), head_to_plain(head.now()))
    return CacheStore.open(root)


def cached(setup: Setup, store: CacheStore) -> Setup:
    """The same run, from the cache."""
    setup.teachers = CachedTeachers(store, device_of(setup.student))
    setup.task = keyed(setup.task, by_stream=store.manifest.by == "stream")
    return setup
