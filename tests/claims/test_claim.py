"""Verdicts and result files, without training anything."""

import json

import pytest

from vigreux.claims.c01_width import steps_to
from vigreux.claims.catalogue import CLAIMS
from vigreux.claims.common.claim import Check, Claim, Outcome, write_result


def outcome(*holds: bool) -> Outcome:
    return Outcome(
        {"accuracy": [0.5]}, [Check(f"part {i}", held) for i, held in enumerate(holds)], [0, 1, 2], {"n": 3}
    )


@pytest.mark.parametrize(
    ("holds", "verdict"),
    [
        ((True, True), "holds"),
        ((True, False), "holds in part"),
        ((False, False), "does not hold"),
        ((False,), "does not hold"),
    ],
)
def test_the_verdict_is_that_of_the_checks(holds, verdict):
    assert outcome(*holds).verdict == verdict


def test_the_result_file(tmp_path):
    claim = Claim("C9", "a title", "a paper", lambda lab, preset: outcome(True))
    path = write_result(
        claim, "smoke", outcome(True, False), tmp_path / "new", command="vigreux reproduce C9", seconds=1.26
    )
    assert path.name == "C9.smoke.json"
    found = json.loads(path.read_text())
    assert found["checks"] == [{"what": "part 0", "holds": True}, {"what": "part 1", "holds": False}]
    assert {
        key: found[key]
        for key in ("claim", "preset", "verdict", "numbers", "seeds", "config", "command", "seconds")
    } == {
        "claim": "C9",
        "preset": "smoke",
        "verdict": "holds in part",
        "numbers": {"accuracy": [0.5]},
        "seeds": [0, 1, 2],
        "config": {"n": 3},
        "command": "vigreux reproduce C9",
        "seconds": 1.3,
    }
    assert "cores" in found["machine"]


def test_claims_are_listed_by_their_names():
    assert {name: claim.name for name, claim in CLAIMS.items()} == {name: name for name in CLAIMS}
    assert {"C1", "C2", "C3", "C4", "C5", "C6", "C7", "C12"} <= set(CLAIMS)


class Evaluated:
    """A run with these held-out accuracies."""

    def __init__(self, *accuracies: float) -> None:
        self.accuracies = accuracies

    def metrics(self, kind: str) -> list[dict]:
        assert kind == "eval"
        return [{"global_step": 10 * (i + 1), "accuracy": a} for i, a in enumerate(self.accuracies)]


def test_steps_to_a_threshold():
    assert steps_to(Evaluated(0.5, 0.89, 0.9, 0.8), 40) == 30
    assert steps_to(Evaluated(0.5, 0.6), 20) == 40  # never: twice the budget
