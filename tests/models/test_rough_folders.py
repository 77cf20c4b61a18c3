"""Model folders from elsewhere: whatever they hold is one line in bounded time, or the model that
was saved.
"""

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from vigreux.errors import CheckpointError
from vigreux.models.load import load_config, load_model, load_tokenizer
from vigreux.models.model_folder import check_directory, check_sizes
from vigreux.tasks.tokenizers import train_tokenizer

CAUSAL = "AutoModelForCausalLM"


@pytest.fixture
def folder(tmp_path) -> Path:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=300, num_key_value_heads=2, bos_token_id=0, eos_token_id=0, **sizes)
    )
    model.save_pretrained(tmp_path / "teacher")
    train_tokenizer(["a b c d"] * 20, 300, "bpe").save_pretrained(tmp_path / "teacher")
    return tmp_path / "teacher"


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(folder: Path, match: str, **options) -> None:
    with pytest.raises(CheckpointError, match=match) as error:
        load_model(folder, CAUSAL, **options)
    message = str(error.value)
    assert message.startswith(str(folder))
    assert message.isprintable()


# --- config.json --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_attention_heads", 3, "not a multiple of the number of attention heads"),
        ("num_attention_heads", 0, "ZeroDivisionError"),
        ("vocab_size", "x", "expected int, got str"),
        ("vocab_size", 0, "Padding_idx|vocab_size|weights"),
        ("vocab_size", 10**9, r"a model of 64,\d+,\d+,\d+ parameters, and the weights hold"),
        ("dtype", "evil", "has no attribute 'evil'"),
        ("id2label", 5, "id2label is int; accepted: a JSON object"),
        ("label2id", [1], "label2id is list"),
        ("num_hidden_layers", 200_000, "num_hidden_layers is 200,000; accepted: .* to 20,000"),
        ("num_hidden_layers", 5_000, "num_hidden_layers is 5,000; the weights hold 2 blocks"),
        ("num_hidden_layers", 3, "the weights lack model.layers.2"),
        ("num_hidden_layers", 1, "model.layers.1.* a block beyond those that config.json names"),
        ("hidden_size", -1, "not a multiple"),
        ("hidden_size", 10**15, "parameters, and the weights hold|cannot be loaded"),
        ("intermediate_size", 10**12, "parameters, and the weights hold"),
        ("intermediate_size", 64, "in the weights, .* by the config"),
        ("num_labels", 10**10, "num_labels is"),
        ("rms_norm_eps", float("nan"), "rms_norm_eps is nan"),
        ("rms_norm_eps", float("inf"), "rms_norm_eps is inf; accepted: 0 to 1"),
        ("rope_parameters", {"rope_type": "default", "rope_theta": 0}, "rope_theta is 0"),
        ("attention_dropout", 5, "attention_dropout is 5; accepted: 0 to 1"),
        ("hidden_act", "evil", "KeyError: 'evil'"),
        ("model_type", "evil", "model type `evil`"),
        ("model_type", None, "model type `None`"),
        ("layer_types", ["full_attention"], "layer_types|cannot be loaded"),
        ("quantization_config", 5, "cannot be loaded"),
        ("quantization_config", {"quant_method": "evil"}, "quantization_config: method 'evil'"),
        ("pad_token_id", 10**9, "Padding_idx|pad_token_id"),
    ],
)
def test_bad_values_of_a_config(folder, name, value, message):
    edit(folder / "config.json", **{name: value})
    refused(folder, message)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dtype", "float64"),
        ("architectures", None),
        ("attention_dropout", 0.1),
        ("max_position_embeddings", 10**7),
        ("chunk_size_feed_forward", 0),
        ("quantization_config", None),
        ("anything", {"deep": [[[]]], "large": 10**30}),
    ],
)
def test_values_nearby_are_accepted(folder, name, value):
    edit(folder / "config.json", **{name: value})
    assert load_model(folder, CAUSAL).config.num_hidden_layers == 2


@pytest.mark.parametrize("text", ["", "5", "[]", '{"a":' * 100_000, '{"a": ' + "9" * 6000 + "}", "{", "\0"])
def test_a_config_that_is_no_object(folder, text):
    (folder / "config.json").write_text(text)
    refused(folder, r"config.json: (is damaged|found \w+; accepted: a JSON object)")


def test_how_a_model_answers_is_not_the_configs_to_say(folder):
    edit(folder / "config.json", return_dict=False, output_hidden_states=True, output_attentions=True)
    model = load_model(folder, CAUSAL)
    answer = model(input_ids=torch.tensor([[1, 2]]))
    assert answer.logits.shape == (1, 2, 300)
    assert answer.hidden_states is None
    assert load_config(folder).return_dict is True


# --- weights ------------------------------------------------------------------------------------------------


def change_weights(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors), folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite(folder, value):
    def spoil(tensors):
        tensors["model.norm.weight"][3] = value
        return tensors

    change_weights(folder, spoil)
    refused(folder, "model.norm.weight holds weights that are not finite")


def test_integers_for_weights(folder):
    change_weights(folder, lambda tensors: {name: tensor.to(torch.int32) for name, tensor in tensors.items()})
    refused(folder, "is stored as I32; accepted: floating-point weights")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_nearby(folder, dtype):
    change_weights(folder, lambda tensors: {name: tensor.to(dtype) for name, tensor in tensors.items()})
    assert load_model(folder, CAUSAL).dtype == torch.float32


def test_headers_that_claim_too_much(folder):
    for header in (struct.pack("<Q", 2**31) + b"{}", struct.pack("<Q", 2**63) + b"{}", b"\1", b""):
        (folder / "model.safetensors").write_bytes(header)
        refused(folder, "model.safetensors: truncated or corrupted")
    empty = b"{}"
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(empty)) + empty)
    refused(folder, "the weights hold 0|the weights lack")


@pytest.mark.parametrize("shard", ["../other/model.safetensors", "/etc/passwd", 5])
def test_an_index_that_points_elsewhere(folder, shard):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    refused(folder, "accepted: files beside it|not an index of safetensors shards")


# --- files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "generation_config.json", "a.gguf"]
)
def test_pipes_are_never_opened(folder, name):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    refused(folder, f"{name}: is a pipe, a socket or a device")
    with pytest.raises(CheckpointError, match="is a pipe"):
        load_tokenizer(folder)


def test_links_inside_a_folder_are_followed(folder):
    (folder / "model.safetensors").rename(folder.parent / "blob")
    (folder / "model.safetensors").symlink_to("../blob")
    assert load_model(folder, CAUSAL).config.hidden_size == 32


def test_a_json_file_without_end(folder, monkeypatch):
    monkeypatch.setattr("vigreux.models.model_folder.LARGEST_JSON", 2000)
    (folder / "tokenizer.json").write_text(" " * 5000)
    with pytest.raises(CheckpointError, match=r"tokenizer.json: has 5,000 bytes; accepted: at most 2,000"):
        load_tokenizer(folder)


@pytest.mark.parametrize("source", ["x" * 300, "/" + "x" * 5000, "a\0b/c/d", "text/"])
def test_names_that_are_no_folder(source):
    with pytest.raises(CheckpointError) as error:
        load_config(source)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("text", ["", "{}", "5", "[" * 100_000, '{"model": {"type": "Evil"}}'])
def test_damaged_tokenizers(folder, text):
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(CheckpointError, match="cannot be loaded: ") as error:
        load_tokenizer(folder)
    assert str(error.value).isprintable()


def test_a_tokenizer_that_fails_on_its_first_text(folder):
    edit(folder / "tokenizer_config.json", model_max_length="x", truncation_side="evil")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_tokenizer(folder)


def test_sizes_of_a_head_that_is_missing(folder):
    """A small head beside the body that is there is no reason to refuse."""
    assert check_directory(folder, False, None) is None
    config = load_config(folder)
    config.num_labels = 7
    check_sizes(folder, "AutoModelForSequenceClassification", config)
