"""What token ids and outputs mean in a run, and whether every model that takes part means the same.

The student's classes are those of the run: what its config says is what its users read. The logits of teachers are
brought into its order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from vigreux.config.task_kinds import AnyTaskKind
from vigreux.tasks.classes import Classes, ClassMatch, classes_of, is_generic, match_classes
from vigreux.tasks.task import Task


@dataclass(frozen=True)
class Meaning:
    """What the models of a run agree on.

    Args:
        kind: what is learned.
        tokenizer: that every text goes through; `None` for plain torch modules.
        classes: names of the classes in the order of the run's labels and logits (classification).
        named_by: whose names these are, for messages.
        token_ids: batches hold ids below this number.
        pad_id: what fills a batch.
    """

    kind: AnyTaskKind
    tokenizer: PreTrainedTokenizerBase | None
    classes: Classes | None = None
    named_by: str = "the student"
    token_ids: int = 0
    pad_id: int | None = None

    def match(self, config: Any, where: str) -> ClassMatch:
        """How the classes of a model with this config stand to the run's.

        Raises:
            ConfigError: other classes, or outputs that are no classes.
        """
        if self.classes is None or config is None:
            return ClassMatch(None)
        return match_classes(classes_of(config, where), self.classes, where, self.named_by)


def meaning_from_python(task: Task, tokenizer: PreTrainedTokenizerBase | None) -> Meaning:
    """What the models that a Python caller hands over have to agree on; the classes are the student's."""
    classes = None if task.id2label is None else tuple(task.id2label[i] for i in range(len(task.id2label)))
    return Meaning(task.kind, tokenizer, classes)


def run_classes(student: Classes, teacher: Classes) -> Classes:
    """The classes of a run: the student's, or the teacher's names where the student's say no more than ids."""
    return teacher if is_generic(student) and len(student) == len(teacher) else student
