"""Trains two-layer networks by SGD on fresh samples.

The samples come from a stream that is a function of (seed, t), and SGD has no state but the weights. So a
checkpoint is the network and the number of its step, and a resumed run gives the same bits as one that never
stopped. The papers call this algorithm online SGD: every sample is seen once.
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
        """Of what the configuration does not say: the student's first weights, and each teacher's."""
        prints = {STUDENT: weights_in_memory(self.student)}
        for stage in self.curriculum:
            if stage.teacher.kind != "labels":
                prints[f"teacher ({stage.teacher})"] = weights_in_memory(
                    TwoLayer.load(self.setup.teacher_folder(stage))
                )
        return prints

    def plan(self) -> list[StagePlan]:
        """From the shapes alone: nothing is measured."""
        plan = []
        for stage, steps in zip(self.curriculum, self.setup.stage_steps):
            shape = self.setup.teacher_shape(stage)
            plan.append(StagePlan(steps, step_cost(stage.target, self.student, shape, self.samples_per_step)))
        return plan

    def prepare(self) -> None:
        """Takes the memory that the run needs, so that too little of it shows before the first step."""
        _ = self.kernel, self.samples.held_out_labels

    @contextmanager
    def open_stage(self, index: int) -> Iterator[TwoLayerStage]:
        """The stage with what its teacher says of the coming samples."""
        yield TwoLayerStage(self.setup, self.samples, self.kernel, index)

    def evaluate(self) -> dict[str, float]:
        """Of the student, on the held-out samples."""
        return self.samples.evaluate(self.student)

    def save(self, directory: Path) -> None:
        """model.safetensors and config.json."""
        self.student.save(directory)

    def load(self, directory: Path) -> None:
        """The weights alone: the shape is the setup's."""
        self.student.load_weights(directory)

    def facts(self) -> ModelFacts:
        """Sizes of student and teacher, and the teacher's scores."""
        parameters = sum(p.numel() for p in self.student.parameters())
        teachers, used = self.setup.teachers, self.setup.teacher_folders
        if teachers is None or not used:
            return ModelFacts(parameters)
        return ModelFacts(
            parameters,
            bytes_kept=sum(directory_bytes(folder) for folder in used),
            teacher_bytes=directory_bytes(teachers.final),
            teacher_parameters=read_shape(teachers.final).parameters,
            teacher_metrics=self.samples.evaluate(TwoLayer.load(teachers.final)),
        )
