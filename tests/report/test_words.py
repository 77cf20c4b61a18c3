import pytest

from tests.report.fake import Fake, write_compare
from vigreux.report import words
from vigreux.report.metrics import Metric
from vigreux.report.read import Experiment, read_experiment
from vigreux.report.tables import ComparisonTable, Row, comparison_table


def summary(experiment: Experiment) -> str:
    return " ".join(words.summary(experiment, comparison_table(experiment)))


def test_one_run_in_plain_words(tmp_path):
    Fake(steps=600).write(tmp_path / "a")
    text = summary(read_experiment([tmp_path / "a"]))
    assert text.startswith(
        "The teacher minilm-l6 (22.7 M parameters) was distilled into a student of 3 layers, 6 heads, hidden"
        " size 192 "
        "(7.19 M parameters), for text classification on wikipedia-topics. "
        "With the curriculum extraction the student reached an accuracy of 90."
    )
    assert text.endswith(
        " % on held-out data; the teacher has 88.0 %. A run cost 3.22 TFLOP (student and teacher) and 1 min"
        " 19 s on 2 CPU cores, "
        "and needs 91 MB of teacher weights kept."
    )


def test_a_configuration_without_models_still_reads_well(tmp_path):
    Fake("one-shot", steps=100, config={"task": {}, "teacher": {}, "student": {"model": "bert-tiny"}}).write(
        tmp_path / "a"
    )
    assert summary(read_experiment([tmp_path / "a"])).startswith(
        "The teacher (22.7 M parameters) was distilled into the student bert-tiny (7.19 M parameters). "
        "With the curriculum one-shot the student"
    )


def test_without_a_teacher_nothing_is_distilled(tmp_path):
    Fake("supervised", steps=100).write(tmp_path / "a")
    text = summary(read_experiment([tmp_path / "a"]))
    assert text.startswith(
        "A student of 3 layers, 6 heads, hidden size 192 (7.19 M parameters) was trained on labels, without a"
        " teacher, for"
    )
    assert text.endswith("A run cost 210 GFLOP and 15.4 s on 2 CPU cores, and needs no teacher weights kept.")
    assert words.title(read_experiment([tmp_path / "a"])) == "Training on labels"


def test_several_curricula_in_plain_words(tmp_path):
    text = summary(read_experiment([write_compare(tmp_path, ("supervised", "one-shot"), seeds=2)]))
    assert (
        "2 curricula were run under the same budget (600 steps), 2 seeds each. Best on held-out accuracy is"
        " one-shot with 8" in text
    )
    assert "No curriculum did better than the baseline, one-shot." in text


def row(group: str, difference: tuple[float, float | None] | None) -> Row:
    return Row(group, 3, 3, {"accuracy": (0.9, 0.01)}, difference, 1e9, 1.0, 10, 10, best=True)


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (
            (0.02, 0.01),
            "is +2.0 ± 1.0 percentage points (95 % interval over paired seeds), which excludes 0.",
        ),
        (
            (0.02, 0.03),
            "+2.0 ± 3.0 percentage points (95 % interval over paired seeds): the interval contains 0, so"
            " these seeds do not",
        ),
        (
            (0.02, None),
            "that is +2.0 percentage points: a single seed, which cannot tell a difference from chance.",
        ),
        (None, "The baseline, one-shot, has no finished run of the same seeds to compare with."),
    ],
)
def test_whether_the_seeds_tell_the_best_from_the_baseline(difference, text):
    best = row("extraction", difference)
    assert text in words._against_baseline(
        best, ComparisonTable((best,), Metric("accuracy", True), "one-shot")
    )


def test_warnings_name_runs_that_did_not_finish_and_stages_that_learned_nothing(tmp_path):
    Fake(steps=300, collapse=True).write(tmp_path / "a")
    Fake(steps=300, seed=1, stop=1).write(tmp_path / "b").fail("loss is nan")
    with Fake("progressive", steps=300, stop=2).write(tmp_path / "c"):  # its lock says that it runs
        experiment = read_experiment([tmp_path / name for name in "abc"])
    assert words.warnings(experiment) == [
        "The run extraction, seed 1 failed (loss is nan; 1 of 3 stages done); its numbers are not in the"
        " table.",
        "The run progressive, seed 0 is still running (2 of 4 stages done); its numbers are not in the"
        " table.",
        "The run extraction, seed 0: stage hidden-4-to-2 ended at explained variance −0.12: "
        "it learned no more than the mean of its targets, and the next stage started from that.",
    ]
    assert "Too few runs have finished to compare them." in summary(experiment)
    assert summary(read_experiment([tmp_path / "b"])).endswith(
        "No run has finished yet: the run extraction, seed 1 failed (loss is nan; 1 of 3 stages done)."
    )


def test_warnings_name_runs_that_have_not_started(tmp_path):
    write_compare(tmp_path, ("one-shot",), seeds=1, runs=["one-shot-0", "one-shot-1", "one-shot-2"])
    assert words.warnings(read_experiment([tmp_path])) == ["Not started yet: one-shot-1 and one-shot-2."]


@pytest.mark.parametrize(("value", "bad"), [(-0.1, True), (0.0, True), (0.01, False), (None, False)])
def test_learned_nothing(value, bad):
    assert words.learned_nothing(value) is bad
