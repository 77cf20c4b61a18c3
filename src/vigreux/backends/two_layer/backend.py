"""Trains two-layer networks by SGD on fresh samples.

The samples come from a stream that is a function of (seed, t), and SGD has no state except the weights. So a
checkpoint is the network and its step number, and a resumed run gives the same bits as an uninterrupted one.
The papers call this algorithm online SGD: every sample is used once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from vigreux.backends.two_layer.samples import Samples
from vigreux.backends.two_layer.setup import TwoLayerSetup
from vigreux.backends.two_layer.stages import step_cost
from vigreux.backends.two_layer.teachers import read_shape
from vigreux.backends.two_layer.training import TwoLayerStage
from vigreux.kernels.sgd import OnlineSGD
from vigreux.loop.backend import Backend, ModelFacts
from vigreux.loop.plan import StagePlan
from vigreux.models.size import directory_bytes
from vigreux.models.two_layer import TwoLayer
from vigreux.models.weights import weights_in_memory
from vigreux.run.folder import STUDENT


class TwoLayerBackend(Backend):
    """One network, its task and its teachers, as `TwoLayerSetup` describes them."""

    smaller = "student.width, training.batch_size or task.eval_samples"

    def __init__(self, setup: TwoLayerSetup) -> None:
        self.setup = setup
        self.curriculum = setup.curriculum
        self.keep_checkpoints = setup.settings.keep_checkpoints
        self.samples = Samples(setup)

    @property
    def student(self) -> TwoLayer:
        """The network that is trained."""
        return self.setup.student

    @property
    def samples_per_step(self) -> int:
        """The batch size."""
        return self.setup.settings.batch_size

    @cached_property
    def kernel(self) -> OnlineSGD:
        """Trains the student's tensors in place."""
        settings = self.setup.settings
        return OnlineSGD(
            *self.student.parameters_in_order(),
            batch=settings.batch_size,
            weight_decay=settings.weight_decay,
            threads=settings.threads,
        )

    def check(self, *, resume: bool) -> None:
        """Checks the stages against the networks and the teachers."""
        self.setup.check()

    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of inputs outside the configuration: the first weights and the teachers' weights."""
        prints = {STUDENT: weights_in_memory(self.student)}
        for stage in self.curriculum:
            if stage.teacher.kind != "labels":
                prints[f"teacher ({stage.teacher})"] = weights_in_memory(
                    TwoLayer.load(self.setup.teacher_folder(stage))
                )
        return prints

    def plan(self) -> list[StagePlan]:
        """The plan from the shapes of the networks; nothing is measured."""
        plan = []
        for stage, steps in zip(self.curriculum, self.setup.stage_steps):
            shape = self.setup.teacher_shape(stage)
            plan.append(StagePlan(steps, step_cost(stage.target, self.student, shape, self.samples_per_step)))
        return plan

    def prepare(self) -> None:
        """Allocates the memory of the run, so that a lack of memory shows before the first step."""
        _ = self.kernel, self.samples.held_out_labels

    @contextmanager
    def open_stage(self, index: int) -> Iterator[TwoLayerStage]:
        """The stage with its teacher's signal."""
        yield TwoLayerStage(self.setup, self.samples, self.kernel, index)

    def evaluate(self) -> dict[str, float]:
        """The student's metrics on the held-out samples."""
        return self.samples.evaluate(self.student)

    def save(self, directory: Path) -> None:
        """Writes model.safetensors and config.json."""
        self.student.save(directory)

    def load(self, directory: Path) -> None:
        """Loads the weights; the setup defines the shape."""
        self.student.load_weights(directory)

    def facts(self) -> ModelFacts:
        """Sizes of student and teacher, and the teacher's scores."""
        parameters = sum(p.numel() for p in self.student.parameters())
        teachers = self.setup.teachers
        folders = self.setup.teacher_folders
        if teachers is None or not folders:
            return ModelFacts(parameters)
        return ModelFacts(
            parameters,
            bytes_kept=sum(directory_bytes(folder) for folder in folders),
            teacher_bytes=directory_bytes(teachers.final),
            teacher_parameters=read_shape(teachers.final).parameters,
            teacher_metrics=self.samples.evaluate(TwoLayer.load(teachers.final)),
        )
