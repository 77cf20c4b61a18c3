"""Trains Hugging Face and torch models.

Each stage is one run of `transformers.Trainer` on the stage's view of the student.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import nn
from transformers import PrinterCallback

from vigreux.backends.transformer.calibrate import plan_stages
from vigreux.backends.transformer.callbacks import BarCallback, RecordCallback
from vigreux.backends.transformer.card import write_card
from vigreux.backends.transformer.fingerprints import run_fingerprints
from vigreux.backends.transformer.guard import check_first_batch
from vigreux.backends.transformer.setup import Setup
from vigreux.backends.transformer.setup_checks import check_setup
from vigreux.backends.transformer.sharding import ShardedStudent
from vigreux.backends.transformer.stage_builder import build_stage, make_projections
from vigreux.backends.transformer.stage_trainer import (
    CarriedSchedule,
    StageTrainer,
    load_student,
    save_student,
)
from vigreux.distillation.signals.base import SignalSource
from vigreux.distillation.signals.live import Teachers
from vigreux.distillation.stage_model import StageModel
from vigreux.distillation.vector_losses import explained_variance
from vigreux.loop.backend import Backend, ModelFacts, StageRun
from vigreux.loop.plan import StagePlan
from vigreux.loop.recorder import held_out_loss
from vigreux.models.placed import device_of
from vigreux.models.size import count_parameters, directory_bytes, weight_bytes
from vigreux.run.folder import Summary
from vigreux.run.reader import RunReader

STATES = "optimizer_states.pt"


class TransformerBackend(Backend):
    """One student, its teachers and its data, as `Setup` describes them.

    Args:
        setup: models, data and settings.
        evaluate: returns the student's held-out metrics; called on every process.
        teacher_metrics: returns the final teacher's metrics on the same data; called after the last
            evaluation.
    """

    smaller = "batch or student"

    def __init__(
        self,
        setup: Setup,
        evaluate: Callable[[nn.Module], dict[str, float]],
        *,
        teacher_metrics: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        state = PartialState()
        self.setup = setup
        self.curriculum = setup.curriculum
        self.device = str(state.device)
        self.keep_checkpoints = setup.keep_checkpoints
        self.first_process = state.is_main_process
        self.carried: dict[nn.Parameter, dict[str, Any]] = {}  # optimiser states, by the student's parameters
        self._evaluate = evaluate
        self._teacher_metrics = teacher_metrics

    @property
    def student(self) -> nn.Module:
        """The whole student, on every process."""
        return self.setup.student

    @property
    def samples_per_step(self) -> int:
        """Training samples of one step, over all processes and micro-batches."""
        return self.setup.samples_per_step

    def check(self, *, resume: bool) -> None:
        """Checks settings, stages, budget and teachers, and runs the models on a few rows."""
        check_setup(self.setup)
        check_first_batch(self.setup, resume=resume)
        make_projections(self.setup)

    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of the student's first weights, the rows, the tokenizer and the teachers."""
        return run_fingerprints(self.setup)

    def plan(self) -> list[StagePlan]:
        """Measures a step of each stage, and derives the steps that the budget allows."""
        return plan_stages(self.setup)

    def prepare(self) -> None:
        """Shards the teachers. From here on all processes ask for the same teachers at the same time."""
        if isinstance(self.setup.teachers, Teachers):
            self.setup.teachers.together()

    def wait(self) -> None:
        """Waits for the processes that `accelerate launch` started."""
        PartialState().wait_for_everyone()

    @contextmanager
    def open_stage(self, index: int) -> Iterator[TransformerStage]:
        """The stage's model and teacher. Parameters that the stage freezes have no gradient until it ends."""
        with self.setup.frozen(self.curriculum[index]):
            yield TransformerStage(self, index)

    def evaluate(self) -> dict[str, float]:
        """The student's held-out metrics, as the task defines them."""
        return self._evaluate(self.student)

    def save(self, directory: Path) -> None:
        """Writes a student that `from_pretrained` reads, or the state dict of a torch module."""
        save_student(self.student, directory)

    def load(self, directory: Path) -> None:
        """Loads the weights that `save` wrote. Tied weights stay tied."""
        load_student(self.student, directory)

    def finish(self, directory: Path, summary: Summary) -> None:
        """Writes the student with its tokenizer and its model card."""
        save_student(self.student, directory, self.setup.processing_class)
        write_card(directory, self.setup, summary, RunReader(directory.parent).config())

    def hands_on(self, index: int) -> bool:
        """Whether the next stage continues with the optimiser's states of stage `index`."""
        return self.setup.optimizer == "carried" and index + 1 < len(self.curriculum)

    def save_state(self, directory: Path) -> None:
        """Writes the optimiser's states by the names of the student's parameters."""
        by_name = {
            name: self.carried[parameter]
            for name, parameter in self.student.named_parameters()
            if parameter in self.carried
        }
        torch.save(by_name, directory / STATES)

    def load_state(self, directory: Path) -> None:
        """Loads the states to the CPU: the Trainer moves them to its device."""
        by_name = torch.load(directory / STATES, weights_only=True, map_location="cpu")
        parameters = dict(self.student.named_parameters())
        self.carried = {parameters[name]: state for name, state in by_name.items()}

    def facts(self) -> ModelFacts:
        """Sizes of student and teacher, and the bytes of the checkpoints that the curriculum uses."""
        teachers = self.setup.teachers
        final = teachers.final
        teacher_bytes = weight_bytes(final.model) if final is not None else 0
        bytes_kept = 0
        if any(stage.teacher.kind != "labels" for stage in self.curriculum):
            bytes_kept = teacher_bytes
        for step in {stage.teacher.step for stage in self.curriculum if stage.teacher.step is not None}:
            bytes_kept += directory_bytes(teachers.checkpoints[step]) or teacher_bytes
        return ModelFacts(
            student_parameters=count_parameters(self.student),
            bytes_kept=bytes_kept,
            teacher_bytes=teacher_bytes,
            teacher_parameters=count_parameters(final.model) if final is not None else None,
            teacher_metrics=self._teacher_metrics(),
            notes=tuple(self.setup.notes),
        )


class TransformerStage:
    """A stage's model and its teacher, in memory."""

    matched = "states"

    def __init__(self, backend: TransformerBackend, index: int) -> None:
        self.backend = backend
        self.setup = backend.setup
        self.stage = backend.curriculum[index]
        sharded = self.setup.sharded and PartialState().num_processes > 1
        self.shards = ShardedStudent(self.setup) if sharded else None
        setup = self.setup if self.shards is None else self.shards.setup
        self.model: StageModel
        self.teacher: SignalSource | None
        self.model, self.teacher = build_stage(setup, self.stage)

    def plateau_loss(self, evaluation: Mapping[str, Any]) -> float:
        """The held-out loss: that of the stage for hidden targets, else that of the whole student."""
        return held_out_loss(evaluation)

    def train(self, run: StageRun) -> int:
        """Runs `Trainer.train` once; callbacks write the records."""
        setup = self.setup
        start = run.recorder.start
        every = setup.eval_every(self.stage, run.steps, run.total_steps)
        if not self.model.matcher.trains_whole and self.stage.duration.unit != "plateau":
            every = run.steps  # only at the end, because the stage's loss says nothing about the student
        recording = RecordCallback(run.recorder, self._evaluate, every, self.model.target_variance)
        carried_schedule = None
        if setup.schedule == "carried":
            carried_schedule = CarriedSchedule(start.steps, run.total_steps)
        trainer = StageTrainer(
            self.model,
            student=setup.student,
            teacher=self.teacher,
            args=setup.arguments(str(run.directory), run.steps, stage=run.index),
            train_dataset=setup.task.stream(setup.seed, start.samples, run.steps * setup.samples_per_step),
            data_collator=setup.task.collate,
            processing_class=setup.processing_class,
            carried_states=self.backend.carried,
            carried_schedule=carried_schedule,
            shards=self.shards,
            seal=run.recorder.seal,
            callbacks=[recording, BarCallback(run.progress, self.stage)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=str(run.checkpoint) if run.checkpoint else None)
        if self.shards is not None:
            self.shards.gather_()
        if self.backend.hands_on(run.index):
            self.backend.carried |= trainer.optimizer_states()
        return trainer.state.global_step

    def _evaluate(self) -> dict[str, float]:
        """The whole student's held-out metrics, and the stage's own if it matches vectors."""
        matcher = self.model.matcher
        metrics = self._held_out() if matcher.has_held_out_loss else {}
        if self.shards is not None:
            self.shards.gather_()
        if not matcher.trains_whole:
            return metrics  # the trained view has no head, so the student has no loss yet
        return metrics | self.backend.evaluate()

    @torch.no_grad()
    def _held_out(self) -> dict[str, float]:
        """The stage's own held-out loss, and its explained variance if the targets' variance is known."""
        task = self.setup.task
        model = self.model
        training = model.training
        model.eval()
        total = 0.0
        rows = 0
        for batch in task.eval_batches(self.setup.eval_batch_size):
            batch = {name: value.to(device_of(self.setup.student)) for name, value in batch.items()}
            total += float(model(batch, model.signal(self.teacher, batch)))
            rows += int(model.count_rows(batch))
        model.train(training)
        metrics = {"loss": total / rows}
        if model.target_variance is not None:
            metrics["explained_variance"] = explained_variance(metrics["loss"], model.target_variance)
        return metrics
