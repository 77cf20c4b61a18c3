import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.report.fake import Fake, write_compare
from vigreux.errors import CheckpointError
from vigreux.report.page import write_report
from vigreux.run.folder import RunFolder, StageRecord, Summary

VOID = {"meta", "link", "input"}


class Checker(HTMLParser):
    """Collects ids, attributes and visible text; fails on tags that do not close in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.labelled = 0
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [value for key, value in attrs if key in ("src", "href", "xlink:href", "action")]
        self.labelled += tag == "svg" and bool(given.get("aria-label"))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if self.open[-1:] != ["style"] else ""


def report(paths: list[Path], folder: Path) -> tuple[str, Checker]:
    html = write_report(paths, folder / "report.html").read_text(encoding="utf-8")
    return html, Checker(html)


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> tuple[str, Checker]:
    folder = tmp_path_factory.mktemp("compare")
    return report([write_compare(folder, ("one-shot", "extraction"), seeds=2)], folder)


def test_every_run_and_number_of_a_comparison_is_there(compared):
    html, page = compared
    for group in ("one-shot", "extraction"):
        for seed in (0, 1):
            assert f"{group}, seed {seed}" in page.text
    assert "Comparison of one-shot and extraction" in page.text
    assert "600 steps" in page.text
    assert re.search(
        r'class=best><th scope="row">extraction</th><td>2</td><td>90\.\d % ± \d+\.\d</td><td>\+\d\.\d ± ',
        html,
    )
    assert "<td>3.22 TFLOP</td><td>1 min 19 s</td><td>600</td><td>91 MB</td>" in html
    assert page.labelled == 2 + 1 + 4 * 3  # two comparisons, the hidden stages, three axes a run


def test_the_page_is_one_file_for_desktop_and_phone(compared):
    html, page = compared
    assert [link for link in page.links if not link.startswith(("#", "data:,"))] == []
    assert "http" not in html
    assert "@import" not in html
    assert "<script" not in html
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    assert "prefers-color-scheme: dark" in html
    assert len(page.ids) == len(set(page.ids))
    assert set(re.findall(r'(?:href="#|url\(#|for=")([^")]+)', html)) <= set(page.ids)


def test_a_single_run_shows_its_stages_config_and_environment(tmp_path):
    Fake().write(tmp_path / "run")
    html, page = report([tmp_path / "run"], tmp_path)
    assert "Distillation by extraction" in page.text
    assert "During training" not in page.text
    assert '<details class="run" open>' in html
    assert (
        '<th scope="row">1. hidden-2-to-1</th><td class="text">hidden 2 (gaussian/0)</td><td>1 block</td><td>120</td>'  # noqa: E501
        in html
    )
    assert "targets scaled by 0.41" in page.text
    assert "learning_rate: 0.0005" in page.text
    assert "vigreux distill a.yaml" in page.text
    assert "the student's vocabulary is padded" in page.text
    assert "Warnings" not in page.text
    assert "learned nothing" not in page.text


def test_a_stage_that_learned_nothing_is_said_loudly(tmp_path):
    Fake(collapse=True).write(tmp_path / "run")
    html, page = report([tmp_path / "run"], tmp_path)
    assert "Warnings" in page.text
    assert "<td class=bad>−0.12 ⚠ learned nothing</td>" in html


def test_partial_runs_are_shown_as_such(tmp_path):
    Fake(seed=1, stop=1).write(tmp_path / "failed").fail("loss is not finite at step 37")
    with Fake("one-shot", stop=0).write(tmp_path / "empty"):  # its lock says that it runs
        html, page = report([tmp_path / "failed", tmp_path / "empty"], tmp_path)
    assert '<span class="status failed">failed</span>' in html
    assert '<span class="status running">running</span>' in html
    assert "Failed: loss is not finite at step 37" in page.text
    assert (
        '<tr class="pending"><th scope="row">2. hidden-4-to-2</th><td class="text" colspan="8">not finished</td></tr>'  # noqa: E501
        in html
    )
    assert "0 of 1 finished" in page.text


def test_text_from_run_folders_is_escaped(tmp_path):
    bad = '<img src=x onerror=alert(1)> $\\frac$ & "quoted"'
    stages = [{"name": bad, "target": "logits", "duration": {"steps": 10}}]
    with RunFolder.create(
        tmp_path / "run", {"seed": 0, bad: bad}, stages, name=bad, device=bad, command=bad
    ) as run:
        for step in (5, 10):
            base = {
                "stage": bad,
                "step": step,
                "global_step": step,
                "flops": 1e9 * step,
                "seconds": 1.0 * step,
            }
            run.log_metrics({"kind": "train", **base, "loss": 1 / step, "explained_variance": -0.5})
            run.log_metrics({"kind": "eval", **base, bad: 0.5})
        run.finish_stage(
            StageRecord(bad, bad, None, 10, 1.0, 1.0, 1.0, explained_variance=-0.5, notes=(bad,))
        )
        run.finish(Summary({bad: 0.5}, 10, 1.0, 1.0, 1, 1, notes=(bad,)))
    html, page = report([tmp_path / "run"], tmp_path)
    assert "<img" not in html
    assert page.text.count("<img src=x onerror=alert(1)> $\\frac$ &") > 8


def test_output_may_be_a_folder_and_bad_input_writes_nothing(tmp_path):
    Fake("one-shot", steps=50).write(tmp_path / "run")
    assert (
        write_report([tmp_path / "run"], tmp_path / "new" / "folder")
        == tmp_path / "new" / "folder" / "report.html"
    )
    with pytest.raises(CheckpointError, match="nowhere: not a run folder"):
        write_report([tmp_path / "run", tmp_path / "nowhere"], tmp_path / "out.html")
    (tmp_path / "run" / "metrics.jsonl").write_text('{"a": \n{"kind": "train"}\n')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: line 1 is damaged"):
        write_report([tmp_path / "run"], tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()
    (tmp_path / "file").write_text("x")
    Fake("one-shot", steps=50).write(tmp_path / "whole")
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_report([tmp_path / "whole"], tmp_path / "file" / "out.html")
