"""The meaning of token ids and outputs in a run, on which all its models must agree.

The classes of the run are the student's, because the users of the student read its config. The logits of
teachers are put into this order.
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
    """The tokens and classes that the models of a run agree on.

    Args:
        kind: what is learned.
        tokenizer: the tokenizer of all texts; `None` for plain torch modules.
        classes: names of the classes in the order of the run's labels and logits; `None` for kinds without
            classes.
        named_by: the owner of these names, for messages.
        token_ids: all ids in batches are below this number.
        pad_id: the id that pads a batch.
    """

    kind: AnyTaskKind
    tokenizer: PreTrainedTokenizerBase | None
    classes: Classes | None = None
    named_by: str = "the student"
    token_ids: int = 0
    pad_id: int | None = None

    def match(self, config: Any, where: str) -> ClassMatch:
        """Matches the classes of a model with the run's.

        Raises:
            ConfigError: the model has other classes, or its outputs are no classes.
        """
        if self.classes is None or config is None:
            return ClassMatch(None)
        return match_classes(classes_of(config, where), self.classes, where, self.named_by)


def meaning_from_python(task: Task, tokenizer: PreTrainedTokenizerBase | None) -> Meaning:
    """The meaning that models from Python must agree on; the classes are the student's."""
    classes = None if task.id2label is None else tuple(task.id2label[i] for i in range(len(task.id2label)))
    return Meaning(task.kind, tokenizer, classes)


def run_classes(student: Classes, teacher: Classes) -> Classes:
    """The classes of a run: the student's, or the teacher's if the student's names are mere ids."""
    return teacher if is_generic(student) and len(student) == len(teacher) else student
