"""The fixed projections of a run: one matrix for each kind, teacher and pair of widths.

The student's start, its hidden stages, a cache and the evaluation of embeddings all ask the same object. Its
answers depend on the teacher, the data and the sizes of a step. They do not depend on what the process did
earlier.

**The definition of PCA.** The principal components of the teacher's hidden states of *all* layers together:
the embeddings and the output of every block, at every token of the first samples. There are three reasons:

* Layers add to one residual stream, in one set of coordinates, and so does the student. If each stage had a
  basis of its own, a student's block would have to turn the state from one basis into the next.
* A student whose embeddings start as the teacher's times the matrix needs the same matrix in its stages.
* A matrix must not depend on which stage a resumed run starts with, or on how the student starts.

The layers of a torch module may have different widths. Then the layers of the same width count.

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
    """Gives the matrix of a projection; it makes each matrix once.

    Args:
        teachers: of the run. PCA reads their hidden states.
        task: its training samples are those on which PCA looks at the teacher.
        samples: how many of them.
        batch_size: samples of one forward pass of the teacher.
        stored: matrices of the final teacher that a cache's signals went through. They are used as they are.
        made: the matrices so far. Runs that share teachers, task and sizes may share it, as each matrix
            depends on these alone.
    """

    teachers: Teachers
    task: Task
    samples: int
    batch_size: int
    stored: Mapping[Projection, Tensor] = field(default_factory=dict)
    made: dict[Key, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def matrix(self, spec: Projection, teacher: TeacherRef, d_teacher: int, d_student: int) -> Tensor:
        """`P` (d_T, d_S) of `h_S ≈ h_T P`, float32.

        A checkpoint of the teacher's run uses the final teacher's matrix: they share their coordinates.
        Another model has its own.

        Raises:
            ConfigError: see `projection_matrix`; the teacher's states have no (rows, tokens, width).
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
        """The final teacher's matrices, stored and made so far, by their projection."""
        made = {
            spec: matrix for (spec, teacher, _, _), matrix in self.made.items() if teacher.kind == "final"
        }
        return {**self.stored, **made}

    def _states(self, teacher: LiveTeacher, width: int) -> Iterator[Tensor]:
        """(N, width) the hidden states that PCA sees, one batch and layer at a time."""
        stream = self.task.stream(PCA_STREAM, 0, self.samples)
        layers = [(layer, True) for layer in range(num_blocks(teacher.model, teacher.layout) + 1)]
        for start in range(0, len(stream), self.batch_size):
            stop = min(start + self.batch_size, len(stream))
            batch = self.task.collate([stream[i] for i in range(start, stop)])
            positions = self.task.token_positions(
                batch
            )  # (B, T); `None` for a torch module: one row a sample
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
