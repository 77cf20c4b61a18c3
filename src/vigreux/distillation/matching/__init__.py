"""Implements each target for Hugging Face models and torch modules: one matcher per target.

A matcher defines everything that depends on the target: the view of the student, the teacher's signal, the
loss, the form in a cache, the cost, and the checks against the task. Only `matcher_of` looks at a target's
type.
"""

from __future__ import annotations

from vigreux.curriculum import Embedding, Hidden, Joint, Labels, Logits, Target
from vigreux.distillation.matching.base import Matcher
from vigreux.distillation.matching.embedding import EmbeddingMatcher
from vigreux.distillation.matching.hidden import HiddenMatcher
from vigreux.distillation.matching.joint import JointMatcher
from vigreux.distillation.matching.labels import LabelsMatcher
from vigreux.distillation.matching.logits import LogitsMatcher

MATCHERS: dict[type, type] = {
    Labels: LabelsMatcher,
    Logits: LogitsMatcher,
    Hidden: HiddenMatcher,
    Embedding: EmbeddingMatcher,
    Joint: JointMatcher,
}


def matcher_of(target: Target) -> Matcher:
    """The matcher of a target."""
    matcher: Matcher = MATCHERS[type(target)](target)
    return matcher
