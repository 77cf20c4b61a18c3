"""What each of the two processes of `test_distributed.py` runs.

The command is `accelerate launch -m tests.backends.transformer.distributed ROOT`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch.distributed.tensor import DTensor

import vigreux.backends.transformer.stage_trainer as stage_trainer
from tests.backends.transformer.caches import cached, captured
from tests.backends.transformer.tiny import (
    Killed,
    extracted,
    killed_at,
    prepared_run,
    run,
    setup_of,
    stage,
    teacher_of,
)
from vigreux.backends.transformer import stage_builder
from vigreux.backends.transformer.setup import Setup
from vigreux.backends.transformer.sharding import ShardedStudent
from vigreux.backends.transformer.stage_builder import build_stage
from vigreux.backends.transformer.stage_trainer import StageTrainer
from vigreux.config.transformer import CacheConfig
from vigreux.curriculum import Embedding, Logits, Projection
from vigreux.distillation.signals.live import LiveTeacher, Teachers
from vigreux.distillation.signals.store import CacheStore
from vigreux.distillation.stage_model import StageModel
from vigreux.errors import TrainingError

PROCESSES, SAMPLES = 2, 8  # a step, over all processes
CASES: dict[str, dict[str, Any]] = {
    "fixed projection": {"kind": "masked-lm", "curriculum": extracted(4, 4, 5)},
    "learned projection": {
        "kind": "masked-lm",
        "curriculum": extracted(4, 5, projection=Projection("learned")),
    },
    "accumulated": {
        "kind": "classification",
        "curriculum": extracted(4, 5),
        "training": {"gradient_accumulation_steps": 2},
        "optimizer": "carried",
        "schedule": "carried",
    },
    "embedding": {"kind": "embedding", "curriculum": (stage("final", Embedding(), 4),)},
    "recomputed": {
        "kind": "masked-lm",
        "curriculum": extracted(4, 5),
        "training": {"gradient_checkpointing": True},
    },
    "frozen": {"kind": "masked-lm", "curriculum": (replace(stage("final", Logits(), 5), frozen=0),)},
    "fused": {"kind": "masked-lm", "curriculum": extracted(4, 5)},
    "from a cache": {"kind": "masked-lm", "curriculum": extracted(4, 5)},
    "from a spread teacher": {"kind": "masked-lm", "curriculum": extracted(4, 4, 5)},
    "from a spread teacher, fused": {"kind": "masked-lm", "curriculum": extracted(4, 5)},
}
SPREAD = [f"sharded, {name}" for name in CASES]  # the same with the student spread over the processes
WHOLE_AND_SPREAD = ("fixed projection", "sharded, fixed projection")
CACHE = CacheConfig(shard_samples=8)


def case(name: str, processes: int) -> Setup:
    """In float64, where the order of sums does not show."""
    settings = dict(CASES[name.removeprefix("sharded, ")], sharded=name.startswith("sharded, "))
    kind, curriculum = settings.pop("kind"), settings.pop("curriculum")
    training = settings.pop("training", {}) | {
        "per_device_train_batch_size": SAMPLES // processes,
        "learning_rate": 1e-3,
    }
    spread_on = torch.device("cpu") if "spread teacher" in name and processes > 1 else None
    teachers = Teachers(LiveTeacher(teacher_of(kind).model.double(), spread_on=spread_on))
    setup = setup_of(kind, curriculum, teachers=teachers, training=training, **settings)
    setup.student.double()
    return setup


@contextmanager
def made_for(name: str) -> Iterator[None]:
    """The case "fused" takes its loss from hidden states, which others do for large vocabularies alone."""
    before = stage_builder.FUSED_FROM
    stage_builder.FUSED_FROM = 0 if name.endswith("fused") else before
    try:
        yield
    finally:
        stage_builder.FUSED_FROM = before


def ready(name: str, processes: int, root: Path) -> Setup:
    """The case's setup; that of the case "from a cache" with the cache in `root`, which all processes write
    together.
    """
    setup = case(name, processes)
    if not name.endswith("from a cache"):
        return setup
    store = captured(case(name, processes), root / "cache", CACHE)
    PartialState().wait_for_everyone()
    return cached(setup, CacheStore.open(store.root))


def kill(root: Path, name: str) -> None:
    """Both processes stop in the second stage, after its first checkpoint."""
    prepared = prepared_run(case(name, PROCESSES), root)
    try:
        with killed_at(StageTrainer, "compute_loss", call=9):
            prepared.run()
    except Killed:
        if prepared.folder is not None:
            prepared.folder.close()
    PartialState().wait_for_everyone()


def killed_and_resumed(root: Path, name: str) -> Setup:
    """Both go on where they stopped."""
    kill(root, name)
    setup = case(name, PROCESSES)
    run(setup, root, resume=True)
    return setup


def not_a_number(root: Path) -> str:
    """The last process alone gets a loss that is no number: every process must stop, and say so."""
    forward: Callable[..., torch.Tensor] = StageModel.forward
    calls = iter(range(1000))

    def broken(self: StageModel, *args: Any) -> torch.Tensor:
        return forward(self, *args) * (float("nan") if self.training and next(calls) == 5 else 1.0)

    setup = case("fixed projection", PROCESSES)
    prepared = prepared_run(setup, root)
    if PartialState().process_index == PROCESSES - 1:
        StageModel.forward = broken  # type: ignore[method-assign]
    try:
        prepared.run()
    except TrainingError as error:
        return str(error)
    finally:
        StageModel.forward = forward  # type: ignore[method-assign]
    return "nothing was noticed"


def share_held() -> float:
    """Of the parameters of a stage of the spread student, what this process holds."""
    setup = case("sharded, fixed projection", PROCESSES)
    shards = ShardedStudent(setup)
    model, _ = build_stage(shards.setup, setup.curriculum[-1])
    shards.shard_(model)
    parameters = [parameter for parameter in model.parameters() if isinstance(parameter, DTensor)]
    assert len(parameters) == len(list(model.parameters()))
    return sum(parameter.to_local().numel() for parameter in parameters) / sum(
        parameter.numel() for parameter in parameters
    )


def forbidden(*_: Any) -> None:
    raise AssertionError("another process than the first writes a checkpoint")


def main(root: Path) -> None:
    torch.set_num_threads(1)
    state = PartialState(cpu=True)
    assert state.num_processes == PROCESSES
    rank = state.process_index
    if rank > 0:
        stage_trainer.save_student = forbidden  # the processes share their files, and one writes them
    for name in [*CASES, *SPREAD]:
        with made_for(name):
            setup = ready(name, PROCESSES, root)
            run(setup, root / name)
        torch.save(setup.student.state_dict(), root / f"{name}.{rank}.pt")
    for name in WHOLE_AND_SPREAD:
        resumed = killed_and_resumed(root / f"{name}, resumed", name)
        torch.save(resumed.student.state_dict(), root / f"{name}, resumed.{rank}.pt")
        kill(root / f"{name}, killed", name)  # one process will go on with it
    (root / f"share.{rank}.txt").write_text(str(share_held()))
    (root / f"error.{rank}.txt").write_text(not_a_number(root / "not a number"))
    state.destroy_process_group()  # its threads end before the interpreter does


if __name__ == "__main__":
    main(Path(sys.argv[1]))
