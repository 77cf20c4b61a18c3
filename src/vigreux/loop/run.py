"""The life of a run, from start or resume through its stages to the finished student.

All backends run through this module. `vigreux.loop.backend` defines their interface.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress

from vigreux.activity import doing
from vigreux.curriculum import Stage
from vigreux.curriculum.serialize import to_plain
from vigreux.errors import TrainingError
from vigreux.loop.backend import Backend, OpenStage, StageRun
from vigreux.loop.failures import reported_failures
from vigreux.loop.plan import StagePlan, plan_text, read_plan
from vigreux.loop.progress import Totals, progress_bar
from vigreux.loop.recorder import Recorder
from vigreux.loop.resuming import CARRIED, keep_initial, restore_whole_stages, save_finished_student
from vigreux.run.checkpoints import checkpoint_path, latest_checkpoint, rotate, step_of, write_manifest
from vigreux.run.folder import PLAN, RunFolder, StageRecord, Summary


def start_or_resume(
    backend: Backend,
    root: Path,
    config: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any] | None = None,
    name: str | None = None,
    resume: bool,
    quiet: bool,
) -> Summary | None:
    """Starts or resumes the run in `root`. All checks come before the first write.

    Args:
        backend: trains the student.
        root: the run folder.
        config: the configuration, as plain values.
        defaults: the default configuration, as plain values.
        name: the curriculum's name in tables; the default comes from `config`.
        resume: whether to resume the run in `root`.
        quiet: no progress bar.

    Returns:
        The summary on the first process, `None` on the others.
    """
    backend.check(resume=resume)
    if not backend.first_process:
        backend.wait()
        run_stages(backend, None, root, quiet=True)
        return None
    stages = to_plain(backend.curriculum)
    fingerprints = backend.fingerprints()
    if resume:
        folder = RunFolder.resume(root, config, stages, defaults=defaults, fingerprints=fingerprints)
    else:
        # The plan comes first: no folder is created before the budget is known to cover every stage.
        plan = plan_text(backend.plan())
        folder = RunFolder.create(
            root, config, stages, name=name, device=backend.device, plan=plan, fingerprints=fingerprints
        )
    backend.wait()
    with folder:
        run_stages(backend, folder, root, quiet=quiet)
    return RunFolder.open(root).summary()


def run_stages(
    backend: Backend, folder: RunFolder | None, root: Path, *, quiet: bool = False
) -> dict[str, float]:
    """Trains the student through all stages that are not finished; returns its held-out metrics.

    Args:
        backend: trains the student; its checks have passed.
        folder: the run folder, open and locked by this process; `None` on all processes but the first.
        root: the run folder's path, on every process.
        quiet: no progress bar.

    Raises:
        TrainingError: a loss is not finite, the disk is full, or there is too little memory. Finished stages
            stay, and the run can be resumed.
    """
    with reported_failures(root, folder, smaller=backend.smaller):
        if folder is not None:
            restore_whole_stages(folder, backend.curriculum, backend.hands_on)
            keep_initial(folder, backend.student, backend.save)
            if folder.text(PLAN) is None:
                folder.keep(PLAN, plan_text(backend.plan()))
        backend.wait()
        backend.prepare()
        plan = read_plan(RunFolder.open(root).text(PLAN) or "", root / PLAN)
        totals = Totals()
        with progress_bar(quiet or folder is None) as progress:
            run = _Run(backend, folder, root, plan, progress)
            for index, stage in enumerate(backend.curriculum):
                with doing(f"training stage {stage.name!r}"):
                    totals = _run_stage(run, index, totals)
        return _finish(backend, folder, totals)


@dataclass(frozen=True)
class _Run:
    """The objects that all stages of a run share."""

    backend: Backend
    folder: RunFolder | None
    root: Path
    plan: Sequence[StagePlan]
    progress: Progress


def _run_stage(run: _Run, index: int, start: Totals) -> Totals:
    """Trains one stage, or loads its result if it is finished; returns the run's totals after it."""
    backend = run.backend
    folder = run.folder
    stage = backend.curriculum[index]
    planned = run.plan[index]
    directory = RunFolder(run.root).stage_dir(index, stage.name)
    finished = RunFolder.open(run.root).stages()
    if index < len(finished):
        if index == len(finished) - 1:  # only the student of the last finished stage is needed
            _load_finished_stage(backend, index, directory)
        record = finished[index]
        return start.after(record.steps, planned.cost, backend.samples_per_step, record.seconds)
    checkpoint = latest_checkpoint(directory)
    if checkpoint is None and index == 0:
        backend.load(RunFolder(run.root).initial)
    keep = None if backend.keep_checkpoints else 1
    if folder is not None and checkpoint is not None:
        folder.restore_metrics(checkpoint, start.steps + step_of(checkpoint), say=False)
        if keep is not None:  # a killed run may have saved a checkpoint without deleting the older ones
            rotate(directory, keep)
    with backend.open_stage(index) as opened:
        recorder = Recorder(
            folder,
            stage,
            start,
            planned.cost,
            backend.samples_per_step,
            plateau_loss=opened.plateau_loss,
            keep=keep,
        )
        backend.wait()
        recorder.restore(RunFolder.open(run.root).metrics())
        steps = planned.steps
        if checkpoint is not None and recorder.on_plateau():
            steps = step_of(checkpoint)  # the stage ended here; the run was killed before its record
        total_steps = sum(stage_plan.steps for stage_plan in run.plan)
        with _naming_the_checkpoint(stage, directory):
            steps = opened.train(
                StageRun(index, steps, total_steps, directory, checkpoint, recorder, run.progress)
            )
    if folder is not None:
        if backend.hands_on(index):
            _save_carried_state(backend, directory / CARRIED)
        folder.finish_stage(_record(recorder, opened, steps, checkpoint_path(directory, steps), run.root))
    backend.wait()  # the other processes read the record
    return recorder.totals(steps)


@contextmanager
def _naming_the_checkpoint(stage: Stage, directory: Path) -> Iterator[None]:
    """Adds the stage and its last good checkpoint to the message of a `TrainingError`."""
    try:
        yield
    except TrainingError as error:
        last = latest_checkpoint(directory)
        checkpoint_note = "no checkpoint of this stage was reached"
        if last is not None:
            checkpoint_note = f"the last good checkpoint is {last}"
        raise TrainingError(f"stage {stage.name!r}: {error}; {checkpoint_note}") from error


def _load_finished_stage(backend: Backend, index: int, directory: Path) -> None:
    """Loads the result of the finished stage `index` from `directory`."""
    checkpoint = latest_checkpoint(directory)
    assert checkpoint is not None, "restore_whole_stages drops a stage without a checkpoint"
    backend.load(checkpoint)
    if backend.hands_on(index):
        backend.load_state(directory / CARRIED)


def _save_carried_state(backend: Backend, carried: Path) -> None:
    """Saves the state that a stage passes on in addition to the weights."""
    shutil.rmtree(carried, ignore_errors=True)
    carried.mkdir(parents=True)
    backend.save_state(carried)
    write_manifest(carried)


def _record(recorder: Recorder, opened: OpenStage, steps: int, checkpoint: Path, root: Path) -> StageRecord:
    """The record of a finished stage for stages.jsonl; warns if the stage learned nothing."""
    stage = recorder.stage
    cost = recorder.cost
    explained = recorder.evaluations[-1].get("explained_variance")
    notes: tuple[str, ...] = ()
    if explained is not None and explained <= 0:
        note = (
            f"stage {stage.name!r} ends with an explained variance of {explained:.2f} on held-out data: the"
            f" student predicts the teacher's {opened.matched} no better than their mean"
        )
        warnings.warn(note, UserWarning, stacklevel=2)
        notes = (note,)
    return StageRecord(
        name=stage.name,
        target=str(stage.target),
        depth=stage.depth,
        steps=steps,
        seconds=recorder.seconds - recorder.start.seconds,
        student_flops=steps * cost.student_flops,
        teacher_flops=steps * cost.teacher_flops,
        first_loss=recorder.losses[0],
        last_loss=recorder.losses[-1],
        explained_variance=explained,
        notes=notes,
        checkpoint=str(checkpoint.relative_to(root)),
    )


def _finish(backend: Backend, folder: RunFolder | None, totals: Totals) -> dict[str, float]:
    """Evaluates the student, and writes it and the summary into the run folder."""
    metrics = backend.evaluate()
    if folder is not None:
        facts = backend.facts()
        summary = Summary(
            metrics=metrics,
            steps=totals.steps,
            flops=totals.student_flops + totals.teacher_flops,
            seconds=totals.seconds,
            bytes_kept=facts.bytes_kept,
            teacher_bytes=facts.teacher_bytes,
            notes=facts.notes,
            teacher_metrics=facts.teacher_metrics,
            student_parameters=facts.student_parameters,
            teacher_parameters=facts.teacher_parameters,
        )
        save_finished_student(folder, lambda directory: backend.finish(directory, summary))
        folder.finish(summary)
    backend.wait()
    return metrics
