"""Vigreux: distil a trained network into a smaller one through a curriculum.

The vocabulary (`Stage`, `Duration`, the targets) and the builders (`extraction`, `progressive`, …) are pure
and load at once. `distill` and the other functions that need torch load when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vigreux.curriculum import (
    Curriculum,
    Duration,
    Embedding,
    Hidden,
    Joint,
    Labels,
    Logits,
    Projection,
    Stage,
    TeacherRef,
    table,
)
from vigreux.curriculum.recipes import extraction, one_shot, p_shot, pair_layers, progressive, supervised
from vigreux.curriculum.serialize import from_yaml, to_yaml
from vigreux.errors import CacheError, CheckpointError, ConfigError, DataError, TrainingError, VigreuxError

if TYPE_CHECKING:
    from vigreux.api import distill
    from vigreux.models.initialise import projected_embeddings_
    from vigreux.models.student import make_student
    from vigreux.report.page import write_report
    from vigreux.sweeps.comparison import compare
    from vigreux.sweeps.sweep import sweep

# public name → its module, for names whose module loads torch or matplotlib
_LAZY = {
    "compare": "vigreux.sweeps.comparison",
    "distill": "vigreux.api",
    "make_student": "vigreux.models.student",
    "projected_embeddings_": "vigreux.models.initialise",
    "sweep": "vigreux.sweeps.sweep",
    "write_report": "vigreux.report.page",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'vigreux' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


__all__ = [
    "CacheError",
    "CheckpointError",
    "ConfigError",
    "Curriculum",
    "DataError",
    "Duration",
    "Embedding",
    "Hidden",
    "Joint",
    "Labels",
    "Logits",
    "Projection",
    "Stage",
    "TeacherRef",
    "TrainingError",
    "VigreuxError",
    "compare",
    "distill",
    "extraction",
    "from_yaml",
    "make_student",
    "one_shot",
    "p_shot",
    "pair_layers",
    "progressive",
    "projected_embeddings_",
    "supervised",
    "sweep",
    "table",
    "to_yaml",
    "write_report",
]
