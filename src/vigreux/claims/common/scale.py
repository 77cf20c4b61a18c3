"""A scale: the settings of an experiment at one of the presets smoke, laptop and paper."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Settings that all experiments have.

    Args:
        seeds: The seeds of the students' first weights; of transformers also of the order of samples.
    """

    seeds: tuple[int, ...] = (0, 1, 2)

    def plain(self) -> dict[str, Any]:
        """The settings as plain values, for the result file."""
        return asdict(self)
