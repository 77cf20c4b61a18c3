"""What is measured on held-out data: its name in words, which way is better, and how its numbers are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vigreux.config.two_layer import TWO_LAYER_KINDS

_SHARES = ("accuracy", "agreement")  # between 0 and 1, written in per cent
_HIGHER_IS_BETTER = (*_SHARES, "similarity", "cosine", "correlation", "variance")


@dataclass(frozen=True)
class Metric:
    """One held-out metric.

    Args:
        name: as the records of metrics.jsonl call it.
        higher_is_better: which way is better.
    """

    name: str
    higher_is_better: bool

    @classmethod
    def named(cls, name: str) -> Metric:
        """The metric with the direction that its name implies."""
        return cls(name, any(word in name for word in _HIGHER_IS_BETTER))

    @property
    def is_share(self) -> bool:
        """Whether values lie between 0 and 1 and are written in per cent."""
        return any(word in self.name for word in _SHARES)

    @property
    def words(self) -> str:
        """The name as it stands in a sentence."""
        return self.name.replace("_", " ").replace("-", " ")

    @property
    def arrow(self) -> str:
        """↑ where higher is better, ↓ where lower is."""
        return "↑" if self.higher_is_better else "↓"

    def format(self, value: float | None, interval: float | None = None) -> str:
        """`90.3 % ± 0.4`, `4.781 ± 0.012`, or – for what was not measured."""
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
    """The metric a task is judged by: accuracy for classification and parity, the loss for the rest, else the first there is."""
    wanted = (
        "accuracy"
        if (config.get("task") or {}).get("kind") in ("classification", *TWO_LAYER_KINDS)
        else "loss"
    )
    return Metric.named(wanted if wanted in measured else next(iter(measured), wanted))
