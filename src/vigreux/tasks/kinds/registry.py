"""The builder of each kind of task."""

from __future__ import annotations

from collections.abc import Mapping

from vigreux.config.task_kinds import TaskKind
from vigreux.tasks.kinds import classification, embedding, language
from vigreux.tasks.kinds.base import TaskBuilder

BUILDERS: Mapping[TaskKind, TaskBuilder] = {
    "causal-lm": language.CAUSAL_LM,
    "masked-lm": language.MASKED_LM,
    "classification": classification.CLASSIFICATION,
    "embedding": embedding.EMBEDDING,
}
