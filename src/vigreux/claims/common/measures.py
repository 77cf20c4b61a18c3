"""What claims read from a finished run, and when a student counts as having learned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vigreux.run.folder import RunFolder, Summary

CHANCE = 0.55  # up to this accuracy a student has not learned parity
LEARNED = 0.99  # from this accuracy on it has

Curves = dict[str, list[float]]


def summary_of(run: RunFolder) -> Summary:
    """The summary of a finished run."""
    summary = run.summary()
    if summary is None:
        raise ValueError(f"{run.path} is not finished")
    return summary


def final_accuracy(run: RunFolder) -> float:
    """Held-out accuracy at the end."""
    return summary_of(run).metrics["accuracy"]


def curve(run: RunFolder) -> Curves:
    """Held-out accuracy during training: `steps` and `accuracy`."""
    records = run.metrics("eval")
    return {
        "steps": [record["global_step"] for record in records],
        "accuracy": [record["accuracy"] for record in records],
    }


def loss_curve(run: RunFolder) -> Curves:
    """Held-out loss during training: `steps` and `loss`."""
    records = run.metrics("eval")
    return {
        "steps": [record["global_step"] for record in records],
        "loss": [record["loss"] for record in records],
    }


def cost(run: RunFolder) -> dict[str, float]:
    """What a result quotes of the cost of a run."""
    summary = summary_of(run)
    return {"seconds": round(summary.seconds, 1), "flops": summary.flops, "bytes_kept": summary.bytes_kept}


def explained_variances(run: RunFolder) -> list[float]:
    """The explained variance at the end of each hidden stage."""
    return [stage.explained_variance for stage in run.stages() if stage.explained_variance is not None]


def all_learned(accuracies: Sequence[float]) -> bool:
    """Whether every seed reaches 99 %."""
    return min(accuracies) >= LEARNED


def all_at_chance(accuracies: Sequence[float]) -> bool:
    """Whether every seed stays at 55 % or below."""
    return max(accuracies) <= CHANCE


def percent(values: Iterable[float], digits: int = 1) -> str:
    """`51.2 %, 50.3 %`: one share for each seed."""
    return ", ".join(f"{100 * value:.{digits}f} %" for value in values)
