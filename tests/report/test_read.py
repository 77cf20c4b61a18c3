import json

import pytest

from tests.report.fake import Fake, write_compare
from vigreux.errors import CheckpointError
from vigreux.report.metrics import Metric
from vigreux.report.read import final_metrics, read_experiment


def test_a_compare_folder_names_runs_metric_budget_and_baseline(tmp_path):
    experiment = read_experiment([write_compare(tmp_path, ("one-shot", "extraction"), seeds=2)])
    assert [run.name for run in experiment.runs] == [
        "one-shot, seed 0",
        "one-shot, seed 1",
        "extraction, seed 0",
        "extraction, seed 1",
    ]
    assert {group: len(runs) for group, runs in experiment.groups.items()} == {"one-shot": 2, "extraction": 2}
    assert (experiment.metric, experiment.baseline, experiment.budget) == (
        Metric("accuracy", True),
        "one-shot",
        "600 steps",
    )


def test_run_folders_choose_the_task_s_metric(tmp_path):
    Fake(steps=100).write(tmp_path / "a")
    experiment = read_experiment([tmp_path / "a", tmp_path / "a"])
    assert len(experiment.runs) == 1
    assert (experiment.metric, experiment.baseline, experiment.budget) == (
        Metric("accuracy", True),
        None,
        None,
    )


def test_runs_of_one_name_but_other_settings_are_no_seeds_of_each_other(tmp_path):
    Fake(steps=100, seed=0).write(tmp_path / "a")
    Fake(steps=100, seed=1).write(tmp_path / "b")
    Fake(steps=100, seed=1, config={"student": {"layers": 2}}).write(tmp_path / "c")
    groups = read_experiment([tmp_path / name for name in "abc"]).groups
    assert {group: [run.seed for run in runs] for group, runs in groups.items()} == {
        "extraction (a)": [0, 1],
        "extraction (c)": [1],
    }


def test_the_same_seed_again_is_no_second_seed(tmp_path):
    for name in ("x/run", "y/run"):
        Fake(steps=100).write(tmp_path / name)
    groups = read_experiment([tmp_path / "x/run", tmp_path / "y/run"]).groups
    assert list(groups) == [f"extraction ({tmp_path}/x/run)", f"extraction ({tmp_path}/y/run)"]


def test_final_metrics_of_a_run_that_has_not_finished_are_its_last_evaluation(tmp_path):
    Fake("one-shot", steps=100).write(tmp_path / "done")
    Fake("progressive", steps=400, stop=2).write(tmp_path / "part").fail("power cut")
    done, part = read_experiment([tmp_path / "done", tmp_path / "part"]).runs
    assert final_metrics(done) == done.summary.metrics
    assert (part.summary, part.status) == (None, "failed")
    assert set(final_metrics(part)) == {"accuracy", "loss", "agreement"}
    assert final_metrics(part)["accuracy"] == part.evaluations[-1]["accuracy"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "compare.json: is damaged"),
        ("[]", "compare.json: is damaged"),
        ('{"metric": "accuracy"}', "compare.json: higher_is_better is missing"),
        (
            '{"metric": 3, "higher_is_better": true, "budget": "", "runs": [], "baseline": "a"}',
            "metric: 3: Input should be a valid string",
        ),
    ],
)
def test_a_damaged_compare_json_is_one_line(tmp_path, text, message):
    (tmp_path / "compare.json").write_text(text)
    with pytest.raises(CheckpointError) as error:
        read_experiment([tmp_path])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_runs_of_a_compare_folder_that_have_not_started(tmp_path):
    compare = {
        "metric": "loss",
        "higher_is_better": False,
        "budget": "",
        "runs": ["a", "b"],
        "baseline": "one-shot",
    }
    (tmp_path / "compare.json").write_text(json.dumps(compare))
    with pytest.raises(CheckpointError, match="none of its 2 runs has started"):
        read_experiment([tmp_path])
    Fake("one-shot", steps=50).write(tmp_path / "b")
    experiment = read_experiment([tmp_path])
    assert ([run.path.name for run in experiment.runs], experiment.missing) == (["b"], ("a",))
    (tmp_path / "a").mkdir()
    with pytest.raises(CheckpointError, match=r"a: not a run folder \(run.json is missing\)"):
        read_experiment([tmp_path])


def test_a_hidden_stage_s_own_held_out_loss_is_no_evaluation_of_the_student(tmp_path):
    Fake("extraction", steps=600).write(tmp_path / "a")
    (run,) = read_experiment([tmp_path / "a"]).runs
    assert {record["stage"] for record in run.metrics if record["kind"] == "eval"} == {
        "hidden-2-to-1",
        "hidden-4-to-2",
        "final",
    }
    assert {record["stage"] for record in run.evaluations} == {"final"}


def test_no_paths():
    with pytest.raises(CheckpointError, match="no run folder given"):
        read_experiment([])
