"""The model that a stage trains: the view of the student, with projection, target scale and output heads."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PreTrainedModel

from vigreux.backends.transformer.setup import CALIBRATION_BATCHES, Setup
from vigreux.curriculum import Stage, TeacherRef
from vigreux.distillation.matching import matcher_of
from vigreux.distillation.matching.base import Heads
from vigreux.distillation.projection import LearnedProjection
from vigreux.distillation.projections import Projections
from vigreux.distillation.signals.base import SignalSource, VectorSignal
from vigreux.distillation.signals.cached import CachedTeacher
from vigreux.distillation.signals.live import Teachers, state_width
from vigreux.distillation.stage_model import StageModel, measure_targets
from vigreux.errors import CacheError
from vigreux.models.heads import find_head
from vigreux.models.layout import num_blocks
from vigreux.models.placed import device_of
from vigreux.models.text_config import text_config
from vigreux.models.views import LogitsView

FUSED_FROM = 1024  # tokens of a vocabulary; with fewer, logits are no larger than hidden states


def build_stage(setup: Setup, stage: Stage) -> tuple[StageModel, SignalSource | None]:
    """Builds the view of the student that `stage` trains, with its loss, and loads the stage's teacher."""
    teacher = setup.teachers.of(stage.teacher)
    matcher = matcher_of(stage.target)
    layout = setup.student_layout if matcher.vectors is None else setup.layout
    view = matcher.view(setup.student, stage.depth, layout)
    projection = None
    statistics = None
    if matcher.vectors is not None:
        assert teacher is not None
        projection = _projection(setup, stage, matcher.vectors, teacher)
        statistics = measure_targets(matcher, setup.task, teacher, setup.batches, projection, stage.name)
    heads = _heads(setup, view, teacher) if matcher.is_fusable else None
    model = StageModel(view, matcher, setup.task, projection, statistics, heads)
    return model.to(device_of(setup.student)), teacher


def _heads(setup: Setup, view: nn.Module, teacher: SignalSource | None) -> Heads | None:
    """Both output heads, if the loss on logits can be computed in chunks of rows; `None`: the plain loss.

    This needs a large vocabulary, and heads that are linear layers on one device.
    """
    if not (isinstance(view, LogitsView) and setup.task.spec.over_vocabulary):
        return None
    if not isinstance(setup.student, PreTrainedModel) or text_config(setup.student).vocab_size < FUSED_FROM:
        return None
    batch = next(setup.batches())
    student = find_head(setup.student, view, batch)
    if student is None:
        return None
    if teacher is None:
        return Heads(student, None)
    by_chunk = teacher.logits_by_chunk(batch, device_of(setup.student))
    return None if by_chunk is None else Heads(student, by_chunk)


def make_projections(setup: Setup) -> None:
    """Computes the matrices that need the teacher's hidden states.

    Every process calls this before the first process measures the stages alone, and before the teacher is
    sharded. Afterwards all processes would have to ask the teacher at the same time.
    """
    for stage in setup.curriculum:
        vectors = matcher_of(stage.target).vectors
        if vectors is not None and vectors.projection.kind == "pca":
            teacher = setup.teachers.of(stage.teacher)
            assert teacher is not None
            _projection(setup, stage, vectors, teacher)


def run_projections(setup: Setup) -> Projections:
    """The projections of the run."""
    if setup.projections is None:
        assert isinstance(setup.teachers, Teachers), "the signals of a cache are projected"
        samples = CALIBRATION_BATCHES * setup.samples_per_step
        batch_size = setup.batch_size
        setup.projections = Projections(setup.teachers, setup.task, samples, batch_size)
    return setup.projections


def evaluation_projection(setup: Setup) -> Tensor | None:
    """(d_T, d_S) maps the final teacher's embeddings into the student's space before they are compared.

    `None` if the last stage matches no embeddings, or learns its projection.
    """
    matcher = matcher_of(setup.curriculum[-1].target)
    final = TeacherRef.final()
    vectors = matcher.vectors
    teacher = setup.teachers.of(final)
    if vectors is None or teacher is None or not (matcher.trains_whole and matcher.has_held_out_loss):
        return None
    if vectors.projection.kind == "learned":
        return None
    if teacher.projected:
        return None if setup.projections is None else setup.projections.stored.get(vectors.projection)
    widths = teacher.width(vectors), _student_width(setup, vectors, None)
    return run_projections(setup).matrix(vectors.projection, final, *widths)


def _projection(
    setup: Setup, stage: Stage, vectors: VectorSignal, teacher: SignalSource
) -> Tensor | LearnedProjection | None:
    """The projection of hidden states or embeddings; `None` if a cache's rows are already projected."""
    d_teacher = teacher.width(vectors)
    d_student = _student_width(setup, vectors, stage.depth)
    if vectors.projection.kind == "learned":
        return LearnedProjection(d_teacher, d_student, seed=vectors.projection.seed)
    if not teacher.projected:
        return run_projections(setup).matrix(vectors.projection, stage.teacher, d_teacher, d_student)
    if d_teacher != d_student:
        assert isinstance(teacher, CachedTeacher)
        raise CacheError(
            f"{teacher.store.root}: was made for students of width {d_teacher};"
            f" accepted: that width, not {d_student}"
        )
    return None


def _student_width(setup: Setup, vectors: VectorSignal, depth: int | None) -> int:
    """The width d_S of the student's state at this depth."""
    state = vectors.student_state(depth, num_blocks(setup.student, setup.layout))
    return state_width(setup.student, setup.layout, *state)
