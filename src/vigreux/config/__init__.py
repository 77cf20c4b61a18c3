"""Every option of a run, as frozen dataclasses. The names here are public; they load no torch."""

from vigreux.config.shared import BudgetConfig, ExtractionConfig, LossConfig
from vigreux.config.transformer import (
    CacheConfig,
    RunConfig,
    StudentConfig,
    TaskConfig,
    TeachConfig,
    TeacherConfig,
)
from vigreux.config.two_layer import (
    BooleanTaskConfig,
    NetworkConfig,
    SGDConfig,
    TwoLayerConfig,
    TwoLayerTeacherConfig,
)

__all__ = [
    "BooleanTaskConfig",
    "BudgetConfig",
    "CacheConfig",
    "ExtractionConfig",
    "LossConfig",
    "NetworkConfig",
    "RunConfig",
    "SGDConfig",
    "StudentConfig",
    "TaskConfig",
    "TeachConfig",
    "TeacherConfig",
    "TwoLayerConfig",
    "TwoLayerTeacherConfig",
]
