"""From a training curve to its phase transitions, and to the checkpoints to keep for p-shot distillation."""

from vigreux.selection.choice import Choice, choose_checkpoints, select_checkpoints
from vigreux.selection.curve import FEWEST, Curve, PhaseTransition
from vigreux.selection.transitions import find_transitions, why_none

__all__ = [
    "FEWEST",
    "Choice",
    "Curve",
    "PhaseTransition",
    "choose_checkpoints",
    "find_transitions",
    "select_checkpoints",
    "why_none",
]
