"""What folders of sentence-transformers say of their embeddings: read, noted or refused, never ignored."""

import json

import pytest

from vigreux.errors import CheckpointError
from vigreux.models.sentence_folder import read_sentence_folder, transformer_folder

LIBRARY = "sentence_transformers.models"


def folder(path, *modules, pooling=None, **files):
    """A folder as the library writes it; `modules` by their types, the first one at the root."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text("{}")
    listed = []
    for i, kind in enumerate(modules):
        listed.append(
            {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"{LIBRARY}.{kind}"}
        )
        (path / f"{i}_{kind}").mkdir(exist_ok=True)
    (path / "modules.json").write_text(json.dumps(listed))
    if pooling is not None:
        (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    for name, plain in files.items():
        (path / f"{name}.json").write_text(json.dumps(plain))
    return str(path)


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_lasttoken": True, "include_prompt": True}, "last"),
        ({"pooling_mode": "lasttoken"}, "last"),
    ],
)
def test_poolings(tmp_path, config, pooling):
    read = read_sentence_folder(folder(tmp_path, "Transformer", "Pooling", pooling=config))
    assert read is not None
    assert read.pooling_or_refuse() == pooling
    assert read.notes(pooling) == []


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"pooling_mode_max_tokens": True}, "max_tokens"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "cls_token and mean_tokens"),
        ({}, "none"),
    ],
)
def test_poolings_that_are_not_here(tmp_path, config, names):
    read = read_sentence_folder(folder(tmp_path, "Transformer", "Pooling", pooling=config))
    with pytest.raises(
        CheckpointError, match=f"its pooling is {names}; accepted: cls, mean, lasttoken, or an explicit"
    ):
        read.pooling_or_refuse()
    assert read.notes("mean") == [f"{tmp_path}: the folder's pooling is {names}, and mean is used, as asked"]


def test_modules_behind_the_pooling(tmp_path):
    mean = {"pooling_mode_mean_tokens": True}
    read = read_sentence_folder(
        folder(tmp_path / "a", "Transformer", "Pooling", "Dense", "Normalize", pooling=mean)
    )
    with pytest.raises(
        CheckpointError, match=r"Dense follows the pooling and is not read; accepted: .* task.pooling"
    ):
        read.pooling_or_refuse()
    assert "Dense behind the pooling is left out: task.pooling is given" in read.notes("mean")[0]
    read = read_sentence_folder(folder(tmp_path / "b", "Transformer", "Pooling", "Normalize", pooling=mean))
    assert read.pooling_or_refuse() == "mean"
    assert "length 1, the student's do not" in read.notes("mean")[0]


def test_what_stands_before(tmp_path):
    more = {"prompts": {"query": "query: ", "passage": ""}, "default_prompt_name": "query"}
    settings = {"max_seq_length": 12, "do_lower_case": True}
    source = folder(
        tmp_path,
        "Transformer",
        "Pooling",
        pooling={"pooling_mode_cls_token": True},
        config_sentence_transformers=more,
        sentence_bert_config=settings,
    )
    read = read_sentence_folder(source)
    assert read.max_length == 12
    notes = read.notes("cls")
    assert (
        "no prompt is put before the texts (the folder has query 'query: ', of which 'query' is its default)"
        in notes[0]
    )
    assert "not put into lower case" in notes[1]


def test_the_older_layout(tmp_path):
    folder(tmp_path / "old" / "0_Transformer", "Transformer")
    (tmp_path / "old" / "0_Transformer" / "modules.json").unlink()
    (tmp_path / "old" / "0_Transformer" / "sentence_bert_config.json").write_text('{"max_seq_length": 9}')
    assert transformer_folder(tmp_path / "old") == tmp_path / "old" / "0_Transformer"
    modules = [
        {"path": "0_Transformer", "type": f"{LIBRARY}.Transformer"},
        {"path": "1_Pooling", "type": f"{LIBRARY}.Pooling"},
    ]
    (tmp_path / "old" / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "old" / "1_Pooling").mkdir()
    (tmp_path / "old" / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    read = read_sentence_folder(str(tmp_path / "old"))
    assert (read.pooling_or_refuse(), read.max_length) == ("cls", 9)


def test_a_plain_folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert read_sentence_folder(str(tmp_path)) is None
    assert transformer_folder(tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "is damaged"),
        ("{}", "is damaged; accepted: a list of modules"),
        ("[5]", "is damaged; accepted: a list of modules"),
        (
            '[{"type": "x.Transformer", "path": "../../etc"}, {"type": "x.Pooling", "path": "/etc"}]',
            "a folder inside",
        ),
        (
            '[{"type": "x.Transformer"}, {"type": "x.Pooling", "path": 5}]',
            "accepted: a folder inside the model's",
        ),
        ('[{"type": "sentence_transformers.models.StaticEmbedding"}]', "its first module is StaticEmbedding"),
        (
            '[{"type": "x.Transformer"}, {"type": "x.Pooling", "path": "1_Pooling"}]',
            "1_Pooling/config.json: is missing",
        ),
        (" " * 2_000_000, "accepted: at most 1,000,000"),
    ],
)
def test_damaged_folders(tmp_path, text, message):
    (tmp_path / "modules.json").write_text(text)
    with pytest.raises(CheckpointError, match=message) as error:
        read_sentence_folder(str(tmp_path))
    assert str(error.value).isprintable()
