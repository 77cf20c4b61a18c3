"""`vigreux distill` on a saved model of every family: extraction with the defaults, and a student that opens
without vigreux.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForTextEncoding,
    AutoTokenizer,
    PreTrainedModel,
)

from tests.cli.conftest import SMALL, Vigreux
from tests.cli.tiny import CAUSAL, CLASSES, MASKED, Tiny, save_model
from vigreux.models import student as sizes
from vigreux.run.folder import RunFolder

KINDS = {CAUSAL: "causal-lm", MASKED: "masked-lm", CLASSES: "classification", "AutoModel": "embedding"}
SIZES = {"hidden_size": 40, "num_hidden_layers": 2, "num_attention_heads": 5, "intermediate_size": 56}
SIZES |= {"max_position_embeddings": 48}
DECODER = SIZES | {"num_attention_heads": 4, "hidden_size": 48, "num_key_value_heads": 2}
LABELS = {"id2label": {0: "cold", 1: "warm"}, "label2id": {"cold": 0, "warm": 1}}

ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", SIZES),
    "roberta": ("RobertaConfig", SIZES | {"pad_token_id": 0}),
    "distilbert": (
        "DistilBertConfig",
        {"dim": 40, "n_layers": 2, "n_heads": 5, "hidden_dim": 56, "max_position_embeddings": 48},
    ),
    "deberta-v2": (
        "DebertaV2Config",
        SIZES
        | {
            "relative_attention": True,
            "position_buckets": 16,
            "pos_att_type": ["c2p", "p2c"],
            "share_att_key": True,
        }
        | {
            "norm_rel_ebd": "layer_norm",
            "conv_kernel_size": 3,
            "position_biased_input": False,
            "type_vocab_size": 0,
        },
    ),
    "electra": ("ElectraConfig", SIZES | {"embedding_size": 24}),
    "modernbert": ("ModernBertConfig", DECODER | {"local_attention": 6, "global_attn_every_n_layers": 2}),
}
DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", {"n_embd": 40, "n_layer": 2, "n_head": 5, "n_positions": 48}),
    "gpt-neox": ("GPTNeoXConfig", SIZES | {"num_attention_heads": 4, "hidden_size": 64}),
    "opt": ("OPTConfig", {k: v for k, v in SIZES.items() if k != "intermediate_size"} | {"ffn_dim": 56}),
    "llama": ("LlamaConfig", DECODER | {"tie_word_embeddings": True}),
    "mistral": ("MistralConfig", DECODER | {"sliding_window": 6, "num_key_value_heads": 1}),
    "qwen2": ("Qwen2Config", DECODER | {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", DECODER | {"head_dim": 16}),
    "gemma": ("GemmaConfig", DECODER | {"head_dim": 24, "num_key_value_heads": 1}),
    "phi": ("PhiConfig", DECODER | {"partial_rotary_factor": 0.5}),
}
RUNS = [(name, auto) for name in ENCODERS for auto in (MASKED, CLASSES)] + [
    (name, auto) for name in DECODERS for auto in (CAUSAL, CLASSES)
]


SPECIAL = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 0}  # of the byte-level tokenizer
SPECIAL_ENCODER = {
    "pad_token_id": 0,
    "cls_token_id": 2,
    "sep_token_id": 3,
    "bos_token_id": 2,
    "eos_token_id": 3,
}


def save_teacher(tiny: Tiny, directory: Path, family: str, auto_class: str) -> Path:
    config, settings = (ENCODERS | DECODERS)[family]
    tokenizer, special = (tiny.wordpiece, SPECIAL_ENCODER) if family in ENCODERS else (tiny.bpe, SPECIAL)
    save_model(
        directory,
        config,
        auto_class,
        tokenizer,
        **settings | special | (LABELS if auto_class == CLASSES else {}),
    )
    return directory


def distill(vigreux: Vigreux, tiny: Tiny, teacher: Path, auto_class: str, *more: str) -> Path:
    """Three steps of extraction in all; the path of the student."""
    data = tiny.labelled if auto_class == CLASSES else tiny.text
    task = [
        "--task.kind",
        KINDS[auto_class],
        "--task.data",
        data,
        "--task.max_length",
        "16",
        "--task.max_eval",
        "8",
    ]
    sizes = [
        "--student.layers",
        "2",
        "--student.hidden",
        "24",
        "--budget.steps",
        "3",
        "--output",
        teacher.name,
    ]
    done = vigreux("distill", "--teacher.model", teacher, *task, *sizes, *SMALL, *more)
    assert done.code == 0, done.err
    assert f"student: {teacher.name}/student" in done.out
    return Path(teacher.name, "student")


def logits(model: Any) -> Tensor:
    ids = torch.arange(4, 14).view(2, 5)
    with torch.no_grad():
        return model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids))[0]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[PreTrainedModel]:
    """The students that commands make, as they are in memory."""
    made: list[PreTrainedModel] = []
    make = sizes.make_student
    monkeypatch.setattr(
        sizes, "make_student", lambda *args, **kwargs: made.append(make(*args, **kwargs)) or made[-1]
    )
    return made


@pytest.mark.parametrize(
    ("family", "auto_class"), RUNS, ids=[f"{family}-{KINDS[auto]}" for family, auto in RUNS]
)
def test_extraction_on_a_saved_model(
    vigreux: Vigreux, tiny: Tiny, tmp_path: Path, trained: list[PreTrainedModel], family: str, auto_class: str
) -> None:
    path = distill(
        vigreux, tiny, save_teacher(tiny, tmp_path / "teacher" / family, family, auto_class), auto_class
    )
    student = getattr(transformers, auto_class).from_pretrained(path)
    assert student.config.hidden_size == 24
    assert type(student).__module__.startswith("transformers.")
    torch.testing.assert_close(logits(student), logits(trained[0]))
    assert logits(student).isfinite().all()
    tokenizer = AutoTokenizer.from_pretrained(path)
    assert tokenizer.get_vocab() == (tiny.wordpiece if family in ENCODERS else tiny.bpe).get_vocab()
    card = (path / "README.md").read_text()
    assert "hidden-1-to-1" in card
    assert "## Held-out scores" in card
    if auto_class == CLASSES:
        assert student.config.id2label == {0: "cold", 1: "warm"}


@pytest.mark.parametrize("init", ["random", "teacher-layers"])
def test_other_first_weights(
    vigreux: Vigreux, tiny: Tiny, llama: Path, trained: list[PreTrainedModel], init: str
) -> None:
    same_width = (
        ["--student.hidden", "48", "--student.intermediate", "80"] if init == "teacher-layers" else []
    )
    distill(
        vigreux, tiny, llama, CAUSAL, "--student.init", init, *same_width, "--training.learning_rate", "0"
    )
    teacher, student = AutoModelForCausalLM.from_pretrained(llama), trained[0]
    copied = torch.equal(
        student.model.layers[1].mlp.up_proj.weight, teacher.model.layers[2].mlp.up_proj.weight
    )
    assert copied == (init == "teacher-layers")


def test_sentence_embeddings(vigreux: Vigreux, tiny: Tiny, tmp_path: Path) -> None:
    path = distill(
        vigreux, tiny, save_teacher(tiny, tmp_path / "teacher" / "bert", "bert", "AutoModel"), "AutoModel"
    )
    student = AutoModel.from_pretrained(path)
    assert logits(student).shape == (2, 5, 24)
    assert "cosine" in (path / "README.md").read_text()


def test_a_folder_of_sentence_transformers(vigreux: Vigreux, tiny: Tiny, tmp_path: Path) -> None:
    """Its pooling and length count unless others are asked for; what is not read is said or refused."""
    teacher = save_teacher(tiny, tmp_path / "teacher" / "bert", "bert", "AutoModel")
    modules = [{"path": "", "type": "x.Transformer"}, {"path": "1_Pooling", "type": "x.Pooling"}]
    (teacher / "modules.json").write_text(json.dumps(modules))
    (teacher / "1_Pooling").mkdir()
    (teacher / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (teacher / "sentence_bert_config.json").write_text('{"max_seq_length": 9}')
    path = distill(vigreux, tiny, teacher, "AutoModel")
    run = RunFolder.open(path.parent)
    assert run.stages()[-1].target.startswith("cls-pooled embedding")
    notes = " ".join(run.summary().notes)
    assert "pooled by cls, as its modules.json says" in notes
    assert "cut to 9 tokens" in notes
    teacher = teacher.rename(teacher.with_name("other"))
    asked = distill(vigreux, tiny, teacher, "AutoModel", "--task.pooling", "mean")
    run = RunFolder.open(asked.parent)
    assert run.stages()[-1].target.startswith("mean-pooled embedding")
    assert "the folder's pooling is cls_token, and mean is used, as asked" in " ".join(run.summary().notes)


@pytest.mark.parametrize("saved_from", ["AutoModelForTextEncoding", "AutoModel"])
def test_sentence_embeddings_of_an_encoder_alone(
    vigreux: Vigreux, tiny: Tiny, tmp_path: Path, saved_from: str
) -> None:
    """Of T5 the encoder teaches, whether or not the decoder was saved with it."""
    sizes = {"d_model": 48, "num_layers": 2, "num_heads": 4, "d_kv": 12, "d_ff": 64, "pad_token_id": 0}
    save_model(tmp_path / "teacher" / "t5", "T5Config", saved_from, tiny.wordpiece, **sizes)
    path = distill(vigreux, tiny, tmp_path / "teacher" / "t5", "AutoModel")
    student = AutoModelForTextEncoding.from_pretrained(path)
    assert type(student).__name__ == "T5EncoderModel"
    assert logits(student).shape == (2, 5, 24)


PLAIN = """
import sys
sys.modules["vigreux"] = None  # as if it were not installed
import torch, transformers
for path, auto_class in zip(sys.argv[1::2], sys.argv[2::2]):
    model = getattr(transformers, auto_class).from_pretrained(path).eval()
    batch = transformers.AutoTokenizer.from_pretrained(path)("the cat sat on a mat", return_tensors="pt")
    print(path, model(**{"input_ids": batch["input_ids"]}).logits.shape[-1])
"""


def test_students_open_where_vigreux_is_not_installed(
    vigreux: Vigreux, tiny: Tiny, llama: Path, classifier: Path, masked: Path
) -> None:
    teachers = {llama: CAUSAL, classifier: CLASSES, masked: MASKED}
    students = {distill(vigreux, tiny, teacher, auto): auto for teacher, auto in teachers.items()}
    arguments = [str(part) for pair in students.items() for part in pair]
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, *arguments], capture_output=True, text=True, check=True
    )
    sizes = [300, 2, 90]
    assert done.stdout.split("\n")[:3] == [f"{path} {size}" for path, size in zip(students, sizes)]
