"""Runs a curriculum on any Hugging Face or torch model: one `transformers.Trainer` run a stage, on that stage's view.

Everything is written through the run folder, from which a killed run goes on exactly: inside a stage, at a stage's start, or after
the last one.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from rich.progress import Progress
from torch import nn
from transformers import PrinterCallback

from vigreux.activity import doing
from vigreux.backends.transformer.calibrate import StagePlan, plan_stages, plan_text, read_plan
from vigreux.backends.transformer.card import write_card
from vigreux.backends.transformer.recorder import Recorder, StageProgress
from vigreux.backends.transformer.setup import Setup, device_of
from vigreux.backends.transformer.sharding import Shards
from vigreux.backends.transformer.stage_trainer import (
    CarriedSchedule,
    StageTrainer,
    load_student,
    save_student,
)
from vigreux.curriculum import Embedding, Hidden, Stage
from vigreux.distillation.losses import explained_variance
from vigreux.distillation.signals.cached import CachedTeacher
from vigreux.distillation.signals.live import Teacher, Teachers
from vigreux.distillation.stage_model import StageModel, count_rows
from vigreux.errors import TrainingError
from vigreux.loop.progress import Totals, progress_bar
from vigreux.loop.resuming import (
    keep_initial,
    restore_whole_stages,
    save_finished_student,
    saving,
)
from vigreux.models.size import count_parameters, directory_bytes, weight_bytes
from vigreux.plan.cost import StepCost
from vigreux.run.checkpoints import latest_checkpoint, step_of, verify_manifest, write_manifest
from vigreux.run.folder import PLAN, RunFolder, StageRecord, Summary

CARRIED = "carried"  # what a stage's optimiser hands on to the next
STATES = "optimizer_states.pt"


class CurriculumEngine:
    """One run of a curriculum.

    Args:
        setup: models, data and settings; `setup.check()` is called here.
        folder: the run folder, open and locked by this process; `None` on all processes but the first.
        root: the run folder's path, on every process.
        evaluate: gives the held-out metrics of the student; called on every process.
        teacher_metrics: gives the final teacher's on the same data, asked for after the last evaluation.
        quiet: no progress bar.
    """

    def __init__(
        self,
        setup: Setup,
        folder: RunFolder | None,
        root: Path,
        evaluate: Callable[[nn.Module], dict[str, float]],
        *,
        teacher_metrics: Callable[[], Mapping[str, float]] = dict,
        quiet: bool = False,
    ) -> None:
        setup.check()
        self.setup = setup
        self.folder = folder
        self.root = root
        self.evaluate = evaluate
        self.teacher_metrics = teacher_metrics
        self.quiet = quiet
        self.carried: dict[nn.Parameter, dict[str, Any]] = {}

    def run(self) -> dict[str, float]:
        """Trains the student through all stages and gives its final held-out metrics.

        Raises `TrainingError` when a loss is not finite or the disk is full; what was finished stays, and the run can be resumed.
        """
        with saving(self.root, self._fail):
            return self._run()

    def _run(self) -> dict[str, float]:
        if self.folder is not None:
            restore_whole_stages(self.folder, self.setup.curriculum, self._stage_is_whole)
            keep_initial(self.folder, self.setup.student, save_student)
            if self.folder.text(PLAN) is None:
                self.folder.keep(PLAN, plan_text(plan_stages(self.setup)))
        self._wait()
        if isinstance(self.setup.teachers, Teachers):
            self.setup.teachers.together()
        plan = read_plan(RunFolder.open(self.root).text(PLAN) or "", self.root / PLAN)
        totals = Totals()
        with progress_bar(self.quiet or self.folder is None) as progress:
            for index in range(len(plan)):
                totals = self._run_stage(index, plan, totals, progress)
        return self._finish(totals)

    # --- one stage --------------------------------------------------------------------------------------------------

    def _run_stage(self, index: int, plan: Sequence[StagePlan], start: Totals, progress: Progress) -> Totals:
        stage = self.setup.curriculum[index]
        with doing(f"training stage {stage.name!r}"), self.setup.frozen(stage):
            return self._train_stage(index, plan, start, progress)

    def _train_stage(
        self, index: int, plan: Sequence[StagePlan], start: Totals, progress: Progress
    ) -> Totals:
        stage, planned = self.setup.curriculum[index], plan[index]
        directory = RunFolder(self.root).stage_dir(index, stage.name)
        done = self._finished_stage(index)
        if done is not None:
            self._restore_stage(index, directory)
            return start.after(done.steps, planned.cost, self.setup.samples_per_step, done.seconds)
        checkpoint = latest_checkpoint(directory)
        if checkpoint is None and index == 0:
            load_student(self.setup.student, RunFolder(self.root).initial)
        if self.folder is not None and checkpoint is not None:
            self.folder.restore_metrics(checkpoint, start.steps + step_of(checkpoint), say=False)
        shards = Shards(self.setup) if self.setup.sharded and PartialState().num_processes > 1 else None
        model, teacher = (self.setup if shards is None else shards.setup).stage_model(stage)
        recorder = self._recorder(index, plan, start, model, teacher, checkpoint, shards)
        steps = planned.steps
        if checkpoint is not None and recorder.on_plateau():
            steps = step_of(checkpoint)  # stopped there, and killed before it was recorded
        trainer = StageTrainer(
            model,
            student=self.setup.student,
            teacher=teacher,
            args=self.setup.arguments(str(directory), steps, stage=index),
            train_dataset=self.setup.task.stream(
                self.setup.seed, start.samples, steps * self.setup.samples_per_step
            ),
            data_collator=self.setup.task.collate,
            processing_class=self.setup.processing_class,
            carried_states=self.carried,
            carried_schedule=CarriedSchedule(start.steps, _all_steps(plan))
            if self.setup.schedule == "carried"
            else None,
            keep=None if self.setup.keep_checkpoints else 1,
            shards=shards,
            beside=None if self.folder is None else self.folder.copy_metrics,
            callbacks=[recorder, StageProgress(progress, stage)],
        )
        trainer.remove_callback(PrinterCallback)
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except TrainingError as error:
            last = latest_checkpoint(directory)
            kept = (
                f"the last good checkpoint is {last}" if last else "no checkpoint of this stage was reached"
            )
            raise TrainingError(f"stage {stage.name!r}: {error}; {kept}") from error
        if shards is not None:
            shards.gather_()
        if self._hands_on(index):
            self._carry(trainer.optimizer_states(), directory)
        self._record_stage(stage, trainer.state.global_step, planned.cost, recorder, directory)
        return recorder.totals(trainer.state.global_step)

    def _recorder(
        self,
        index: int,
        plan: Sequence[StagePlan],
        start: Totals,
        model: StageModel,
        teacher: Teacher | CachedTeacher | None,
        checkpoint: Path | None,
        shards: Shards | None,
    ) -> Recorder:
        stage, planned = self.setup.curriculum[index], plan[index]
        every = self.setup.eval_every(stage, planned.steps, _all_steps(plan))
        if isinstance(stage.target, Hidden) and stage.duration.unit != "plateau":
            every = planned.steps  # at the end alone: its own loss says nothing about the student

        def evaluate() -> dict[str, float]:
            own = self._held_out(model, teacher) if isinstance(stage.target, (Hidden, Embedding)) else {}
            if shards is not None:
                shards.gather_()
            return (
                own if isinstance(stage.target, Hidden) else own | self.evaluate(self.setup.student)
            )  # a view has no head

        recorder = Recorder(
            self.folder,
            stage,
            start,
            planned.cost,
            self.setup.samples_per_step,
            model.target_variance,
            evaluate,
            every,
        )
        self._wait()
        recorder.restore(
            [record for record in RunFolder.open(self.root).metrics() if record["stage"] == stage.name]
        )
        return recorder

    @torch.no_grad()
    def _held_out(self, model: StageModel, teacher: Teacher | CachedTeacher | None) -> dict[str, float]:
        """The stage's own loss on the held-out data, and its explained variance where the targets' variance is known."""
        task, target = self.setup.task, model.target
        training = model.training
        model.eval()
        total, rows = 0.0, 0
        for batch in task.eval_batches(self.setup.eval_batch_size):
            batch = {name: value.to(device_of(self.setup.student)) for name, value in batch.items()}
            total += float(model(batch, model.signal(teacher, batch)))
            rows += int(count_rows(task, target, batch))
        model.train(training)
        result = {"loss": total / rows}
        if model.target_variance is not None:
            result["explained_variance"] = explained_variance(result["loss"], model.target_variance)
        return result

    def _record_stage(
        self, stage: Stage, steps: int, cost: StepCost, recorder: Recorder, directory: Path
    ) -> None:
        if self.folder is not None:
            explained = recorder.evaluations[-1].get("explained_variance")
            notes = []
            if explained is not None and explained <= 0:
                notes.append(
                    f"stage {stage.name!r} ends with an explained variance of {explained:.2f} on held-out data: the student"
                    " predicts the teacher's states no better than their mean"
                )
                warnings.warn(notes[0], UserWarning, stacklevel=2)
            checkpoint = latest_checkpoint(directory)
            assert checkpoint is not None, "the Trainer saves at the last step"
            self.folder.finish_stage(
                StageRecord(
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
                    notes=tuple(notes),
                    checkpoint=str(checkpoint.relative_to(self.root)),
                )
            )
        self._wait()  # the other processes read it

    # --- going on and ending ----------------------------------------------------------------------------------------

    def _finished_stage(self, index: int) -> StageRecord | None:
        finished = RunFolder.open(self.root).stages()
        return finished[index] if index < len(finished) else None

    def _stage_is_whole(self, index: int, record: StageRecord) -> bool:
        """Whether all is there that the next stage takes up: the last checkpoint, and the optimiser's states it hands on."""
        directory = RunFolder(self.root).stage_dir(index, record.name)
        checkpoint = latest_checkpoint(directory)
        if checkpoint is None or step_of(checkpoint) != record.steps:
            return False
        return not (self._hands_on(index) and verify_manifest(directory / CARRIED))

    def _restore_stage(self, index: int, directory: Path) -> None:
        """Takes up what a finished stage left; only the last finished one's weights are needed."""
        if self._finished_stage(index + 1) is not None:
            return
        checkpoint = latest_checkpoint(directory)
        assert checkpoint is not None, "see restore_whole_stages"
        load_student(self.setup.student, checkpoint)
        if self._hands_on(index):
            by_name = torch.load(
                directory / CARRIED / STATES, weights_only=True, map_location="cpu"
            )  # the Trainer puts it on its device
            named = dict(self.setup.student.named_parameters())
            self.carried = {named[name]: state for name, state in by_name.items()}

    def _hands_on(self, index: int) -> bool:
        """Whether the optimiser's states of stage `index` are for a next one."""
        return self.setup.optimizer == "carried" and index + 1 < len(self.setup.curriculum)

    def _carry(self, states: Mapping[nn.Parameter, dict[str, Any]], directory: Path) -> None:
        """Keeps the optimiser's states for the next stage, here and on disk."""
        self.carried = {**self.carried, **states}
        if self.folder is not None:
            by_name = {
                name: self.carried[p]
                for name, p in self.setup.student.named_parameters()
                if p in self.carried
            }
            carried = directory / CARRIED
            shutil.rmtree(carried, ignore_errors=True)
            carried.mkdir(parents=True)
            torch.save(by_name, carried / STATES)
            write_manifest(carried)

    def _finish(self, totals: Totals) -> dict[str, float]:
        metrics = self.evaluate(self.setup.student)
        if self.folder is not None:
            summary = self._summary(metrics, totals)

            def save(directory: Path) -> None:
                save_student(self.setup.student, directory, self.setup.processing_class)
                write_card(directory, self.setup, summary)

            save_finished_student(self.folder, save)
            self.folder.finish(summary)
        self._wait()
        return metrics

    def _summary(self, metrics: dict[str, float], totals: Totals) -> Summary:
        teachers = self.setup.teachers
        final = teachers.final
        used = {stage.teacher.step for stage in self.setup.curriculum if stage.teacher.step is not None}
        teacher_bytes = weight_bytes(final.model) if final is not None else 0
        learns = any(stage.teacher.kind != "labels" for stage in self.setup.curriculum)
        return Summary(
            metrics=metrics,
            steps=totals.steps,
            flops=totals.student_flops + totals.teacher_flops,
            seconds=totals.seconds,
            bytes_kept=teacher_bytes * learns
            + sum(directory_bytes(teachers.checkpoints[step]) or teacher_bytes for step in used),
            teacher_bytes=teacher_bytes,
            notes=tuple(self.setup.notes),
            teacher_metrics=self.teacher_metrics(),
            student_parameters=count_parameters(self.setup.student),
            teacher_parameters=count_parameters(final.model) if final is not None else None,
        )

    def _fail(self, message: str) -> None:
        if self.folder is not None:
            self.folder.fail(message)

    def _wait(self) -> None:
        PartialState().wait_for_everyone()


def _all_steps(plan: Sequence[StagePlan]) -> int:
    return sum(planned.steps for planned in plan)
