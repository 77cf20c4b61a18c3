"""Files, folders and rows that nobody should have to debug: one line that says where, in bounded time, or
used and said.
"""

import gzip
import json
import os
import socket

import datasets
import pytest

from vigreux.errors import DataError
from vigreux.tasks.documents.records import LONGEST
from vigreux.tasks.documents.sources import read_records, read_with_notes


def refused(source, match, **columns):
    with pytest.raises(DataError, match=match) as error:
        read_records(str(source), **columns)
    assert str(error.value).isprintable()


def lines(path, *rows):
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


# --- what is not a regular file -----------------------------------------------------------------------------


def test_a_pipe_is_never_opened(tmp_path):
    (tmp_path / "a.txt").write_text("a text")
    os.mkfifo(tmp_path / "b.txt")
    (tmp_path / "c.txt").symlink_to(tmp_path / "b.txt")
    refused(tmp_path, r"b\.txt: is a named pipe; accepted: a regular file")
    refused(tmp_path / "b.txt", "is a named pipe")
    refused(tmp_path / "c.txt", "is a named pipe")
    refused("/dev/zero", "is a device")
    os.mkfifo(tmp_path / "d.log")  # beside the files, and not one of those that are read
    (tmp_path / "b.txt").unlink()
    (tmp_path / "c.txt").unlink()
    assert [r.text for r in read_records(str(tmp_path))] == ["a text"]


def test_a_socket(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the address of a socket is short
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("a.txt")
        refused(tmp_path, "a.txt: is a socket")


def test_names(tmp_path):
    refused(tmp_path / ("x" * 300 + ".txt"), "cannot be read .File name too long")
    refused("zero\0.txt", r"zero\\x00.txt: no such file")
    refused(tmp_path / "two\nlines.txt", r"two\\nlines.txt: no such file")
    lines(tmp_path / "two\nlines.jsonl", "{bad")
    refused(tmp_path / "two\nlines.jsonl", r"two\\nlines.jsonl:1: not JSON")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("x")
    (tmp_path / "in").chmod(0)
    refused(tmp_path / "in" / "a.txt", "cannot be read .Permission denied")
    refused(tmp_path, "in: cannot be read .Permission denied")
    (tmp_path / "in").chmod(0o700)


def test_permission_errors_are_one_line(tmp_path, monkeypatch):
    def denied(*_, onerror=None, **__):
        onerror(PermissionError(13, "Permission denied", str(tmp_path / "in")))

    monkeypatch.setattr("os.walk", denied)
    refused(tmp_path, "in: cannot be read .Permission denied")


def test_a_folder_by_a_mistyped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused("txt/", "txt: no such file")
    refused("one/two/three", "one/two/three: no such file")


# --- what a line may hold -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "the fox \\ud83d", "label": 1}', r"U\+D83D at character 8 is half of a surrogate pair"),
        ('{"text": "a", "label": "\\udc00"}', r"U\+DC00 at character 0 is half of a surrogate pair"),
        ('{"text": ' + "[" * 100_000, "its brackets are nested too deeply"),
        ('{"text": "a", "label": ' + "7" * 5000 + "}", "a number of more than 4,300 digits"),
        ('{"text": "a", "text": "b", "label": 1}', "the column 'text' occurs 2 times"),
        (
            '{"text": [{"role": "user", "content": "a"}], "label": 1}',
            "'text' holds conversations, which are not read",
        ),
    ],
)
def test_bad_lines(tmp_path, line, message):
    refused(
        lines(tmp_path / "a.jsonl", {"text": "a", "label": 1}, line),
        rf"a.jsonl:2: .*{message}",
        label_field="label",
    )


@pytest.mark.parametrize("text", ["the fox 😀", "a\0b", "x" * 1_000_000])
def test_lines_nearby_are_accepted(tmp_path, text):
    path = lines(tmp_path / "a.jsonl", {"text": text, "id": {"deep": [[[[]]]]}, "twice": 1})
    assert read_records(str(path))[0].text == text


def test_a_document_that_is_too_long(tmp_path):
    (tmp_path / "a.txt").write_text("short\n\n" + "a " * (LONGEST // 2 + 1))
    refused(tmp_path / "a.txt", r"a.txt:3: a document of 10,000,001 characters; accepted: at most 10,000,000")
    (tmp_path / "b.txt").write_text("a " * (LONGEST // 2))
    assert len(read_records(str(tmp_path / "b.txt"))) == 1


def test_utf16(tmp_path):
    (tmp_path / "a.txt").write_bytes("text".encode("utf-16"))
    refused(tmp_path / "a.txt", "is UTF-16; accepted: UTF-8")


# --- which columns ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "columns", "message"),
    [
        ({"messages": [{"role": "user", "content": "a"}]}, {}, "'messages' holds conversations"),
        (
            {"messages": [{"role": "user", "content": "a"}]},
            {"text_field": "messages"},
            "'messages' holds conversations",
        ),
        (
            {"prompt": "a", "completion": "b"},
            {},
            "pairs of texts such as 'prompt' and 'completion' are not read",
        ),
        (
            {"premise": "a", "hypothesis": "b", "label": 1},
            {"label_field": "label"},
            "'premise' and 'hypothesis' are not",
        ),
        ({"premise": "a", "hypothesis": "b"}, {"text_field": "premise,hypothesis"}, "accepted: one column"),
        (
            {"a": "x", "b": 1},
            {"label_field": "label"},
            "no column 'text'; .*no column 'label'; columns: a, b",
        ),
        (
            {"text": "x"},
            {"label_field": "label"},
            "no column 'label'; this kind of task needs labels",
        ),
        ({"label": 1}, {"label_field": "label"}, "task.text_field: unknown value 'text'; accepted: $"),
    ],
)
def test_columns_that_are_not_there(tmp_path, row, columns, message):
    refused(lines(tmp_path / "a.jsonl", row), rf"a.jsonl:1: .*{message}", **columns)


def test_columns_that_are_not_used_are_named_once(tmp_path):
    path = lines(tmp_path / "a.jsonl", {"text": "a", "id": 1}, {"text": "b", "id": 2, "label": 1})
    assert read_with_notes(str(path))[1] == [f"{path}: the columns 'id', 'label' are not used"]
    assert read_with_notes(str(lines(tmp_path / "b.jsonl", {"text": "a"})))[1] == []
    wide = lines(tmp_path / "c.jsonl", *({"text": "a", f"k{i}": 1} for i in range(3000)))
    assert len(read_with_notes(str(wide))[1][0]) < 300


def test_one_text_of_a_pair(tmp_path):
    path = lines(tmp_path / "a.jsonl", {"premise": "a", "hypothesis": "b", "label": 0})
    records, notes = read_with_notes(str(path), text_field="premise", label_field="label")
    assert [r.text for r in records] == ["a"]
    assert (
        "'hypothesis' is not used: pairs of texts are not read, and the models see 'premise' alone"
        in notes[0]
    )


# --- folders and formats ------------------------------------------------------------------------------------


def test_files_that_are_not_read_are_counted_and_named(tmp_path):
    for name in ("a.txt", "b.md", "c.md", "d.json", "e.tsv", ".hidden"):
        (tmp_path / name).write_text("x")
    notes = read_with_notes(str(tmp_path))[1]
    assert notes == [f"{tmp_path}: 4 other files are not read (2 .md, 1 .json, 1 .tsv; such as 'b.md')"]
    (tmp_path / "a.txt").unlink()
    refused(tmp_path, r"holds no file that can be read; .*; name .json files one by one")


def test_json(tmp_path):
    rows = [{"text": "a"}, {"text": "b"}]
    (tmp_path / "list.json").write_text(json.dumps(rows, indent=1))
    lines(tmp_path / "lines.json", *rows)
    for name in ("list", "lines"):
        assert [r.text for r in read_records(str(tmp_path / f"{name}.json"))] == ["a", "b"]
    (tmp_path / "bad.json").write_text('[{"text": "a"}, 5]')
    refused(tmp_path / "bad.json", "bad.json row 2: found int")


def test_data_sets_on_disk(tmp_path):
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    split = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    datasets.DatasetDict(train=split, test=split).save_to_disk(tmp_path / "saved")
    records, notes = read_with_notes(str(tmp_path / "saved"), label_field="label")
    assert [(r.text, r.label) for r in records] == [("a", "yes"), ("b", "no")]
    assert notes == [f"{tmp_path / 'saved'}: the split 'train' is read, of train, test"]
    assert read_with_notes(str(tmp_path / "saved" / "test"), label_field="label")[1] == []
    datasets.DatasetDict(test=split).save_to_disk(tmp_path / "other")
    refused(tmp_path / "other", "no split 'train'; accepted: the folder of a split: test")
    (tmp_path / "saved" / "dataset_dict.json").write_text("[")
    refused(tmp_path / "saved", "cannot be read as a data set")


def test_compressed_files(tmp_path):
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write('{"text": "a"}\n')
    refused(tmp_path / "a.jsonl.gz", "unpack it first")


def test_a_hub_that_cannot_be_reached(tmp_path, monkeypatch):
    """The clients' own retries take half a minute."""
    import time

    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "texts").mkdir()
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    refused("text", r"`datasets` cannot load 'text' \(.*\); did you mean 'texts', here\?")
    assert time.monotonic() - began < 15
    assert constants.HF_HUB_OFFLINE is False
