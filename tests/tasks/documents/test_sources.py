"""Every form of document, and every fault with its file and line."""

import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vigreux.downloads import assets
from vigreux.errors import DataError
from vigreux.tasks.documents.sources import read_records


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def one_line(source: str, match: str, **fields) -> None:
    with pytest.raises(DataError, match=match) as error:
        read_records(source, **fields)
    assert "\n" not in str(error.value)


# --- .txt ---------------------------------------------------------------------------------------------------


def test_paragraphs_are_documents(tmp_path):
    path = write(tmp_path / "a.txt", "\ufeff\n\nfirst\nline two\r\n\r\n   \n\nsecond\n\n\t\nthird ")
    assert [(r.text, r.where) for r in read_records(path)] == [
        ("first\nline two", f"{path}:3"),
        ("second", f"{path}:8"),
        ("third", f"{path}:11"),
    ]


@pytest.mark.parametrize("content", ["", "\n \n\t\n"])
def test_empty(tmp_path, content):
    one_line(write(tmp_path / "a.txt", content), r"a\.txt: no documents")


def test_not_utf8_names_the_byte_in_the_whole_file(tmp_path):
    start = "é" * 50_000  # past the first chunk of any decoder
    one_line(
        write(tmp_path / "a.txt", start.encode() + b"\xe9 latin"), r"byte 0xe9 at offset 100000 is not UTF-8"
    )
    assert read_records(write(tmp_path / "b.txt", start + "é"))[0].text == start + "é"


def test_binary_names_the_byte(tmp_path):
    one_line(write(tmp_path / "a.txt", b"abc\0def"), "a zero byte at offset 3")


def test_text_has_no_labels(tmp_path):
    one_line(
        write(tmp_path / "a.txt", "x"), r"a .txt file has no labels; accepted .* \.jsonl", label_field="label"
    )


# --- files and directories ----------------------------------------------------------------------------------


def test_missing_file_names_the_nearest(tmp_path):
    write(tmp_path / "reviews.jsonl", "{}")
    one_line(str(tmp_path / "review.jsonl"), r"review.jsonl: no such file; did you mean 'reviews.jsonl'\?")
    one_line(str(tmp_path / "else.txt"), "else.txt: no such file$")


def test_unknown_suffix(tmp_path):
    one_line(
        write(tmp_path / "a.jsonn", "{}"), r"a.jsonn: suffix: unknown value '.jsonn'; did you mean '.json'\?"
    )
    one_line(
        write(tmp_path / "texts", "a"),
        "texts: its name has no suffix, and the suffix says how to read it; accepted: .txt",
    )


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a.jsonl.gz", "unpack it"),
        ("a.MD", "save it as .txt"),
        ("a.xlsx", "as .csv"),
        ("a.arrow", "save_to_disk"),
    ],
)
def test_files_of_other_kinds(tmp_path, name, advice):
    one_line(write(tmp_path / name, "x"), rf"{name}: .* files are not read; .*{advice}.*; accepted: .txt")


def test_suffixes_in_capitals(tmp_path):
    assert read_records(write(tmp_path / "A.TXT", "x"))[0].text == "x"


def test_directory_is_read_in_order_of_paths(tmp_path):
    (tmp_path / "sub").mkdir()
    files = {
        "b.txt": "two",
        "a.txt": "one",
        "sub/c.jsonl": '{"text": "three"}',
        "notes.md": "no",
        ".d.txt": "no",
    }
    for name, text in files.items():
        write(tmp_path / name, text)
    assert [r.text for r in read_records(str(tmp_path))] == ["one", "two", "three"]


def test_directory_without_data(tmp_path):
    write(tmp_path / "notes.md", "x")
    one_line(str(tmp_path), r"holds no file that can be read; accepted: .txt, .jsonl, .csv, .parquet")


def test_nothing_given():
    one_line("", "task.data: nothing given; accepted")


# --- .jsonl -------------------------------------------------------------------------------------------------


def test_json_lines(tmp_path):
    lines = [{"text": "a\u2028b", "label": "x"}, {"text": "c", "label": 3}, {"text": "  ", "label": 1}]
    path = write(
        tmp_path / "a.jsonl", "\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n\n"
    )
    assert [(r.text, r.label, r.where[-2:]) for r in read_records(path, label_field="label")] == [
        ("a\u2028b", "x", ":1"),
        ("c", 3, ":2"),
    ]
    assert [r.label for r in read_records(path)] == [None, None]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{bad", r"a.jsonl:2: not JSON \(Expecting property name"),
        ("[1]", r"a.jsonl:2: found list; accepted: a JSON object"),
        (
            '{"txt": "b", "label": 1}',
            r"a.jsonl:2: task.text_field: unknown value 'text'; did you mean 'txt'\? accepted: txt$",
        ),
        (
            '{"text": "b", "lable": 1}',
            r"a.jsonl:2: task.label_field: unknown value 'label'; did you mean 'lable'\?",
        ),
        ('{"text": 7, "label": 1}', r"a.jsonl:2: 'text' is int; accepted: text"),
        ('{"text": "b", "label": null}', r"a.jsonl:2: the label 'label' is missing"),
        ('{"text": "b", "label": " "}', r"a.jsonl:2: the label 'label' is missing"),
        ('{"text": "b", "label": NaN}', r"a.jsonl:2: the label 'label' is missing"),
        ('{"text": "b", "label": 1.5}', r"a.jsonl:2: label 'label' is 1.5; accepted: text or a whole number"),
        (
            '{"text": "b", "label": Infinity}',
            r"a.jsonl:2: label 'label' is inf; accepted: text or a whole number",
        ),
        (
            '{"text": "b", "label": [1]}',
            r"a.jsonl:2: label 'label' is \[1\]; accepted: text or a whole number",
        ),
    ],
)
def test_bad_json_line(tmp_path, line, message):
    one_line(write(tmp_path / "a.jsonl", '{"text": "a", "label": 1}\n' + line), message, label_field="label")


@pytest.mark.parametrize(("value", "label"), [("2.0", 2), ("true", 1), ('" x "', "x"), ('"1"', "1")])
def test_labels_nearby_are_accepted(tmp_path, value, label):
    path = write(tmp_path / "a.jsonl", f'{{"text": "a", "label": {value}}}')
    found = read_records(path, label_field="label")[0].label
    assert (found, type(found)) == (label, type(label))


# --- .csv ---------------------------------------------------------------------------------------------------


def test_csv(tmp_path):
    path = write(tmp_path / "a.csv", 'id,body,kind\n1,"two\nlines, one field",7\n2,plain,-1\n3,word,good\n')
    records = read_records(path, text_field="body", label_field="kind")
    assert [(r.text, r.label) for r in records] == [
        ("two\nlines, one field", 7),
        ("plain", -1),
        ("word", "good"),
    ]
    assert records[1].where.endswith(":4")


def test_bad_csv(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\na,1\nb\n")
    one_line(path, r"a.csv:3: the label 'label' is missing", label_field="label")
    one_line(path, r"a.csv: task.text_field: unknown value 'test'; did you mean 'text'\?", text_field="test")
    one_line(write(tmp_path / "b.csv", "label,text\n1\n"), r"b.csv:2: 'text' is NoneType; accepted: text")
    one_line(
        write(tmp_path / "c.csv", 'text\na\n"never closed\nb\n'), r"c.csv:3: not CSV \(unexpected end of data"
    )
    one_line(
        write(tmp_path / "d.csv", "text,label\nthe fox, ate,1\n"), r"d.csv:2: more fields than the header's 2"
    )
    one_line(
        write(tmp_path / "e.csv", "text;label\na;1\n"),
        r"e.csv: its columns are separated by ';'; accepted: ','",
    )
    one_line(write(tmp_path / "f.csv", "text,text\na,b\n"), r"f.csv: the column 'text' occurs 2 times")


def test_csv_nearby_is_accepted(tmp_path):
    path = write(tmp_path / "a.csv", f'text,label\n"the fox, ate ""corn""",{"1" * 5000}\n{"x" * 200_000},2\n')
    records = read_records(path, label_field="label")
    assert [r.text for r in records] == ['the fox, ate "corn"', "x" * 200_000]
    assert [r.label for r in records] == ["1" * 5000, 2]  # no class number has so many digits


def test_tsv(tmp_path):
    path = write(tmp_path / "a.tsv", 'text\tlabel\nthe fox, ate\t1\n"a\tb"\tx\n')
    assert [(r.text, r.label) for r in read_records(path, label_field="label")] == [
        ("the fox, ate", 1),
        ("a\tb", "x"),
    ]


# --- .parquet -----------------------------------------------------------------------------------------------


def test_parquet(tmp_path):
    pq.write_table(
        pa.table({"text": ["a", " ", "c"], "label": [0, 1, 1], "other": [1, 2, 3]}), tmp_path / "a.parquet"
    )
    path = str(tmp_path / "a.parquet")
    found = [(r.text, r.label, r.where[-5:]) for r in read_records(path, label_field="label")]
    assert found == [("a", 0, "row 1"), ("c", 1, "row 3")]
    one_line(
        path,
        r"a.parquet: task.label_field: unknown value 'labels'; did you mean 'label'\?",
        label_field="labels",
    )


def test_damaged_parquet(tmp_path):
    one_line(write(tmp_path / "a.parquet", "PAR1 not really"), r"a.parquet: cannot be read as parquet")
    one_line(write(tmp_path / "b.parquet", ""), r"b.parquet: cannot be read as parquet")
    pq.write_table(pa.table({"text": ["a word", "b"] * 500}), tmp_path / "c.parquet")
    whole = (tmp_path / "c.parquet").read_bytes()
    one_line(
        write(tmp_path / "c.parquet", whole[:8] + b"\xff" * 20 + whole[28:]),
        "c.parquet: cannot be read as parquet",
    )


def test_odd_columns_of_parquet(tmp_path):
    texts = pa.array(["a", "b", "a"]).dictionary_encode()
    pq.write_table(
        pa.table({"text": texts, "bytes": [b"a", b"b", b"c"], "list": [["a"], [], []]}),
        tmp_path / "a.parquet",
    )
    path = str(tmp_path / "a.parquet")
    assert [r.text for r in read_records(path)] == ["a", "b", "a"]
    one_line(path, "a.parquet row 1: 'bytes' is bytes; accepted: text", text_field="bytes")
    one_line(path, "a.parquet row 1: 'list' is list; accepted: text", text_field="list")


# --- `datasets` ---------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch):
    """`datasets.load_dataset` of a data set with named classes; the list gets the arguments."""
    asked = []
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    data = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=features)

    def load_dataset(name, config, split):
        asked.append((name, config, split))
        if name == "nobody/nothing":
            raise datasets.exceptions.DatasetNotFoundError(
                "Dataset 'nobody/nothing' doesn't exist on the Hub\nreally"
            )
        return data.select(range(3 if split == "test" else 2))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_dataset_name(hub):
    assert [(r.text, r.label) for r in read_records("glue:sst2", label_field="label")] == [
        ("a", "yes"),
        ("b", "no"),
    ]
    assert [r.text for r in read_records("org/name::test")] == ["a", "b", "c"]
    assert hub == [("glue", "sst2", "train"), ("org/name", None, "test")]


def test_bad_dataset(hub):
    one_line(
        "nobody/nothing",
        r"cannot load 'nobody/nothing' \(Dataset 'nobody/nothing' doesn't exist on the Hub\); accepted: ",
    )
    one_line("glue::test", r"glue::test row 3: label -1; accepted: 0 to 1", label_field="label")
    one_line(
        "glue",
        r"glue: task.text_field: unknown value 'sentence'; .*accepted: text, label",
        text_field="sentence",
    )


# --- assets -------------------------------------------------------------------------------------------------


@pytest.fixture
def wikipedia(tmp_path, monkeypatch):
    articles = {
        "Cat": {"extract": "A cat.", "topic": "Life"},
        "X": {"extract": "Y.", "topic": "Uncategorized"},
    }
    path = Path(write(tmp_path / "summaries.json", json.dumps(articles)))
    monkeypatch.setattr("vigreux.tasks.documents.sources.asset_path", lambda source: path)


def test_wikipedia(wikipedia):
    assert [(r.text, r.label) for r in read_records("asset:wikipedia")] == [("A cat.", None), ("Y.", None)]
    topics = read_records("asset:wikipedia-topics", label_field="label")
    assert [(r.text, r.label, r.where) for r in topics] == [
        ("A cat.", "Life", "asset:wikipedia-topics article 'Cat'")
    ]


def test_assets_that_are_not_text(wikipedia):
    one_line(
        "asset:minilm-l6",
        "task.data: unknown value 'asset:minilm-l6'; .*accepted: asset:wikipedia, asset:wikipedia-topics",
    )
    one_line("asset:wikipedia", "has no labels; .*asset:wikipedia-topics", label_field="label")
    assert {"wikipedia", "wikipedia-topics", "state-of-the-union", "hamlet"} <= set(assets.ASSETS)


def test_texts_that_are_assets(tmp_path, monkeypatch):
    play, speeches = tmp_path / "hamlet.txt", tmp_path / "speeches"
    write(play, "Who's there?\n\nNay, answer me.\n")
    speeches.mkdir()
    write(speeches / "1791.txt", "Two.\n")
    write(speeches / "1790.txt", "One.\n")
    places = {"asset:hamlet": play, "asset:state-of-the-union": speeches}
    monkeypatch.setattr("vigreux.tasks.documents.sources.asset_path", places.__getitem__)
    assert [r.text for r in read_records("asset:hamlet")] == ["Who's there?", "Nay, answer me."]
    assert [r.text for r in read_records("asset:state-of-the-union")] == ["One.", "Two."]
    one_line("asset:hamlet", "has no labels; .*asset:wikipedia-topics", label_field="label")
