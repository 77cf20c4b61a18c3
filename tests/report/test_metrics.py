import pytest

from vigreux.report.metrics import Metric, main_metric


@pytest.mark.parametrize(
    ("name", "value", "interval", "text"),
    [
        ("accuracy", 0.9034, 0.0041, "90.3 % ± 0.4"),
        ("accuracy", 0.9034, None, "90.3 %"),
        ("loss", 4.7809, 0.0123, "4.781 ± 0.012"),
        ("perplexity", 119.26, 2.345, "119.3 ± 2.3"),
        ("loss", None, None, "–"),
    ],
)
def test_format(name, value, interval, text):
    assert Metric.named(name).format(value, interval) == text


@pytest.mark.parametrize(
    ("name", "value", "interval", "text"),
    [
        ("accuracy", 0.012, 0.004, "+1.2 ± 0.4"),
        ("accuracy", -0.012, None, "−1.2"),
        ("loss", -0.05, 0.01, "−0.050 ± 0.010"),
    ],
)
def test_format_difference(name, value, interval, text):
    assert Metric.named(name).format_difference(value, interval) == text


def test_direction_follows_from_the_name():
    higher = {
        name: Metric.named(name).higher_is_better
        for name in ("accuracy", "teacher_agreement", "cosine", "loss", "perplexity")
    }
    assert higher == {
        "accuracy": True,
        "teacher_agreement": True,
        "cosine": True,
        "loss": False,
        "perplexity": False,
    }


@pytest.mark.parametrize(
    ("kind", "measured", "name"),
    [
        ("classification", {"loss": 1, "accuracy": 1}, "accuracy"),
        ("causal-lm", {"accuracy": 1, "loss": 1}, "loss"),
        ("embedding", {"cosine": 1, "spread": 1}, "cosine"),
        ("causal-lm", {}, "loss"),
    ],
)
def test_main_metric(kind, measured, name):
    assert main_metric({"task": {"kind": kind}}, measured).name == name
