"""The fixed projections of a run: one matrix for each kind, teacher and pair of widths.

The student's start, its hidden stages, a cache and the evaluation of embeddings all use the same object. Its
matrices depend on the teacher, the data and the sizes of a step, and not on what the process did earlier.

**The definition of PCA.** The principal components of the teacher's hidden states of *all* layers together:
the embeddings and the output of every block, at every token of the first samples. There are three reasons:

* All layers add to one residual stream in one set of coordinates, in the teacher and in the student. If each
  stage had its own basis, a student's block would have to rotate the state from one basis into the next.
* If a student's embeddings start as the teacher's times the matrix, its stages need the same matrix.
* A matrix must not depend on which stage a resumed run starts with, or on how the student starts.


The layers of a torch module may have different widths. Then PCA uses the layers of the same width.

The method is curriculum extraction (arXiv 2503.17494), which projects every layer at random. PCA is Vigreux's
addition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from vigreux.curriculum import Projection, TeacherRef
from vigreux.distillation.projection import projection_matrix
from vigreux.distillation.signals.live import LiveTeacher, Teachers
from vigreux.errors import ConfigError
from vigreux.models.layout import num_blocks
from vigreux.tasks.task import Task

PCA_STREAM = 0  # seed of the samples, so that the runs of a comparison share a matrix whatever their seed

Key = tuple[Projection, TeacherRef, int, int]


@dataclass(frozen=True)
class Projections:
    """Returns the matrix of a projection, and computes each matrix once.

    Args:
        teachers: the run's teachers. PCA reads their hidden states.
        task: PCA runs the teacher on its training samples.
        samples: the number of these samples.
        batch_size: samples of one forward pass of the teacher.
        stored: the final teacher's matrices that a cache's signals went through. They are used unchanged.
        made: the matrices so far. Runs with equal teachers, task and sizes may share it, because the matrices
            depend only on these.
    """

    teachers: Teachers
    task: Task
    samples: int
    batch_size: int
    stored: Mapping[Projection, Tensor] = field(default_factory=dict)
    made: dict[Key, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def matrix(self, spec: Projection, teacher: TeacherRef, d_teacher: int, d_student: int) -> Tensor:
        """`P` (d_T, d_S) of `h_S ≈ h_T P`, float32.

        A checkpoint of the teacher's run uses the final teacher's matrix, because both share coordinates.
        Another model has its own matrix.

        Raises:
            ConfigError: see `projection_matrix`; or the teacher's states are not (rows, tokens, width).
        """
        if teacher.kind == "checkpoint" and self.teachers.final is not None:
            teacher = TeacherRef.final()
        stored = self.stored.get(spec)
        if stored is not None and teacher.kind == "final" and stored.shape == (d_teacher, d_student):
            return stored
        key = (spec, teacher, d_teacher, d_student)
        if key not in self.made:
            states = None
            if spec.kind == "pca":
                model = self.teachers.of(teacher)
                assert model is not None, "labels are not projected"
                states = self._states(model, d_teacher)
            self.made[key] = projection_matrix(spec, d_teacher, d_student, hidden=states)
        return self.made[key]

    def of_final(self) -> dict[Projection, Tensor]:
        """The final teacher's matrices so far, stored or computed, by their projection."""
        computed = {
            spec: matrix for (spec, teacher, _, _), matrix in self.made.items() if teacher.kind == "final"
        }
        return {**self.stored, **computed}

    def _states(self, teacher: LiveTeacher, width: int) -> Iterator[Tensor]:
        """(N, width) the hidden states that PCA sees, one batch and layer at a time."""
        stream = self.task.stream(PCA_STREAM, 0, self.samples)
        layers = [(layer, True) for layer in range(num_blocks(teacher.model, teacher.layout) + 1)]
        for start in range(0, len(stream), self.batch_size):
            stop = min(start + self.batch_size, len(stream))
            batch = self.task.collate([stream[i] for i in range(start, stop)])
            # (B, T); `None` for a torch module, which has one row per sample
            positions = self.task.token_positions(batch)
            hidden, _ = teacher.several(batch, layers, None, None)
            for layer in layers:
                states = hidden[layer]
                if positions is not None and states.shape[:2] != positions.shape:
                    raise ConfigError(
                        "projection.kind: 'pca' needs hidden states of the shape (rows, tokens, width), and"
                        f" the teacher's have {tuple(states.shape)}; accepted: gaussian, orthogonal, sparse"
                    )
                if states.shape[-1] == width:
                    yield states if positions is None else states[positions]
