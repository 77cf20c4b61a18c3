"""Writes a teacher's signals to a cache, shard by shard, in any number of processes.

The teacher runs once over the data for all of its signals.

Complete shards are not written again. So an interrupted cache resumes, and only damaged shards are rebuilt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import Tensor

from vigreux.backends.transformer.setup import CALIBRATION_BATCHES, Setup
from vigreux.backends.transformer.stage_builder import build_stage
from vigreux.config.transformer import CacheConfig
from vigreux.curriculum import Stage, TeacherRef
from vigreux.distillation.matching import matcher_of
from vigreux.distillation.signals.base import SignalSource, TeacherSignal
from vigreux.distillation.signals.cached import signal_name
from vigreux.distillation.signals.formats import Dense, Format, Parts
from vigreux.distillation.signals.live import LiveTeacher
from vigreux.distillation.signals.store import SPLITS, CacheStore, Split
from vigreux.errors import ConfigError
from vigreux.models.placed import device_of
from vigreux.tasks.stream import Sample
from vigreux.tasks.task import Batch


@dataclass(frozen=True)
class CachedSignal:
    """One signal of one teacher, as a cache stores it.

    Args:
        name: the signal's name in the cache.
        ref: the teacher.
        signal: the kind of rows.
        form: the format of the rows.
        projection: (d_T, d_S) of hidden states and embeddings; `None` leaves them unprojected.
        before_head: whether the cache stores the output head's input in place of logits.
        spans: the training samples [first, end) that have rows; `None`: all.
    """

    name: str
    ref: TeacherRef
    signal: TeacherSignal
    form: Format
    projection: Tensor | None = None
    before_head: bool = False
    spans: tuple[tuple[int, int], ...] | None = None

    def covers(self, split: Split, keys: range) -> bool:
        """Whether any of these samples has rows."""
        if split == "held_out" or self.spans is None:
            return True
        return any(first < keys.stop and keys.start < end for first, end in self.spans)


def signals_to_cache(
    setup: Setup, config: CacheConfig, steps: Sequence[int] | None = None
) -> list[CachedSignal]:
    """The signals that the stages of a curriculum ask for, without duplicates.

    Args:
        setup: the run's setup.
        config: defines the formats.
        steps: the steps of each stage, for a cache by stream. Then each signal has rows for the samples of
            its stages, and for the samples on which the scale of targets is measured.

    Raises:
        ConfigError: a format does not fit the teacher.
    """
    signals: dict[str, CachedSignal] = {}
    spans = [None] * len(setup.curriculum) if steps is None else stage_spans(setup, steps)
    for stage, span in zip(setup.curriculum, spans):
        for signal in matcher_of(stage.target).signals:
            before_head = (
                signal.is_logits and setup.task.spec.over_vocabulary and config.logits == "head-input"
            )
            name = signal_name(stage.teacher, signal, before_head=before_head)
            if name not in signals:
                signals[name] = _cached_signal(name, setup, stage, signal, config, before_head)
            if span is not None:
                measured = (0, CALIBRATION_BATCHES * setup.samples_per_step)
                joined = joined_spans((*(signals[name].spans or ()), measured, span))
                signals[name] = replace(signals[name], spans=joined)
    return list(signals.values())


def stage_spans(setup: Setup, steps: Sequence[int]) -> list[tuple[int, int]]:
    """The samples [first, end) of the stream that each stage reads."""
    ends = [end * setup.samples_per_step for end in accumulate(steps)]
    return list(zip([0, *ends], ends))


def joined_spans(spans: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The spans in order; spans that touch or overlap are merged."""
    joined: list[tuple[int, int]] = []
    for first, end in sorted(spans):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((first, end))
    return tuple(joined)


def _cached_signal(
    name: str, setup: Setup, stage: Stage, signal: TeacherSignal, config: CacheConfig, before_head: bool
) -> CachedSignal:
    model, teacher = build_stage(setup, stage)
    assert isinstance(teacher, LiveTeacher)
    batch = next(setup.batches())
    if before_head and teacher.find_head(batch) is None:
        raise ConfigError(
            "cache.logits: 'head-input' needs a linear output head, which the teacher has not; accepted: top"
        )
    matrix = None
    if not signal.is_logits and isinstance(model.projection, Tensor):
        matrix = model.projection
    # The width of the rows is only known from a teacher's rows.
    unformatted = CachedSignal(name, stage.teacher, signal, Dense(1), matrix, before_head)
    width = (
        matrix.shape[1]
        if matrix is not None
        else _all_rows(setup, teacher, [unformatted], batch)[0].shape[-1]
    )
    form = signal.cache_form(config, width, over_vocabulary=setup.task.spec.over_vocabulary)
    return replace(unformatted, form=form)


def capture(
    setup: Setup,
    signals: Sequence[CachedSignal],
    store: CacheStore,
    *,
    process: int = 0,
    processes: int = 1,
    advance: Callable[[int], None] = lambda samples: None,
) -> None:
    """Writes the missing and damaged shards of this process.

    Args:
        setup: task and teachers.
        signals: see `signals_to_cache`.
        store: the cache.
        process, processes: this process's number, and the number of processes; a shard's number decides which
            process writes it.
        advance: called with the number of samples that were written.
    """
    teachers = {ref: setup.teachers.of(ref) for ref in dict.fromkeys(cached.ref for cached in signals)}
    for split in SPLITS:
        for number in store.missing(split, contents=True, process=process, processes=processes):
            store.write(split, number, _shard(setup, signals, teachers, store, split, number, advance))


def _shard(
    setup: Setup,
    signals: Sequence[CachedSignal],
    teachers: Mapping[TeacherRef, SignalSource | None],
    store: CacheStore,
    split: Split,
    number: int,
    advance: Callable[[int], None],
) -> dict[str, list[Parts]]:
    """Signal → the encoded rows of each sample of a shard."""
    encoded: dict[str, list[Parts]] = {cached.name: [] for cached in signals}
    device = device_of(setup.student)
    shard_keys = store.manifest.keys(split, number)
    size = setup.eval_batch_size
    for first in range(0, len(shard_keys), size):
        keys = shard_keys[first : first + size]
        batch = setup.task.collate(samples_of(setup, split, keys, by_stream=store.manifest.by == "stream"))
        batch = {name: value.to(device) for name, value in batch.items()}
        for ref, teacher in teachers.items():
            assert isinstance(teacher, LiveTeacher)
            requested = [cached for cached in signals if cached.ref == ref and cached.covers(split, keys)]
            for cached, rows in zip(requested, _all_rows(setup, teacher, requested, batch)):
                if cached.projection is not None:
                    rows = rows.float() @ cached.projection.to(rows.device, torch.float32)
                counts = _counts(setup, cached.signal, batch)
                encoded[cached.name] += _split(cached.form.encode(rows), counts)
        for cached in signals:
            if not cached.covers(split, keys):
                encoded[cached.name] += [cached.form.encode(torch.zeros(0, cached.form.width))] * len(keys)
        advance(len(keys))
    return encoded


def _all_rows(
    setup: Setup, teacher: LiveTeacher, signals: Sequence[CachedSignal], batch: Batch
) -> list[Tensor]:
    """(N, …) the rows of each signal of one teacher, from one forward pass (and one more for embeddings)."""
    states = [cached.signal.state for cached in signals if cached.signal.state is not None]
    end: Literal["logits", "head"] | None = None
    for cached in signals:
        if cached.signal.is_logits:
            end = "head" if cached.before_head else "logits"
    hidden: Mapping[tuple[int, bool], Tensor] = {}
    last = None
    if states or end:
        hidden, last = teacher.several(batch, states, end, setup.task.positions(batch))
    rows = []
    for cached in signals:
        signal = cached.signal
        if signal.state is not None:
            positions = signal.positions(setup.task, batch)
            rows.append(hidden[signal.state] if positions is None else hidden[signal.state][positions])
        elif signal.is_logits:
            assert last is not None
            rows.append(last)
        else:
            rows.append(signal.ask_model(teacher, setup.task, batch))
    return rows


def _counts(setup: Setup, signal: TeacherSignal, batch: Batch) -> Tensor:
    """(B,) the number of rows of each sample."""
    positions = signal.positions(setup.task, batch)
    if positions is None:
        return torch.ones(len(next(iter(batch.values()))), dtype=torch.long)
    return positions.sum(1)


def _split(parts: Parts, counts: Tensor) -> list[Parts]:
    pieces = {name: part.split(counts.tolist()) for name, part in parts.items()}
    return [{name: piece[i] for name, piece in pieces.items()} for i in range(len(counts))]


def samples_of(setup: Setup, split: Split, keys: Sequence[int], *, by_stream: bool) -> list[Sample]:
    """The samples with these keys in a cache."""
    if split == "held_out":
        return setup.task.held_out_samples(keys)
    if by_stream:
        stream = setup.task.stream(setup.seed, keys[0], len(keys))
        return [stream[i] for i in range(len(keys))]
    train: Any = setup.task.train
    return [Sample(train[i], i, setup.seed, i) for i in keys]


def samples_needed(setup: Setup, steps: Sequence[int] | None) -> int:
    """The number of training samples of a cache: those that a run of these steps reads, or all."""
    if steps is not None:
        return max(sum(steps), CALIBRATION_BATCHES) * setup.samples_per_step
    assert setup.task.train_samples is not None
    return setup.task.train_samples


def bytes_of(setup: Setup, signals: Sequence[CachedSignal], train: int, held_out: int) -> int:
    """An estimate of the bytes of all samples, from the number of rows in the first batch."""
    batch = next(setup.batches())
    size = len(next(iter(batch.values())))
    total = 0.0
    for cached in signals:
        positions = cached.signal.positions(setup.task, batch)
        rows = 1.0 if positions is None else int(positions.sum()) / size
        with_rows = train
        if cached.spans is not None:
            with_rows = sum(min(end, train) - min(first, train) for first, end in cached.spans)
        total += (with_rows + held_out) * rows * cached.form.bytes_per_row + 8 * (train + held_out)
    return round(total)
