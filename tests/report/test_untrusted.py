"""Run folders from elsewhere: whatever their files hold is one line that names the file, or text on a page
that runs nothing.
"""

import json
import os
import time
from html.parser import HTMLParser

import pytest

from tests.report.fake import Fake, write_compare
from vigreux.errors import CheckpointError
from vigreux.files.atomic import sealed
from vigreux.report.page import write_report
from vigreux.report.read import MOST_RECORDS, read_experiment
from vigreux.run.folder import RunFolder, StageRecord, Summary

EVIL = "\"><script>alert(1)</script>'onload='alert(2)' javascript:alert(3) {x} {data:>300000000} %s </svg> ]]> <!-- ${7*7} {{7*7}}"  # noqa: E501


@pytest.fixture
def run(tmp_path):
    Fake().write(tmp_path / "run")
    return tmp_path / "run"


def edit_info(run, **changes):
    path = run / "run.json"
    path.write_text(json.dumps(sealed(json.loads(path.read_text()) | changes)))


def edit_file(run, name, text):
    """One of the small files, as run.json holds it."""
    edit_info(run, files=json.loads((run / "run.json").read_text())["files"] | {name: text})


def refused(path, name):
    began = time.monotonic()
    with pytest.raises(CheckpointError, match=name) as error:
        write_report([path], path)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 600
    assert time.monotonic() - began < 10
    assert not (path / "report.html").exists()


# --- what a page may do -------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Every element and attribute of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.texts = set(), [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]

    def handle_data(self, data):
        self.texts.append(data)


def test_hostile_text_in_every_field_is_text(tmp_path):
    Fake().write(tmp_path / "good")
    good = Page(write_report([tmp_path / "good"], tmp_path / "good").read_text())
    config = {
        "task": {"kind": EVIL, "data": [EVIL]},
        "teacher": {"model": EVIL},
        "student": {"layers": EVIL, "heads": EVIL, "hidden": EVIL, "width": EVIL, "model": None},
        "curriculum": EVIL,
        "seed": 0,
        EVIL: EVIL,
    }
    name = EVIL.replace("/", "|")
    stages = [{"name": name, "target": EVIL, "teacher": EVIL, "duration": {"share": 1.0}}]
    for folder in ("bad", "bad2"):
        run = RunFolder.create(tmp_path / folder, config, stages, name=EVIL, device=EVIL, command=EVIL)
        place = {"stage": name, "step": 5, "global_step": 5, "samples": 1, "flops": 1.0, "seconds": 1.0}
        run.log_metrics({"kind": "train", **place, "loss": 0.5, "explained_variance": -0.5})
        run.log_metrics({"kind": "eval", **place, EVIL: 0.5})
        run.finish_stage(StageRecord(name, EVIL, 1, 5, 1.0, 1.0, 1.0, explained_variance=-0.5, notes=(EVIL,)))
        numbers = {"steps": 5, "flops": 1.0, "seconds": 1.0, "bytes_kept": 1, "teacher_bytes": 1}
        run.finish(Summary(metrics={EVIL: 0.5}, **numbers, notes=(EVIL,), teacher_metrics={EVIL: 0.5}))
    edit_info(
        tmp_path / "bad",
        failure=EVIL,
        status="failed",
        started=EVIL,
        resumed=[EVIL],
        finished=EVIL,
        versions={EVIL: EVIL},
    )
    compare = {
        "metric": EVIL,
        "higher_is_better": True,
        "budget": EVIL,
        "baseline": EVIL,
        "runs": ["bad", "bad2", "none"],
    }
    (tmp_path / "compare.json").write_text(json.dumps(compare))
    html = write_report([tmp_path], tmp_path).read_text()
    page = Page(html)
    assert page.tags <= good.tags | {
        "li",
        "ul",
        "section",
        "p",
        "span",
        "figure",
        "tspan",
        "text",
        "g",
        "use",
        "path",
        "defs",
    }
    assert "script" not in page.tags
    for tag, attribute, value in page.attributes:
        assert not attribute.startswith("on"), (tag, attribute, value)
        assert attribute.replace("-", "").replace(":", "").isalnum(), (tag, attribute)
        if attribute in ("href", "src", "xlink:href", "action"):
            assert value.startswith(("#", "data:,"))
        if attribute == "style":
            assert "javascript" not in value
    assert any("alert(1)" in text for text in page.texts)
    assert any("{data:>300000000}" in text for text in page.texts)


def summary(**changes):
    numbers = {"steps": 1, "flops": 1, "seconds": 1, "bytes_kept": 1, "teacher_bytes": 1}
    return json.dumps({"metrics": {}, **numbers, **changes})


# --- what the files may hold --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 5}, "run.json: is damaged .name: 5"),
        ({"seed": "x"}, "run.json: is damaged .seed"),
        ({"seed": 10**400}, "run.json: is damaged .seed"),
        ({"status": ["x"]}, "run.json: is damaged .status"),
        ({"status": "evil"}, "run.json: is damaged .status"),
        ({"versions": "x"}, "run.json: is damaged .versions"),
        ({"resumed": 5}, "run.json: is damaged .resumed"),
        ({"started": {}}, "run.json: is damaged .started"),
        ({"command": [1]}, "run.json: is damaged .command"),
        ({"name": "x" * 10**6}, "run.json: is damaged .name"),
    ],
)
def test_wrong_values_in_run_json(run, changes, message):
    edit_info(run, **changes)
    refused(run, message)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.yaml", "task: [1]\n"),
        ("config.yaml", "task: 5\n"),
        ("config.yaml", "- 1\n"),
        ("config.yaml", "a: &a [*a]\n"),
        ("config.yaml", "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 1}]\n" for i in range(12))),  # noqa: E501
        ("config.yaml", "[" * 5_000),
        ("config.yaml", "!!python/object/apply:os.system [touch /tmp/evil]\n"),
        ("curriculum.yaml", "5\n"),
        ("curriculum.yaml", "[5]\n"),
        ("curriculum.yaml", "- {name: ../../etc, target: logits}\n"),
        ("curriculum.yaml", "- {name: a}\n"),
        ("curriculum.yaml", "- {name: a, target: 5}\n"),
        ("curriculum.yaml", "- {name: a, target: logits}\n" * 3000),
        ("summary.json", "[]"),
        ("summary.json", '{"metrics": 5}'),
        ("summary.json", summary(metrics={"a": "x"}, steps=1, flops=1)),
        ("summary.json", summary(metrics={}, steps=1, flops=1e400)),
        ("summary.json", summary(metrics={}, steps=1, flops=10**400)),
        ("summary.json", summary(metrics={}, steps=-1, flops=1)),
        ("summary.json", '{"metrics": {}, "notes": 5, "steps": 1, "flops": 1, "seconds": 1, "bytes_kept": 1, "teacher_bytes": 1}'),  # noqa: E501
        ("summary.json", '{"a":' * 100_000),
    ],
)  # fmt: skip
def test_wrong_values_in_the_small_files(run, name, text):
    edit_file(run, name, text)
    refused(run, name.replace(".", r"\."))


PLACE = {
    "kind": "train",
    "stage": "a",
    "step": 1,
    "global_step": 1,
    "samples": 1,
    "flops": 1.0,
    "seconds": 1.0,
}


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": None},
        {"stage": ["a"]},
        {"kind": 5},
        {"global_step": "x"},
        {"global_step": 10**400},
        {"flops": None},
        {"seconds": "NaN"},
        {"loss": {"a": 1}},
        {"loss": [1]},
        {"stage": "x" * 1000},
        {"x" * 1000: 1.0},
    ],
)
def test_wrong_values_in_metrics(run, changes):
    lines = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(json.dumps(PLACE | changes) + "\n" + lines)
    refused(run, "metrics.jsonl: line 1")


@pytest.mark.parametrize(
    "line", ['{"kind": NaN}', '{"kind": "train", "stage": "a", "loss": 1e400}', "[" * 10**5, "x" * 10**7]
)
def test_lines_of_metrics_that_are_no_records(run, line):
    (run / "metrics.jsonl").write_text(line + "\n" + (run / "metrics.jsonl").read_text())
    refused(run, "metrics.jsonl: line 1")


def test_wrong_values_in_stages(run):
    whole = (run / "stages.jsonl").read_text()
    first = json.loads(whole.splitlines()[0])
    for changes in (
        {"steps": "x"},
        {"steps": 10**400},
        {"name": 5},
        {"notes": 5},
        {"seconds": -1},
        {"evil": 1},
    ):
        (run / "stages.jsonl").write_text(json.dumps(sealed(first | changes)) + "\n" + whole)
        refused(run, "stages.jsonl")


@pytest.mark.parametrize("name", ["run.json", "metrics.jsonl", "stages.jsonl"])
def test_files_that_are_none(run, name):
    (run / name).unlink()
    os.mkfifo(run / name)
    refused(run, f"{name}: is no regular file")


@pytest.mark.parametrize("unit", ["a", "a-", "-", "a.", "{a_", "http://a", "' ", "--a "])
def test_long_texts_take_no_longer_than_their_length(run, unit):
    edit_info(run, command=unit * (90_000 // len(unit)))
    began = time.monotonic()
    read_experiment([run])
    assert time.monotonic() - began < 10


def test_files_that_are_too_large(run, monkeypatch):
    for name in ("run.json", "metrics.jsonl"):
        with (run / name).open("r+b") as file:
            file.truncate(10**10)  # a hole: takes no room
    refused(run, "run.json: has 10,000,000,000 bytes")
    (run / "run.json").write_bytes(b"\xff" * 100)
    refused(run, "run.json: is damaged")


def test_a_long_run_is_shown_thinned(run):
    records = [PLACE | {"global_step": i, "loss": 0.5} for i in range(30_000)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    shown = read_experiment([run]).runs[0].metrics
    assert len(shown) <= MOST_RECORDS
    assert [shown[0], shown[-1]] == [records[0], records[-1]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": ["../../etc"]}, "compare.json: is damaged .runs.0"),
        ({"runs": ["/etc"]}, "compare.json: is damaged .runs.0"),
        ({"runs": [".."]}, r"compare.json: runs: '\.\.'"),
        ({"runs": 5}, "compare.json: is damaged .runs"),
        ({"runs": [5]}, "compare.json: is damaged .runs.0"),
        ({"metric": "x" * 1000}, "compare.json: is damaged .metric"),
        ({"higher_is_better": "x"}, "compare.json: is damaged .higher_is_better"),
    ],
)
def test_wrong_values_in_compare_json(tmp_path, changes, message):
    refused(write_compare(tmp_path / "all", names=("one-shot",), seeds=1, **changes), message)
