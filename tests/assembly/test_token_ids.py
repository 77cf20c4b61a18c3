"""Token ids that the models have no embedding for, and the id that pads a batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainingArguments

import vigreux as vx
from tests.cli.conftest import SMALL, Outcome, Vigreux
from tests.cli.tiny import CAUSAL, CLASSES, MASKED, Tiny, documents, save_llama, save_model
from vigreux.run.folder import RunFolder

TEXTS = documents(40)
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
ENDS = {"bos_token_id": 0, "eos_token_id": 0}


def decoder(
    path: Path, tiny: Tiny, *, tokenizer_pads: bool, pad: int | None, seed: int = 0, **settings: Any
) -> Path:
    """A Llama that classifies, with answers that differ from text to text."""
    more = {"num_key_value_heads": 2, "pad_token_id": pad, "initializer_range": 0.5} | ENDS | settings
    save_model(path, "LlamaConfig", CLASSES, tiny.bpe, seed=seed, **SIZES | more)
    if not tokenizer_pads:
        tokenizer = AutoTokenizer.from_pretrained(path)
        tokenizer.pad_token = None
        tokenizer.save_pretrained(path)
    return path


def answers(path: Path) -> list[int]:
    """What a classifier says to texts one by one, so that nothing is padded."""
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(path),
        AutoTokenizer.from_pretrained(path),
    )
    with torch.no_grad():
        found = [int(model(**tokenizer(text, return_tensors="pt")).logits.argmax()) for text in TEXTS]
    assert len(set(found)) == 2
    return found


def write(path: Path, labels: list[int]) -> Path:
    path.write_text("".join(json.dumps({"text": t, "label": i}) + "\n" for t, i in zip(TEXTS, labels)))
    return path


def distill(vigreux: Vigreux, data: object, kind: str, *more: object) -> Outcome:
    given = ["--task.kind", kind, "--task.data", data, "--task.max_length", 60, "--teacher.model", "teacher"]
    if "--student.model" not in more:
        given += ["--student.layers", 1]
    options = ["--budget.steps", 2, "--curriculum", "one-shot", "--output", "run", *SMALL]
    return vigreux("distill", *given, *options, *more)


# --- padding of decoders that classify ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokenizer_pads", "pad", "padded_with"),
    [(False, None, 0), (True, None, 1), (True, 1, 1), (False, 7, 7), (True, -1, 1)],
    ids=["neither", "the tokenizer", "both", "the config", "-1"],
)
def test_the_end_of_a_text_is_found_behind_padding(
    tokenizer_pads: bool, pad: int | None, padded_with: int, vigreux: Vigreux, tiny: Tiny, tmp_path: Path
) -> None:
    teacher = decoder(tmp_path / "teacher", tiny, tokenizer_pads=tokenizer_pads, pad=pad)
    done = distill(vigreux, write(tmp_path / "data.jsonl", answers(teacher)), "classification")
    assert done.code == 0, done.err
    summary = RunFolder.open(tmp_path / "run").summary()
    assert summary is not None
    assert summary.teacher_metrics["accuracy"] == 1
    student = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "student")
    assert student.config.pad_token_id == padded_with
    assert ("padd" in " ".join(summary.notes)) == (not tokenizer_pads or pad != 1)


@pytest.mark.parametrize("where", ["teacher", "student"])
def test_two_ids_of_padding_are_refused(where: str, vigreux: Vigreux, tiny: Tiny, tmp_path: Path) -> None:
    teacher = decoder(tmp_path / "teacher", tiny, tokenizer_pads=True, pad=7 if where == "teacher" else 1)
    more = ()
    if where == "student":
        more = ("--student.model", decoder(tmp_path / "start", tiny, tokenizer_pads=True, pad=7))
    refused = distill(vigreux, write(tmp_path / "data.jsonl", answers(teacher)), "classification", *more)
    assert refused.code == 2
    assert f"{where}.model: its config has pad_token_id 7" in refused.err
    assert not (tmp_path / "run").exists()


def test_padding_that_stands_in_the_texts_is_refused(vigreux: Vigreux, tiny: Tiny, tmp_path: Path) -> None:
    decoder(tmp_path / "teacher", tiny, tokenizer_pads=False, pad=None)
    rows = [{"text": f"{text}<|endoftext|>", "label": i % 2} for i, text in enumerate(TEXTS)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused = distill(vigreux, "data.jsonl", "classification")
    assert refused.code == 2
    assert "'<|endoftext|>' stands in the texts; accepted: config.pad_token_id" in refused.err


def test_padding_from_python(tiny: Tiny, tmp_path: Path) -> None:
    teacher = decoder(tmp_path / "teacher", tiny, tokenizer_pads=True, pad=None)
    student = decoder(tmp_path / "student", tiny, tokenizer_pads=True, pad=None, seed=1)
    tokenizer, load = (
        AutoTokenizer.from_pretrained(teacher),
        AutoModelForSequenceClassification.from_pretrained,
    )
    rows = [{"input_ids": tokenizer(t)["input_ids"], "labels": i} for t, i in zip(TEXTS, answers(teacher))]
    run = vx.distill(
        load(student),
        load(teacher),
        vx.one_shot(),
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=tokenizer,
        args=TrainingArguments(output_dir=str(tmp_path / "run"), max_steps=2, per_device_train_batch_size=4),
        quiet=True,
    )
    assert run.summary().teacher_metrics["accuracy"] == 1
    assert load(run.student).config.pad_token_id == 1


@pytest.mark.parametrize("pad", [0, 3])
def test_an_encoder_may_be_padded_with_any_id(pad: int, vigreux: Vigreux, tiny: Tiny, tmp_path: Path) -> None:
    """RoBERTa counts positions from its padding id; behind the text that changes nothing."""
    positions = {"max_position_embeddings": 64, "initializer_range": 0.5, "seed": 3}
    teacher = tmp_path / "teacher"
    save_model(teacher, "RobertaConfig", CLASSES, tiny.wordpiece, **SIZES | positions | {"pad_token_id": pad})
    done = distill(vigreux, write(tmp_path / "data.jsonl", answers(teacher)), "classification")
    assert done.code == 0, done.err
    summary = RunFolder.open(tmp_path / "run").summary()
    assert summary is not None
    assert summary.teacher_metrics["accuracy"] == 1


# --- tokenizers larger than the embeddings ------------------------------------------------------------------


def larger(path: Path, *tokens: str, **special: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.add_tokens(list(tokens))
    tokenizer.add_special_tokens(special)
    tokenizer.save_pretrained(path)


def test_a_padding_token_without_an_embedding_is_replaced(
    vigreux: Vigreux, tiny: Tiny, tmp_path: Path
) -> None:
    save_llama(tmp_path / "teacher", tiny.bpe)
    larger(tmp_path / "teacher", pad_token="[PAD]")
    done = distill(vigreux, tiny.text, "causal-lm")
    assert done.code == 0, done.err
    assert "the padding token '[PAD]' (id 300) has no embedding: batches are padded with id 1" in done.out


@pytest.mark.parametrize(
    ("kind", "added", "message"),
    [
        (
            "causal-lm",
            {"tokens": ["river"]},
            "teacher.model: has embeddings for 300 tokens, and 'river' is number 300",
        ),
        (
            "masked-lm",
            {"mask_token": "[NEW]"},
            "teacher.model: has embeddings for 90 tokens, and '[NEW]' is number 90",
        ),
    ],
)
def test_a_token_without_an_embedding_is_refused(
    kind: str, added: dict[str, Any], message: str, vigreux: Vigreux, tiny: Tiny, tmp_path: Path
) -> None:
    if kind == "causal-lm":
        save_llama(tmp_path / "teacher", tiny.bpe)
    else:
        save_model(tmp_path / "teacher", "BertConfig", MASKED, tiny.wordpiece, **SIZES)
    larger(
        tmp_path / "teacher", *added.get("tokens", ()), **{k: v for k, v in added.items() if k != "tokens"}
    )
    refused = distill(vigreux, tiny.text, kind)
    assert refused.code == 2
    assert message in refused.err
    assert not (tmp_path / "run").exists()


def test_random_tokens_are_drawn_from_those_with_an_embedding(
    vigreux: Vigreux, tiny: Tiny, tmp_path: Path
) -> None:
    save_model(tmp_path / "teacher", "BertConfig", MASKED, tiny.wordpiece, **SIZES)
    larger(tmp_path / "teacher", *(f"new{i}" for i in range(200)))
    done = distill(vigreux, tiny.text, "masked-lm", "--task.mask_share", 0.9)
    assert done.code == 0, done.err


# --- the teachers of stages ---------------------------------------------------------------------------------


@pytest.fixture
def stages(tmp_path: Path) -> Path:
    path = tmp_path / "stages.yaml"
    only = (vx.Stage("first", vx.TeacherRef.other("other"), vx.Logits(), None, vx.Duration.steps(1)),)
    path.write_text(vx.to_yaml((*only, *vx.one_shot(final=vx.Duration.steps(1)))))
    return path


def test_the_tokenizer_of_a_stages_teacher_is_compared(
    vigreux: Vigreux, tiny: Tiny, tmp_path: Path, stages: Path
) -> None:
    save_llama(tmp_path / "teacher", tiny.bpe)
    other = save_llama(tmp_path / "other", tiny.bpe, seed=1)
    options = [
        "--task.data",
        tiny.text,
        "--task.max_length",
        16,
        "--teacher.model",
        "teacher",
        "--student.layers",
        1,
    ]
    options += ["--curriculum", stages, *SMALL]
    done = vigreux("distill", *options, "--output", "same")
    assert done.code == 0, done.err
    text = (other / "tokenizer.json").read_text()
    vocabulary = json.loads(text)
    ids = vocabulary["model"]["vocab"]
    ids["a"], ids["b"] = ids["b"], ids["a"]
    (other / "tokenizer.json").write_text(json.dumps(vocabulary))
    refused = vigreux("distill", *options, "--output", "other-tokens")
    assert refused.code == 2
    assert "stage 'first': teacher other: its tokenizer has 'b' for id" in refused.err
    assert "(2 ids differ)" in refused.err
    assert not (tmp_path / "other-tokens").exists()
    for file in other.glob("tokenizer*"):
        file.unlink()
    done = vigreux("distill", *options, "--output", "bare")
    assert done.code == 0, done.err
    assert (
        "note: stage 'first': teacher other: has no tokenizer, and is taken to have the teacher's" in done.out
    )
    save_model(other, "LlamaConfig", CAUSAL, tiny.wordpiece, **SIZES, num_key_value_heads=2, **ENDS)
    for file in other.glob("tokenizer*"):
        file.unlink()
    refused = vigreux("distill", *options, "--output", "smaller")
    assert refused.code == 2
    assert (
        "teacher other: no tokenizer, and a vocabulary of 90 tokens, where the teacher's has 300"
        in refused.err
    )


def test_the_padding_of_a_stages_teacher_is_compared(
    vigreux: Vigreux, tiny: Tiny, tmp_path: Path, stages: Path
) -> None:
    teacher = decoder(tmp_path / "teacher", tiny, tokenizer_pads=True, pad=1)
    data = write(tmp_path / "data.jsonl", answers(teacher))
    decoder(tmp_path / "other", tiny, tokenizer_pads=True, pad=7, seed=1)
    refused = distill(vigreux, data, "classification", "--curriculum", stages)
    assert refused.code == 2
    assert "teacher other: its config has pad_token_id 7" in refused.err
    decoder(tmp_path / "other", tiny, tokenizer_pads=True, pad=None, seed=1)
    assert distill(vigreux, data, "classification", "--curriculum", stages).code == 0


# --- teach --------------------------------------------------------------------------------------------------


def teach(vigreux: Vigreux, data: object, *more: object) -> Outcome:
    given = [
        "--task.kind",
        "classification",
        "--task.data",
        data,
        "--task.max_length",
        32,
        "--budget.steps",
        2,
    ]
    return vigreux("teach", *given, *SMALL, "--output", "run", *more)


def test_a_language_model_without_padding_becomes_a_classifier(
    vigreux: Vigreux, tiny: Tiny, tmp_path: Path
) -> None:
    save_model(tmp_path / "lm", "LlamaConfig", CAUSAL, tiny.bpe, **SIZES, num_key_value_heads=2, **ENDS)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "lm")
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path / "lm")
    for start in (
        ["--model.start", "lm"],
        ["--model.family", "llama", "--model.tokenizer", "lm", "--model.hidden", 16],
    ):
        done = teach(vigreux, tiny.labelled, *start)
        assert done.code == 0, done.err
        assert "note: the padding token is '<|endoftext|>' (id 0)" in done.out
        taught = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "student")
        assert taught.config.pad_token_id == 0
        (tmp_path / "run").rename(tmp_path / f"run-{start[1]}")


@pytest.mark.parametrize(
    ("names", "note", "taught"),
    [
        (["warm", "cold"], None, ["warm", "cold"]),
        (["warm", "Cold", "hot"], None, ["warm", "Cold", "hot"]),
        (["a", "b", "c"], "its head has 3 outputs, the data 2 classes: a new head is made", ["cold", "warm"]),
        (["a", "b"], "its head goes on as one of other classes (cold, warm)", ["cold", "warm"]),
    ],
)
def test_the_head_that_a_classifier_goes_on_with(
    names: list[str], note: str | None, taught: list[str], vigreux: Vigreux, tiny: Tiny, tmp_path: Path
) -> None:
    save_model(
        tmp_path / "start", "BertConfig", CLASSES, tiny.wordpiece, **SIZES, id2label=dict(enumerate(names))
    )
    done = teach(vigreux, tiny.labelled, "--model.start", "start")
    assert done.code == 0, done.err
    assert ("note: model.start" in done.out) == (note is not None)
    assert note is None or note in done.out
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "student")
    assert list(model.config.id2label.values()) == taught


def test_a_scorer_is_not_taught_classes(vigreux: Vigreux, tiny: Tiny, tmp_path: Path) -> None:
    save_model(
        tmp_path / "start",
        "BertConfig",
        CLASSES,
        tiny.wordpiece,
        **SIZES,
        num_labels=1,
        problem_type="regression",
    )
    refused = teach(vigreux, tiny.labelled, "--model.start", "start")
    assert refused.code == 2
    assert "model.start: its config has problem_type 'regression'" in refused.err
