"""The builder of each kind of task."""

from __future__ import annotations

from collections.abc import Mapping

from vigreux.config.task_kinds import TaskKind
from vigreux.tasks.kinds import classification, embedding, language, token_classification
from vigreux.tasks.kinds.base import TaskBuilder

BUILDERS: Mapping[TaskKind, TaskBuilder] = {
    "causal-lm": language.CAUSAL_LM,
    "masked-lm": language.MASKED_LM,
    "classification": classification.CLASSIFICATION,
    "token-classification": token_classification.TOKEN_CLASSIFICATION,
    "embedding": embedding.EMBEDDING,
}
