"""One run of a configuration: the student with its first weights, the curriculum, and what runs share."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vigreux.activity import doing
from vigreux.assembly.build_student import make_student, start_from_teacher_
from vigreux.assembly.embeddings import other_poolings
from vigreux.assembly.materials import Materials, other_teacher
from vigreux.assembly.others import check_other_teachers
from vigreux.assembly.sources import check_steps, training_device
from vigreux.backends.transformer.setup import Setup
from vigreux.config.curricula import from_config
from vigreux.config.effects import unused_settings
from vigreux.config.transformer import RunConfig
from vigreux.curriculum import Projection, shared_projection
from vigreux.distillation.signals.live import Teachers
from vigreux.models.layout import named_layout, num_blocks


@doing("making the student")
def make_setup(
    config: RunConfig, materials: Materials, stored: Mapping[Projection, Tensor] | None = None
) -> Setup:
    """Sets up one run: the curriculum fitted to both models, and the student with its first weights.

    Args:
        config: the run's configuration.
        materials: the objects that the run shares with others.
        stored: the projections of a cache's signals. The student's first weights must use them, too.
    """
    config = materials.settled(config)
    materials.hold_teacher(config)
    teacher = materials.teacher
    student, notes = make_student(config, materials)
    layout = named_layout(student, config.teacher.blocks, config.teacher.after_blocks)
    check_steps(config, materials.series)
    curriculum = from_config(
        config,
        student_layers=num_blocks(student, layout),
        teacher_layers=num_blocks(teacher.model, teacher.layout),
        series=list(materials.series),
    )
    remote = config.teacher.trust_remote_code
    notes += check_other_teachers(materials.meaning, curriculum, materials.series, trust_remote_code=remote)
    notes += other_poolings(curriculum, config)
    notes += unused_settings(config)
    teachers = Teachers(
        teacher, materials.series, lambda name: other_teacher(name, config, materials.meaning)
    )
    projections = materials.projections(config, teachers, stored or {})
    if config.student.model is None:
        notes += start_from_teacher_(
            student,
            teacher,
            config.student.init,
            task=materials.task,
            projection=shared_projection(curriculum) or config.extraction.projected(),
            projections=projections,
            layout=layout,
            from_layers=config.student.from_layers,
        )
    return Setup(
        task=materials.task,
        student=student.to(training_device()),  # type: ignore[arg-type]
        teachers=teachers,
        curriculum=curriculum,
        budget=config.budget,
        training=dict(config.training),
        optimizer=config.optimizer,
        schedule=config.schedule,
        sharded=config.sharded,
        seed=config.seed,
        student_layout=layout,
        projections=projections,
        processing_class=materials.tokenizer,
        notes=[*materials.task.notes, *materials.notes, *notes],
    )
