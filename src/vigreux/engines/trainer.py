"""Runs a curriculum on any Hugging Face or torch model: one `transformers.Trainer` run a stage, on that stage's view.

Everything is written through the run folder, from which a killed run goes on exactly: inside a stage, at a stage's start, or after
the last one.
"""

from __future__ import annotations

import errno
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import nn
from transformers import PrinterCallback

from vigreux.curriculum import Hidden
from vigreux.distill.losses import explained_variance
from vigreux.distill.stage_model import StageModel, count_rows, teacher_signal
from vigreux.distill.teachers import Teacher
from vigreux.engines.calibrate import StepCost, plan_steps, step_cost
from vigreux.engines.card import write_card
from vigreux.engines.recorder import Recorder, StageProgress, Totals, progress_bar
from vigreux.engines.setup import Setup, device_of
from vigreux.engines.stage_trainer import CarriedSchedule, StageTrainer, load_student, save_student
from vigreux.errors import CheckpointError, TrainingError, VigreuxError
from vigreux.models.size import count_parameters, directory_bytes, weight_bytes
from vigreux.runs import RunFolder, StageRecord, Summary, latest_checkpoint, verify_manifest, write_manifest

CARRIED = "optimizer_states.pt"
EVALUATIONS = 5  # held-out evaluations a run, unless training.eval_steps says otherwise


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

    def run(self, *, costs: list[StepCost] | None = None, steps: tuple[int, ...] | None = None) -> dict[str, float]:
        """Trains the student through all stages and gives its final held-out metrics.

        Raises `TrainingError` when a loss is not finite or the disk is full; what was finished stays, and the run can be resumed.
        """
        curriculum = self.setup.curriculum
        costs = costs or [step_cost(self.setup, stage) for stage in curriculum]
        steps = steps or plan_steps(self.setup, costs)
        self._keep_initial_student()
        self._wait()
        totals = Totals()
        try:
            with progress_bar(self.quiet or self.folder is None) as progress:
                for index in range(len(curriculum)):
                    totals = self._run_stage(index, steps, costs[index], totals, progress)
        except VigreuxError as error:
            self._fail(str(error))
            raise
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._fail("the disk is full")
            raise TrainingError(f"{self.root}: the disk is full; free some space and go on with --resume") from error
        return self._finish(totals)

    # --- one stage --------------------------------------------------------------------------------------------------

    def _run_stage(self, index: int, steps: tuple[int, ...], cost: StepCost, start: Totals, progress: Any) -> Totals:
        stage = self.setup.curriculum[index]
        directory = self._stage_dir(index)
        done = self._finished_stage(index)
        if done is not None:
            self._restore_stage(index, directory)
            return self._add(start, done)
        checkpoint = latest_checkpoint(directory)
        if checkpoint is None and index == 0:
            load_student(self.setup.student, self.root / "initial")
        model, teacher = self.setup.stage_model(stage)
        recorder = self._recorder(index, steps, cost, start, model, teacher, checkpoint)
        if checkpoint is not None and recorder.on_plateau():
            steps = (*steps[:index], _step_of(checkpoint), *steps[index + 1 :])  # stopped there, and killed before it was recorded
        trainer = StageTrainer(
            model,
            student=self.setup.student,
            teacher=teacher,
            args=self.setup.arguments(str(directory), steps[index], stage=index),
            train_dataset=self.setup.task.stream(self.setup.seed, start.samples, steps[index] * self.setup.samples_per_step),
            data_collator=self.setup.task.collate,
            processing_class=self.setup.processing_class,
            carried_states=self.carried if self.setup.optimizer == "carried" else None,
            carried_schedule=CarriedSchedule(start.steps, sum(steps)) if self.setup.schedule == "carried" else None,
            keep=None if self.setup.keep_checkpoints else 1,
            callbacks=[recorder, StageProgress(progress, stage)],
        )
        trainer.remove_callback(PrinterCallback)
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except TrainingError as error:
            last = latest_checkpoint(directory)
            kept = f"the last good checkpoint is {last}" if last else "no checkpoint of this stage was reached"
            raise TrainingError(f"stage {stage.name!r}: {error}; {kept}") from error
        totals = recorder.totals(trainer.state.global_step)
        self._carry(trainer, directory)
        self._record_stage(index, trainer.state.global_step, cost, totals, recorder, directory)
        return totals

    def _recorder(
        self,
        index: int,
        steps: tuple[int, ...],
        cost: StepCost,
        start: Totals,
        model: StageModel,
        teacher: Teacher | None,
        checkpoint: Path | None,
    ) -> Recorder:
        stage = self.setup.curriculum[index]
        per_step = Totals(1, self.setup.samples_per_step, cost.student_flops, cost.teacher_flops)
        every = int(self.setup.training.get("eval_steps") or max(1, sum(steps) // EVALUATIONS))
        if isinstance(stage.target, Hidden):
            # a view has no head to be scored by: its own loss on the held-out data, at the stage's end or to see a plateau
            def evaluate() -> dict[str, float]:
                return self._held_out(model, teacher)

            every = every if stage.duration.unit == "plateau" else steps[index]
        else:

            def evaluate() -> dict[str, float]:
                return self.evaluate(self.setup.student)

        recorder = Recorder(self.folder, stage, start, per_step, model.target_variance, evaluate, every)
        if self.folder is not None:
            self.folder.truncate_metrics(start.steps + (_step_of(checkpoint) if checkpoint else 0))
        self._wait()
        recorder.restore([record for record in RunFolder.open(self.root).metrics() if record["stage"] == stage.name])
        return recorder

    @torch.no_grad()
    def _held_out(self, model: StageModel, teacher: Teacher | None) -> dict[str, float]:
        """The stage's own loss on the held-out data, and its explained variance where the targets' variance is known."""
        task, target = self.setup.task, model.target
        training = model.training
        model.eval()
        total, rows = 0.0, 0
        for batch in task.eval_batches(self.setup.eval_batch_size):
            batch = {name: value.to(device_of(self.setup.student)) for name, value in batch.items()}
            total += float(model(batch, teacher_signal(task, target, teacher, batch)))
            rows += int(count_rows(task, target, batch))
        model.train(training)
        result = {"loss": total / rows}
        if model.target_variance is not None:
            result["explained_variance"] = explained_variance(result["loss"], model.target_variance)
        return result

    def _record_stage(self, index: int, steps: int, cost: StepCost, totals: Totals, recorder: Recorder, directory: Path) -> None:
        stage = self.setup.curriculum[index]
        held_out = recorder.evaluations[-1].get("explained_variance") if recorder.evaluations else None
        notes = []
        if held_out is not None and held_out <= 0:
            notes.append(
                f"stage {stage.name!r} ends with an explained variance of {held_out:.2f}: the student's first blocks predict the"
                " teacher's hidden states no better than their mean, and the next stage starts from there"
            )
            warnings.warn(notes[0], UserWarning, stacklevel=2)
        if self.folder is not None:
            checkpoint = latest_checkpoint(directory)
            self.folder.finish_stage(
                StageRecord(
                    name=stage.name,
                    target=str(stage.target),
                    depth=stage.depth,
                    steps=steps,
                    seconds=totals.seconds - recorder.start.seconds,
                    student_flops=steps * cost.student_flops,
                    teacher_flops=steps * cost.teacher_flops,
                    first_loss=recorder.losses[0] if recorder.losses else None,
                    last_loss=recorder.losses[-1] if recorder.losses else None,
                    explained_variance=held_out,
                    notes=tuple(notes),
                    checkpoint=str(checkpoint.relative_to(self.root)) if checkpoint else None,
                )
            )
        self._wait()  # the other processes read it

    # --- going on and ending ----------------------------------------------------------------------------------------

    def _stage_dir(self, index: int) -> Path:
        return RunFolder(self.root).stage_dir(index, self.setup.curriculum[index].name)

    def _finished_stage(self, index: int) -> StageRecord | None:
        finished = RunFolder.open(self.root).stages()
        return finished[index] if index < len(finished) else None

    def _add(self, start: Totals, done: StageRecord) -> Totals:
        """What the run had spent after a finished stage."""
        return Totals(
            start.steps + done.steps,
            start.samples + done.steps * self.setup.samples_per_step,
            start.student_flops + done.student_flops,
            start.teacher_flops + done.teacher_flops,
            start.seconds + done.seconds,
        )

    def _keep_initial_student(self) -> None:
        """The student's first weights, so that a resume starts from the same whatever the caller hands over then."""
        initial = self.root / "initial"
        if self.folder is not None and verify_manifest(initial):
            save_student(self.setup.student, initial)
            write_manifest(initial)

    def _restore_stage(self, index: int, directory: Path) -> None:
        """Takes up what a finished stage left; only the last finished one's weights are needed."""
        if self._finished_stage(index + 1) is not None:
            return
        checkpoint = latest_checkpoint(directory)
        if checkpoint is None:
            raise CheckpointError(f"{directory}: the stage is recorded as finished and its checkpoint is missing or damaged")
        load_student(self.setup.student, checkpoint)
        if self.setup.optimizer == "carried":
            by_name = torch.load(directory / CARRIED, weights_only=True)
            named = dict(self.setup.student.named_parameters())
            self.carried = {named[name]: state for name, state in by_name.items()}

    def _carry(self, trainer: StageTrainer, directory: Path) -> None:
        if self.setup.optimizer != "carried":
            return
        self.carried = {**self.carried, **trainer.optimizer_states()}
        if self.folder is not None:
            names = {parameter: name for name, parameter in self.setup.student.named_parameters()}
            states = {names[parameter]: state for parameter, state in self.carried.items() if parameter in names}
            temporary = directory / f"{CARRIED}.tmp"
            torch.save(states, temporary)
            temporary.replace(directory / CARRIED)

    def _finish(self, totals: Totals) -> dict[str, float]:
        metrics = self.evaluate(self.setup.student)
        if self.folder is not None:
            summary = self._summary(metrics, totals)
            temporary = self.root / "student.tmp"
            shutil.rmtree(temporary, ignore_errors=True)
            save_student(self.setup.student, temporary, self.setup.processing_class)
            write_card(temporary, self.setup, summary)
            shutil.rmtree(self.folder.student, ignore_errors=True)
            temporary.rename(self.folder.student)
            self.folder.finish(summary)
        self._wait()
        return metrics

    def _summary(self, metrics: dict[str, float], totals: Totals) -> Summary:
        teachers = self.setup.teachers
        final = teachers.final
        used = [stage.teacher.step for stage in self.setup.curriculum if stage.teacher.step is not None]
        teacher_bytes = weight_bytes(final.model) if final is not None else 0
        learns = any(stage.teacher.kind != "labels" for stage in self.setup.curriculum)
        return Summary(
            metrics=metrics,
            steps=totals.steps,
            flops=totals.student_flops + totals.teacher_flops,
            seconds=totals.seconds,
            bytes_kept=teacher_bytes * learns + sum(directory_bytes(teachers.checkpoints[step]) for step in used),
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


def _step_of(checkpoint: Path) -> int:
    """The step in the name `checkpoint-STEP`."""
    return int(checkpoint.name.rsplit("-", 1)[1])
