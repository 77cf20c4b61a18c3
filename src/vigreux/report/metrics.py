"""Metrics on held-out data: their names in words, their direction, and their number format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vigreux.config.task_kinds import METRICS, SPECS, recorded_kind

# Words in the name of a metric that `METRICS` lacks, as in a run folder of another version.
_SHARES = ("accuracy", "agreement")  # between 0 and 1, written in per cent
_HIGHER_IS_BETTER = (*_SHARES, "similarity", "cosine", "correlation", "variance")


@dataclass(frozen=True)
class Metric:
    """One held-out metric.

    Args:
        name: its name in the records of metrics.jsonl.
        higher_is_better: whether a higher value is better.
    """

    name: str
    higher_is_better: bool

    @classmethod
    def named(cls, name: str) -> Metric:
        """The metric, with the direction from `METRICS` or from its name."""
        if name in METRICS:
            return cls(name, METRICS[name].higher_is_better)
        return cls(name, any(word in name for word in _HIGHER_IS_BETTER))

    @property
    def is_share(self) -> bool:
        """Whether values are between 0 and 1 and are written in per cent."""
        if self.name in METRICS:
            return METRICS[self.name].is_share
        return any(word in self.name for word in _SHARES)

    @property
    def words(self) -> str:
        """The name as used in a sentence."""
        words = METRICS[self.name].words if self.name in METRICS else ""
        return words or self.name.replace("_", " ").replace("-", " ")

    @property
    def arrow(self) -> str:
        """↑ if higher is better, ↓ if lower is."""
        return "↑" if self.higher_is_better else "↓"

    def format(self, value: float | None, interval: float | None = None) -> str:
        """`90.3 % ± 0.4`, `4.781 ± 0.012`, or – without a value."""
        if value is None:
            return "–"
        if self.is_share:
            return f"{100 * value:.1f} %" + (f" ± {100 * interval:.1f}" if interval is not None else "")
        digits = 3 if abs(value) < 100 else 1
        return f"{value:.{digits}f}" + (f" ± {interval:.{digits}f}" if interval is not None else "")

    def format_difference(self, value: float, interval: float | None) -> str:
        """`+1.2 ± 0.4`: in percentage points for shares, in the metric's own unit otherwise."""
        scale, digits = (100, 1) if self.is_share else (1, 3)
        text = f"{scale * value:+.{digits}f}".replace("-", "−")
        return text + (f" ± {scale * interval:.{digits}f}" if interval is not None else "")


def main_metric(config: Mapping[str, Any], measured: Mapping[str, float]) -> Metric:
    """The main metric of a run's task. If it was not measured, the first measured metric."""
    kind = recorded_kind(config)
    name = SPECS[kind].metric if kind in SPECS else "loss"
    return Metric.named(name if name in measured else next(iter(measured), name))
