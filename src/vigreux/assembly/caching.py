"""Writes a cache of a teacher's signals from a configuration, and sets up runs that use it."""

from __future__ import annotations

import hashlib
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors.torch import save
from torch import Tensor

from vigreux.activity import doing
from vigreux.assembly.build import make_setup
from vigreux.assembly.materials import Materials, load_materials
from vigreux.assembly.sources import local
from vigreux.backends.transformer.calibrate import plan_stages
from vigreux.backends.transformer.capture import (
    CachedSignal,
    bytes_of,
    capture,
    samples_needed,
    signals_to_cache,
    stage_spans,
)
from vigreux.backends.transformer.evaluation import HeldOut
from vigreux.backends.transformer.fingerprints import hash_of, tokenizer_fingerprint
from vigreux.backends.transformer.guard import check_first_batch
from vigreux.backends.transformer.setup import Setup
from vigreux.backends.transformer.setup_checks import check_setup
from vigreux.backends.transformer.stage_builder import run_projections
from vigreux.backends.transformer.training import DEFAULTS
from vigreux.config.transformer import RunConfig
from vigreux.curriculum import Projection, TeacherRef, resolve_steps
from vigreux.distillation.matching import matcher_of
from vigreux.distillation.signals.cached import (
    CachedTeachers,
    head_file,
    head_to_plain,
    keyed,
    signal_name,
)
from vigreux.distillation.signals.live import LiveTeacher
from vigreux.distillation.signals.store import MANIFEST, SPLITS, CacheStore, Manifest, readable
from vigreux.errors import CacheError, ConfigError
from vigreux.files.atomic import check_no_links, writing
from vigreux.files.lock import FolderBusyError, FolderLock, is_locked
from vigreux.models.layout import hidden_size
from vigreux.models.load import weights_fingerprint
from vigreux.models.placed import device_of
from vigreux.run.identity import process_count
from vigreux.tasks.evaluate import record_from
from vigreux.tasks.fingerprint import data_fingerprint
from vigreux.tasks.task import Task
from vigreux.units import human_bytes

HELD_OUT = "held-out"
PROJECTIONS = "projections"
# the fields of the task that determine which rows exist and what they contain
TASK_FIELDS = (
    "kind",
    "max_length",
    "mask_share",
    "attend_masked",
    "boundary_level",
    "pooling",
)


@dataclass(frozen=True)
class Capture:
    """A cache that `vigreux cache` is about to write.

    Args:
        store: the cache, new or resumed.
        setup: the setup of the run that the cache is for.
        signals: the signals to write.
        size: bytes of all signals, estimated from the first batches.
        materials: the teacher and the data.
        lock: the lock of the cache's directory. The first process holds it for all of them until `close`.
    """

    store: CacheStore
    setup: Setup
    signals: list[CachedSignal]
    size: int
    materials: Materials
    lock: FolderLock

    @property
    def samples_left(self) -> int:
        """Samples of this process's share of the missing shards."""
        state = PartialState()
        manifest = self.store.manifest
        share = {"process": state.process_index, "processes": state.num_processes}
        shards = ((split, self.store.missing(split, **share)) for split in SPLITS)
        return sum(len(manifest.keys(split, number)) for split, numbers in shards for number in numbers)

    def run(self, advance: Callable[[int], None] = lambda samples: None) -> None:
        """Writes what is missing: each process its shards, the first one also the files beside the shards."""
        state = PartialState()
        if state.is_main_process:
            self._write_beside()
        capture(
            self.setup,
            self.signals,
            self.store,
            process=state.process_index,
            processes=state.num_processes,
            advance=advance,
        )
        state.wait_for_everyone()
        self.close()

    def close(self) -> None:
        """Releases the lock, so that another process can write the cache."""
        self.lock.release()

    def _write_beside(self) -> None:
        record = self.materials.held_out.teacher_record(device_of(self.setup.student))
        assert record is not None
        self.store.write_beside(HELD_OUT, vars(record))
        self.store.write_beside(PROJECTIONS, _projections(self.setup))
        for cached in self.signals:
            if cached.before_head:
                teacher = self.setup.teachers.of(cached.ref)
                assert isinstance(teacher, LiveTeacher)
                head = teacher.find_head(next(self.setup.batches()))
                assert head is not None
                self.store.write_beside(head_file(cached.ref), head_to_plain(head.now()))


@doing("preparing the cache")
def begin_capture(config: RunConfig) -> Capture:
    """Loads the teacher and begins, or resumes, the cache that `config` names.

    Raises:
        ConfigError: there is no path, no stage asks a teacher for anything, or the disk has too little space.
        CacheError: the directory holds a cache of something else, or another process writes it.
    """
    if config.cache.path is None:
        raise ConfigError("cache.path: missing; accepted: a directory")
    if config.teacher.sharded and process_count() > 1:
        raise ConfigError(
            "teacher.sharded: true, and each process asks for shards of its own;"
            " accepted: false, and options.device_map"
        )
    root = Path(config.cache.path)
    if is_locked(root):
        raise _busy(root)
    materials = load_materials(config)
    config = materials.settled(config)
    damaged = stored = None
    if (root / MANIFEST).exists():  # existing shards have used the stored projections
        store = CacheStore.open(root)
        try:
            stored = cached_projections(store, student_width(config, materials))
        except CacheError as error:
            damaged = error
    setup = make_setup(config, materials, stored)
    check_setup(setup)
    check_first_batch(setup)
    by_stream = config.cache.by == "stream" or (config.cache.by == "auto" and setup.task.draws_again)
    if setup.task.draws_again and not by_stream:
        raise ConfigError("cache.by: 'index', and samples are others each time they come; accepted: stream")
    steps = [plan.steps for plan in plan_stages(setup)] if by_stream else None
    signals = signals_to_cache(setup, config.cache, steps)
    if not signals:
        raise ConfigError("curriculum: no stage asks a teacher for anything; accepted: one that does")
    fits = fingerprints(config, setup.task, materials.tokenizer, [cached.ref for cached in signals])
    manifest = _manifest(config, setup, signals, steps, fits)
    size = bytes_of(setup, signals, **manifest.samples)
    _check_space(root, size)
    lock = FolderLock(root)
    if PartialState().is_main_process:
        if (root / MANIFEST).exists():
            CacheStore.open(root).manifest.check_fits(manifest.fits, root)
        with writing(root):
            root.mkdir(parents=True, exist_ok=True)
        check_no_links(root)
        try:
            lock.take()
        except FolderBusyError as busy:
            raise _busy(root) from busy
        store = CacheStore.create(root, manifest)
        if damaged is not None:
            _repair_projections(store, setup, damaged)
    PartialState().wait_for_everyone()
    return Capture(CacheStore.create(root, manifest), setup, signals, size, materials, lock)


def _manifest(
    config: RunConfig,
    setup: Setup,
    signals: Sequence[CachedSignal],
    steps: Sequence[int] | None,
    fits: dict[str, str],
) -> Manifest:
    """The manifest of a cache: by stream if the `steps` of each stage are known, else by index."""
    spans = {
        cached.name: [list(span) for span in cached.spans] for cached in signals if cached.spans is not None
    }
    return Manifest(
        fits=fits,
        by="index" if steps is None else "stream",
        seed=None if steps is None else config.seed,
        samples={"train": samples_needed(setup, steps), "held_out": len(setup.task.held_out)},
        shard_samples=config.cache.shard_samples,
        signals={cached.name: cached.form for cached in signals},
        spans=spans,
    )


def _busy(root: Path) -> CacheError:
    return CacheError(
        f"{root}: is being written by another process; wait for it, or choose another cache.path"
    )


def _repair_projections(store: CacheStore, setup: Setup, damaged: CacheError) -> None:
    """Repairs damaged projections. If they cannot be reproduced exactly, all shards are rebuilt."""
    if not any(store.root.glob("*/shard-*.json")):
        return  # no shard has used them yet
    digest = hashlib.sha256(save(_projections(setup))).hexdigest()
    if digest == store.recorded(PROJECTIONS):
        warnings.warn(f"{str(damaged).split(';')[0]}: it is made again", UserWarning, stacklevel=3)
        return
    warnings.warn(
        f"{str(damaged).split(';')[0]}, and cannot be made again:"
        " all signals are asked of the teacher once more",
        UserWarning,
        stacklevel=3,
    )
    store.drop_shards()


def _projections(setup: Setup) -> dict[str, Tensor]:
    """The run's projections by name, as the cache stores them."""
    return {
        f"{spec.kind}/{spec.seed}": matrix.detach().cpu().contiguous()
        for spec, matrix in run_projections(setup).of_final().items()
    }


def _check_space(root: Path, size: int) -> None:
    existing = next(parent for parent in (root, *root.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    cached = sum(path.stat().st_size for path in root.rglob("*.safetensors")) if root.exists() else 0
    if size - cached > free:
        raise ConfigError(
            f"cache.path: {root}: takes about {human_bytes(size)}, and {human_bytes(free)} are free;"
            " accepted: more room, cache.precision int8, cache.logits top with a smaller cache.k"
        )


def fingerprints(config: RunConfig, task: Task, tokenizer: Any, refs: list[TeacherRef]) -> dict[str, str]:
    """Fingerprints of everything that the signals depend on: data, task, tokenizer and teachers' weights."""
    prints = {
        "data": data_fingerprint(task, str(config.task.data)),
        "task": hash_of({name: getattr(config.task, name) for name in TASK_FIELDS}),
        "tokenizer": tokenizer_fingerprint(tokenizer),
    }
    if task.id2label is not None:
        prints["order of classes"] = hash_of([task.id2label[i] for i in range(len(task.id2label))])
    series = {}
    if any(ref.kind == "checkpoint" for ref in refs):
        from vigreux.assembly.sources import checkpoint_series

        series = checkpoint_series(config.teacher.checkpoints, local(config.teacher.model))[0]
    for ref in refs:
        source = {
            "final": local(config.teacher.model),
            "checkpoint": series.get(ref.step or 0),
            "model": None if ref.model is None else local(ref.model),
        }[ref.kind]
        assert source is not None
        weights = f"{source}@{config.teacher.revision}"
        if Path(source).is_dir():
            weights = weights_fingerprint(source)
        if config.teacher.options:  # a quantised model gives different signals from the same weights
            weights += f" {hash_of(config.teacher.options)}"
        prints[f"teacher ({ref})"] = weights
    return prints


# --- training from a cache ----------------------------------------------------------------------------------


def cached_projections(store: CacheStore, width: int | None) -> dict[Projection, torch.Tensor]:
    """The projections to students of `width` that were applied to the cache's hidden states."""
    plain = store.read_beside(PROJECTIONS)
    with readable(store.root / f"{PROJECTIONS}.safetensors"):
        projections = {}
        for name, matrix in plain.items():
            kind, _, seed = name.partition("/")
            if matrix.shape[1] == width:
                projections[Projection(kind, int(seed))] = matrix  # type: ignore[arg-type]
        return projections


def student_width(config: RunConfig, materials: Materials) -> int:
    """The width of the student that `config` asks for."""
    return config.student.hidden or hidden_size(materials.model, materials.teacher.layout)


def open_cache(config: RunConfig, materials: Materials) -> CacheStore:
    """The cache that a run names. Raises `CacheError` if it is no cache, or was made for something else."""
    assert config.cache.path is not None
    store = CacheStore.open(Path(config.cache.path))
    config = materials.settled(config)
    refs = [_ref(name) for name in store.manifest.fits if name.startswith("teacher (")]
    store.manifest.check_fits(fingerprints(config, materials.task, materials.tokenizer, refs), store.root)
    if store.manifest.seed is not None and store.manifest.seed != config.seed:
        raise CacheError(
            f"{store.root}: holds the samples of seed {store.manifest.seed}, which masks follow;"
            " accepted: that seed"
        )
    return store


def _ref(name: str) -> TeacherRef:
    text = name.removeprefix("teacher (").removesuffix(")")
    if text == "final":
        return TeacherRef.final()
    if text.startswith("checkpoint "):
        return TeacherRef.checkpoint(int(text.split()[1]))
    return TeacherRef.other(text)


def learn_from_cache(setup: Setup, store: CacheStore) -> None:
    """Replaces the teachers of a setup by the cache.

    Raises:
        CacheError: a stage reads samples of a stream that were not written for it.
    """
    setup.teachers = CachedTeachers(store, device_of(setup.student))
    by_stream = store.manifest.by == "stream"
    if by_stream:
        _check_spans(setup, store)
    setup.task = keyed(setup.task, by_stream=by_stream)


def _check_spans(setup: Setup, store: CacheStore) -> None:
    steps = setup.budget.steps
    if steps is None and any(stage.duration.unit == "share" for stage in setup.curriculum):
        raise CacheError(
            f"{store.root}: holds samples for the stages of a run of so many steps; accepted: budget.steps"
        )
    spans = stage_spans(setup, resolve_steps(setup.curriculum, steps or 0, **setup.sizes))
    for stage, (first, end) in zip(setup.curriculum, spans):
        for signal in matcher_of(stage.target).signals:
            names = [
                signal_name(stage.teacher, signal, before_head=before_head) for before_head in (False, True)
            ]
            cached = [name for name in names if name in store.manifest.signals]
            if cached and not any(store.manifest.has(name, first, end) for name in cached):
                raise CacheError(
                    f"{store.root}: stage {stage.name!r} reads samples {first:,} to {end:,} of the stream,"
                    " which were not written for it; accepted: the curriculum and steps that the cache was"
                    " made for"
                )


def cached_held_out(config: RunConfig, task: Task, store: CacheStore) -> HeldOut:
    """Evaluation against the teacher's stored answers."""
    size = (DEFAULTS | config.training)["per_device_eval_batch_size"]
    pooling = config.task.pooling or "mean"
    plain = store.read_beside(HELD_OUT)
    with readable(store.root / f"{HELD_OUT}.safetensors"):
        record = record_from(plain)
    return HeldOut(task, None, pooling, size, record=record)
