"""The cost of a step of each kind of stage, compared with one-shot and with training on labels: one thread.

    python benchmarks/distill_stages.py
    python benchmarks/distill_stages.py --save results/distill-stages.json

The models are those of `benchmarks/distill.py`. A hidden stage at half depth runs three of the teacher's six
blocks and two of the student's four. With a cache, no teacher runs. The kinds of stage take turns, so that a
slow minute affects all of them; the best step of each counts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from distill_cases import BATCH, LENGTH, Case, make_case
from distill_report import stages_table
from torch import Tensor

from vigreux.backends.transformer.capture import capture, signals_to_cache
from vigreux.backends.transformer.setup import Setup
from vigreux.backends.transformer.stage_builder import build_stage
from vigreux.config.transformer import CacheConfig
from vigreux.curriculum import Duration, Hidden, Labels, Logits, Projection, Stage, TeacherRef
from vigreux.distillation.signals.cached import CachedTeachers, head_file, head_to_plain, keyed
from vigreux.distillation.signals.live import LiveTeacher, Teachers
from vigreux.distillation.signals.store import CacheStore, Manifest
from vigreux.tasks.stream import Sample
from vigreux.tasks.task import Task

ROUNDS, SAMPLES = 8, 64
ONE = Duration.steps(1)
STAGES = {
    "labels": Stage("labels", TeacherRef.labels(), Labels(), None, ONE),
    "one-shot": Stage("final", TeacherRef.final(), Logits(), None, ONE),
    "hidden, half depth": Stage("hidden", TeacherRef.final(), Hidden(3, Projection("gaussian")), 2, ONE),
}
CACHES = {"head input": CacheConfig(), "top 16": CacheConfig(logits="top")}


def rows_of(case: Case) -> list[dict[str, Tensor]]:
    """Samples with the batch's own lengths and labels, of other tokens."""
    draw = torch.Generator().manual_seed(1)
    found = []
    for i in range(SAMPLES):
        own = {name: value[i % BATCH].clone() for name, value in case.batch.items()}
        ids = torch.randint(10, case.student.config.vocab_size, (LENGTH,), generator=draw)
        own["input_ids"] = ids
        found.append(own)
    return found


def setup_of(case: Case, *stages: Stage) -> Setup:
    """A run of these stages on the samples."""
    rows: Any = rows_of(case)

    def collate(samples: Any) -> dict[str, Tensor]:
        return {name: torch.stack([sample.example[name] for sample in samples]) for name in case.batch}

    task = Task(case.kind, rows, rows[:BATCH], collate, LENGTH)  # type: ignore[arg-type]
    training = {"per_device_train_batch_size": BATCH, "use_cpu": True}
    return Setup(task, case.student, Teachers(LiveTeacher(case.teacher)), stages, training=training)


def write_cache(case: Case, config: CacheConfig, root: Path) -> tuple[CacheStore, dict[str, float]]:
    """The signals of one-shot and of the hidden stage, and their bytes a token."""
    setup = setup_of(case, STAGES["one-shot"], STAGES["hidden, half depth"])
    wanted = signals_to_cache(setup, config)
    signals = {each.name: each.form for each in wanted}
    store = CacheStore.create(
        root, Manifest({}, "index", None, {"train": SAMPLES, "held_out": BATCH}, SAMPLES, signals)
    )
    capture(setup, wanted, store)
    for each in wanted:
        teacher = setup.teachers.final
        head = teacher.find_head(next(setup.batches())) if each.head and teacher else None
        if head:
            store.write_beside(head_file(each.ref), head_to_plain(head.now()))
    return CacheStore.open(root), {each.name: float(each.form.bytes_per_row) for each in wanted}


def step_of(setup: Setup, stage: Stage) -> Callable[[], None]:
    """One optimiser step of a stage on the next samples."""
    model, teacher = build_stage(setup, stage)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-4, fused=True)
    batches = _batches(setup)

    def step() -> None:
        batch = next(batches)
        loss = model(batch, model.signal(teacher, batch))
        (loss / model.count_rows(batch)).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _batches(setup: Setup) -> Iterator[dict[str, Tensor]]:
    train: Any = setup.task.train
    while True:
        for first in range(0, SAMPLES, BATCH):
            yield setup.task.collate([Sample(train[i], i, 0, i) for i in range(first, first + BATCH)])


def measure(kind: str) -> dict[str, Any]:
    """Best CPU seconds of a step, by kind of stage."""
    case = make_case(kind)
    steps = {name: step_of(setup_of(case, stage), stage) for name, stage in STAGES.items()}
    sizes: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, config in CACHES.items():
            store, own = write_cache(case, config, Path(folder) / name)
            sizes |= own
            for stage in ("one-shot", "hidden, half depth"):
                setup = setup_of(case, STAGES[stage])
                setup.teachers = CachedTeachers(store, torch.device("cpu"))
                setup.task = keyed(setup.task, by_stream=False)
                steps[f"{stage}, cached ({name})" if stage == "one-shot" else f"{stage}, cached"] = step_of(
                    setup, STAGES[stage]
                )
        best = dict.fromkeys(steps, float("inf"))
        for _ in range(ROUNDS):
            for name, step in steps.items():
                start = time.process_time()
                step()
                best[name] = min(best[name], time.process_time() - start)
    return {"kind": kind, "seconds": best, "bytes_a_row": sizes}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = [measure(kind) for kind in ("causal-lm", "masked-lm")]
    if options.save:
        options.save.write_text(json.dumps(results, indent=1) + "\n")
    print(stages_table(results))


if __name__ == "__main__":
    main()
