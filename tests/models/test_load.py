"""Loading, and every way in which a checkpoint can be bad beside the nearest one that is good."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertTokenizerFast, PreTrainedModel

from tests.models.families import config_of, model_of
from vigreux.errors import CheckpointError, ConfigError
from vigreux.models.families import task_class
from vigreux.models.load import load_config, load_model, load_tokenizer, weights_fingerprint
from vigreux.models.student import build

CAUSAL, MASKED, CLASSES = "AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModelForSequenceClassification"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model_of("gpt2", CAUSAL).save_pretrained(tmp_path / "gpt2")
    return tmp_path / "gpt2"


def same_weights(one: PreTrainedModel, other: PreTrainedModel) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_saved_model_loads(saved: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = load_model(saved, CAUSAL)
    assert same_weights(model, model_of("gpt2", CAUSAL))
    assert not model.training
    assert load_model(str(saved), CAUSAL, dtype="bfloat16").dtype == torch.bfloat16
    assert capfd.readouterr().err == ""


def test_a_sharded_model_loads_and_a_missing_shard_is_named(saved: Path, tmp_path: Path) -> None:
    model_of("gpt2", CAUSAL).save_pretrained(tmp_path / "sharded", max_shard_size="50KB")
    shards = sorted((tmp_path / "sharded").glob("model-*.safetensors"))
    assert len(shards) > 1
    assert same_weights(load_model(tmp_path / "sharded", CAUSAL), model_of("gpt2", CAUSAL))
    assert weights_fingerprint(tmp_path / "sharded") == weights_fingerprint(saved)
    shards[1].unlink()
    with pytest.raises(CheckpointError, match=rf"{shards[1].name}: this shard of the weights is missing"):
        load_model(tmp_path / "sharded", CAUSAL)
    (tmp_path / "sharded" / "model.safetensors.index.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"index\.json: not an index of safetensors shards"):
        load_model(tmp_path / "sharded", CAUSAL)


def test_a_directory_without_weights(saved: Path, tmp_path: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"gpt2: no weights; accepted: model\.safetensors, .*one \.gguf file"
    ):
        load_model(saved, CAUSAL)
    with pytest.raises(CheckpointError, match="no weights"):
        weights_fingerprint(saved)
    with pytest.raises(CheckpointError, match=r"nothing: no such directory"):
        load_model(tmp_path / "nothing", CAUSAL)


@pytest.mark.parametrize("damage", ["truncated", "corrupted", "empty"])
def test_damaged_safetensors(saved: Path, damage: str) -> None:
    file = saved / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(
        {"truncated": content[:-100], "corrupted": b"\xff" * 64 + content[64:], "empty": b""}[damage]
    )
    for read in (lambda: load_model(saved, CAUSAL), lambda: weights_fingerprint(saved)):
        with pytest.raises(
            CheckpointError, match=r"model\.safetensors: truncated or corrupted safetensors"
        ) as caught:
            read()
        assert "\n" not in str(caught.value)
    file.write_bytes(content)
    load_model(saved, CAUSAL)


def test_pickled_weights_are_refused_unless_asked_for(saved: Path) -> None:
    torch.save(load_file(saved / "model.safetensors"), saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"only pickled weights, which can run code; .*or allow_pickle: true"
    ):
        load_model(saved, CAUSAL)
    assert same_weights(load_model(saved, CAUSAL, allow_pickle=True), model_of("gpt2", CAUSAL))
    assert weights_fingerprint(saved)
    (saved / "pytorch_model.bin").write_bytes(b"not a pickle")
    with pytest.raises(CheckpointError, match=r"gpt2: cannot be loaded") as caught:
        load_model(saved, CAUSAL, allow_pickle=True)
    assert "\n" not in str(caught.value)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


def test_a_pickle_that_runs_code_does_not(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"transformer.wte.weight": Bomb()}, saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_model(saved, CAUSAL, allow_pickle=True)
    assert not (tmp_path / "exploded").exists()


CODE = """
from transformers import PreTrainedConfig, GPT2LMHeadModel, GPT2Config
open({flag!r}, "w").close()
class OwnConfig(GPT2Config):
    model_type = "own"
class OwnModel(GPT2LMHeadModel):
    config_class = OwnConfig
"""


def test_remote_code_is_refused_unless_asked_for(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = tmp_path / "ran"
    (saved / "own.py").write_text(CODE.format(flag=str(flag)))
    config = json.loads((saved / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", CAUSAL: "own.OwnModel"}}
    (saved / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    with pytest.raises(
        CheckpointError, match=r"its own Python code, which is not run unless trust_remote_code: true"
    ):
        load_model(saved, CAUSAL)
    assert not flag.exists()
    assert type(load_model(saved, CAUSAL, trust_remote_code=True)).__name__ == "OwnModel"
    assert flag.exists()


def test_missing_parameters_are_named(tmp_path: Path) -> None:
    model_of("bert").save_pretrained(tmp_path)
    with pytest.raises(
        CheckpointError,
        match=r"the weights lack classifier\.bias, classifier\.weight of BertForSequenceClassification",
    ):
        load_model(tmp_path, CLASSES)
    fitted = load_model(tmp_path, CLASSES, allow_missing=True, num_labels=5)
    assert fitted.num_labels == 5
    assert torch.equal(
        fitted.bert.embeddings.word_embeddings.weight, model_of("bert").embeddings.word_embeddings.weight
    )


def test_a_pooler_may_be_missing(tmp_path: Path) -> None:
    model_of("bert", MASKED).save_pretrained(tmp_path)
    load_model(tmp_path, "AutoModel")
    with pytest.raises(
        CheckpointError, match=r"lack bert\.pooler\.dense\.bias, bert\.pooler\.dense\.weight, cls\."
    ):
        load_model(tmp_path, "BertForNextSentencePrediction")


def test_parameters_of_another_shape_are_named(tmp_path: Path) -> None:
    model_of("bert", CLASSES).save_pretrained(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"classifier\.bias is \(3,\) in the weights, \(5,\) by the config"
    ):
        load_model(tmp_path, CLASSES, num_labels=5)
    assert load_model(tmp_path, CLASSES).num_labels == 3


def test_a_head_of_another_size_is_made_new_on_request(tmp_path: Path) -> None:
    before = model_of("bert", CLASSES)
    before.save_pretrained(tmp_path)
    fitted = load_model(tmp_path, CLASSES, num_labels=5, allow_missing=True)
    assert fitted.classifier.weight.shape[0] == 5
    assert torch.isfinite(fitted.classifier.weight).all()
    assert torch.equal(fitted.bert.pooler.dense.weight, before.bert.pooler.dense.weight)


def test_a_block_that_is_missing_is_not_made_new(tmp_path: Path) -> None:
    model = model_of("bert")
    weights = {name: w for name, w in model.state_dict().items() if ".layer.1.attention" not in name}
    model.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(CheckpointError, match=r"the weights lack bert\.encoder\.layer\.1\.attention"):
        load_model(tmp_path, CLASSES, allow_missing=True)


def test_names_that_do_not_exist(saved: Path) -> None:
    with pytest.raises(ConfigError, match=r"dtype: unknown value 'float31'; did you mean 'float32'"):
        load_model(saved, CAUSAL, dtype="float31")
    with pytest.raises(ConfigError, match=r"did you mean 'AutoModelForCausalLM'"):
        load_model(saved, "AutoModelForCausalML")
    (saved / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no config\.json beside the weights"):
        load_model(saved, CAUSAL)


def test_a_hub_model_that_cannot_be_reached() -> None:
    with pytest.raises(
        CheckpointError,
        match=r"^no/such: cannot be loaded: neither a directory nor a hub model that can be reached$",
    ):
        load_model("no/such", CAUSAL)


def test_a_fingerprint_is_of_the_weights_alone(saved: Path, tmp_path: Path) -> None:
    model_of("gpt2", CAUSAL).save_pretrained(tmp_path / "again")
    os.utime(tmp_path / "again" / "model.safetensors", (0, 0))
    assert weights_fingerprint(tmp_path / "again") == weights_fingerprint(saved)
    weights = load_file(tmp_path / "again" / "model.safetensors")
    weights["transformer.ln_f.bias"][0] += 1e-6
    save_file(weights, tmp_path / "again" / "model.safetensors", {"format": "pt"})
    assert weights_fingerprint(tmp_path / "again") != weights_fingerprint(saved)


def write_gguf(path: Path, model: PreTrainedModel) -> None:
    """A GGUF file of a tiny Llama, as converters write it (float32; query and key rows in GGML's rotary
    order).
    """
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_dimension_count(config.head_dim)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, value in model.state_dict().items():
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(
            name.split(".")[-2]
        )
        array = value.numpy()
        if heads:
            array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        target = names.get_name(name, try_suffixes=(".weight",))
        assert target is not None
        writer.add_tensor(target, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_gguf(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = build(config_of("llama"), CAUSAL, 0)
    (tmp_path / "one").mkdir()
    write_gguf(tmp_path / "one" / "tiny.gguf", model)
    capfd.readouterr()
    config = load_config(tmp_path / "one")
    assert (config.model_type, config.hidden_size, config.num_hidden_layers) == ("llama", 32, 3)
    loaded = load_model(tmp_path / "one", CAUSAL)
    assert capfd.readouterr().err == ""
    ids = torch.arange(3, 12).unsqueeze(0)
    torch.testing.assert_close(loaded(ids).logits, model.eval()(ids).logits)
    loaded.save_pretrained(tmp_path / "plain")
    assert same_weights(load_model(tmp_path / "plain", CAUSAL), loaded)
    assert weights_fingerprint(tmp_path / "one")
    write_gguf(tmp_path / "one" / "other.gguf", model)
    with pytest.raises(
        CheckpointError, match=r"several GGUF files, name one as gguf_file: other\.gguf, tiny\.gguf"
    ):
        load_model(tmp_path / "one", CAUSAL)
    with pytest.raises(CheckpointError, match=r"unknown value 'tinny\.gguf'; did you mean 'tiny\.gguf'"):
        load_model(tmp_path / "one", CAUSAL, gguf_file="tinny.gguf")
    assert same_weights(load_model(tmp_path / "one", CAUSAL, gguf_file="other.gguf"), loaded)


def test_a_config_needs_no_weights(saved: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "generation_config.json"):
        (saved / name).unlink()
    assert load_config(saved).to_dict() == load_config(str(saved)).to_dict()
    assert load_config(saved).n_embd == 32
    (saved / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"gpt2/config.json: is damaged"):
        load_config(saved)
    (saved / "config.json").write_text('{"model_type": "gtp2"}')
    with pytest.raises(CheckpointError, match=r"gpt2: cannot be loaded: .*gtp2"):
        load_config(saved)
    (saved / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"gpt2: no config\.json; accepted: .*, or one \.gguf"):
        load_config(saved)
    with pytest.raises(CheckpointError, match=r"nothing: no such directory"):
        load_config(tmp_path / "nothing")


def test_the_class_of_a_task() -> None:
    assert task_class("causal-lm", config_of("llama")) == CAUSAL
    assert task_class("embedding", config_of("bert")) == "AutoModel"
    assert task_class("embedding", config_of("t5-encoder")) == "AutoModelForTextEncoding"


def test_tokenizers(tmp_path: Path) -> None:
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "glass"])}
    (tmp_path / "with").mkdir()
    BertTokenizerFast(vocab=vocabulary).save_pretrained(tmp_path / "with")
    model_of("bert").save_pretrained(tmp_path / "with")
    assert load_tokenizer(tmp_path / "with")("glass")["input_ids"] == [2, 5, 3]
    model_of("bert").save_pretrained(tmp_path / "without")
    with pytest.raises(CheckpointError, match=r"without: no tokenizer"):
        load_tokenizer(tmp_path / "without")
    with pytest.raises(CheckpointError, match=r"nothing: no such directory"):
        load_tokenizer(tmp_path / "nothing")
