"""The teacher is right about its own answers, whatever the door that the data comes through.

Each task gets data whose labels are the teacher's own predictions on single texts without padding. So the
teacher's held-out accuracy must be exactly 1, on the command line, from Python, from a cache, with padded
rows, with pairs, and where student and data name the classes in another order. The saved student is opened
again, and must give what the run reports.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    TrainingArguments,
)

import vigreux as vx
from tests.cli.conftest import SMALL
from tests.cli.tiny import WORDS, documents
from vigreux.cli.main import main
from vigreux.run.folder import RunFolder

NAMES = ["cold", "mild", "warm"]
TEXTS = documents(60)
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def word_tokenizer(single: str = "[CLS] $A [SEP]") -> PreTrainedTokenizerFast:
    """A token a word, with token types for pairs."""
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single,
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


TOKENIZER = word_tokenizer()


def classes(names: list[str]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


@torch.no_grad()
def classifier(
    config: Any, head: str, inputs: list[dict[str, list[int]]]
) -> tuple[PreTrainedModel, list[str]]:
    """A random classifier whose answers differ from text to text, and its answers to single texts."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.mul_(4)
    layer = getattr(model, head)
    for _ in range(2):  # once to scale the logits, once to answer
        logits = torch.cat([model(**{k: torch.tensor([v]) for k, v in row.items()}).logits for row in inputs])
        answers = logits.argmax(-1)
        scale = 4 / logits.std(0)
        layer.weight.mul_(scale[:, None])
        if layer.bias is not None:
            layer.bias.sub_(logits.mean(0)).mul_(scale)
    assert len(set(answers.tolist())) > 1
    return model, [model.config.id2label[i] for i in answers.tolist()]


def single(texts: list[Any]) -> list[dict[str, list[int]]]:
    """The tokenizer's own rows, one text (or pair) at a time."""
    rows = [TOKENIZER(*text) if isinstance(text, tuple) else TOKENIZER(text) for text in texts]
    return [{name: list(values) for name, values in row.items()} for row in rows]


def padded(rows: list[dict[str, Any]], side: str) -> list[dict[str, Any]]:
    """Rows with all their columns, padded to one length on one side."""
    longest = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": 0, "token_type_ids": 0, "attention_mask": 0, "labels": -100}
    result = []
    for row in rows:
        count = longest - len(row["input_ids"])
        new = {}
        for name, values in row.items():
            if isinstance(values, list):
                padding = [fill[name]] * count
                values = [*values, *padding] if side == "right" else [*padding, *values]
            new[name] = values
        result.append(new)
    return result


def python_run(root: Path, teacher: Any, student: Any, rows: list[dict[str, Any]], **more: Any) -> RunFolder:
    data = Dataset.from_list(rows)
    return vx.distill(
        student,
        teacher,
        more.pop("curriculum", vx.one_shot()),
        train_dataset=data.select(range(40)),
        eval_dataset=data.select(range(40, len(rows))),
        processing_class=more.pop("tokenizer", TOKENIZER),
        args=TrainingArguments(
            output_dir=str(root), max_steps=2, per_device_train_batch_size=4, per_device_eval_batch_size=8
        ),
        quiet=True,
        **more,
    )


def save(model: PreTrainedModel, directory: Path, tokenizer: Any = TOKENIZER) -> Path:
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def command(*argv: object) -> None:
    assert main([*map(str, argv), *SMALL]) == 0


def summary(run: Path | RunFolder) -> Any:
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    result = folder.summary()
    assert result is not None
    return result


# --- classification -----------------------------------------------------------------------------------------

BERT = BertConfig(vocab_size=len(TOKENIZER), max_position_embeddings=128, **SIZES, **classes(NAMES))
LLAMA = LlamaConfig(
    vocab_size=len(TOKENIZER),
    max_position_embeddings=128,
    num_key_value_heads=2,
    pad_token_id=0,
    bos_token_id=2,
    eos_token_id=3,
    **SIZES,
    **classes(NAMES),
)


@pytest.mark.parametrize("config", [BERT, LLAMA], ids=["encoder", "decoder"])
def test_classes_by_the_command_and_from_a_cache(config: Any, tmp_path: Path) -> None:
    teacher, answers = classifier(config, "classifier" if config is BERT else "score", single(TEXTS))
    save(teacher, tmp_path / "teacher")
    rows = [{"text": text, "label": answer} for text, answer in zip(TEXTS, answers)]
    write_rows(tmp_path / "data.jsonl", rows)
    options = ["--task.kind", "classification", "--task.data", tmp_path / "data.jsonl", "--budget.steps", 2]
    options += ["--teacher.model", tmp_path / "teacher", "--curriculum", "one-shot", "--student.layers", 1]
    command("distill", *options, "--output", tmp_path / "run")
    assert summary(tmp_path / "run").teacher_metrics["accuracy"] == 1
    command("cache", *options, "--cache.path", tmp_path / "cache")
    command("distill", *options, "--cache.path", tmp_path / "cache", "--output", tmp_path / "cached")
    assert summary(tmp_path / "cached").teacher_metrics["accuracy"] == 1
    assert summary(tmp_path / "cached").metrics == pytest.approx(summary(tmp_path / "run").metrics, abs=1e-6)


@pytest.mark.parametrize("side", [None, "right", "left"], ids=["unpadded", "padded right", "padded left"])
@pytest.mark.parametrize("config", [BERT, LLAMA], ids=["encoder", "decoder"])
def test_classes_from_python(config: Any, side: str | None, tmp_path: Path) -> None:
    inputs = single(TEXTS)
    if config is LLAMA:
        inputs = [{name: row[name] for name in ("input_ids", "attention_mask")} for row in inputs]
    teacher, answers = classifier(config, "classifier" if config is BERT else "score", inputs)
    rows = [row | {"labels": NAMES.index(answer)} for row, answer in zip(inputs, answers)]
    student = vx.make_student(config, "AutoModelForSequenceClassification", layers=1)
    rows = rows if side is None else padded(rows, side)
    run = python_run(tmp_path / "run", teacher, student, rows)
    assert summary(run).teacher_metrics["accuracy"] == 1


def test_pairs_from_python(tmp_path: Path) -> None:
    pairs = list(zip(TEXTS, documents(60, seed=1)))
    inputs = single(pairs)
    assert {value for row in inputs for value in row["token_type_ids"]} == {0, 1}
    teacher, answers = classifier(BERT, "classifier", inputs)
    without = teacher(**{"input_ids": torch.tensor([inputs[0]["input_ids"]])}).logits
    with_types = teacher(**{name: torch.tensor([values]) for name, values in inputs[0].items()}).logits
    assert not torch.allclose(without, with_types)
    rows = [row | {"labels": NAMES.index(answer)} for row, answer in zip(inputs, answers)]
    for name, given in {"ragged": rows, "left": padded(rows, "left")}.items():
        student = vx.make_student(BERT, "AutoModelForSequenceClassification", layers=1)
        run = python_run(tmp_path / name, teacher, student, given)
        assert summary(run).teacher_metrics["accuracy"] == 1, name


def test_classes_in_another_order(tmp_path: Path) -> None:
    teacher, answers = classifier(BERT, "classifier", single(TEXTS))
    save(teacher, tmp_path / "teacher")
    labelled = [{"text": text, "label": answer} for text, answer in zip(TEXTS, answers)]
    write_rows(tmp_path / "train.jsonl", labelled[:40])
    write_rows(tmp_path / "held.jsonl", labelled[40:])
    shuffled = [NAMES[2], NAMES[0], NAMES[1]]
    config = copy.deepcopy(BERT)
    for name, value in classes(shuffled).items():
        setattr(config, name, value)
    torch.manual_seed(1)
    save(AutoModelForSequenceClassification.from_config(config), tmp_path / "start")
    options = ["--task.kind", "classification", "--task.data", tmp_path / "train.jsonl", "--budget.steps", 60]
    options += ["--task.eval_data", tmp_path / "held.jsonl", "--task.allow_overlap", "true"]
    options += ["--teacher.model", tmp_path / "teacher", "--student.model", tmp_path / "start"]
    options += ["--curriculum", "one-shot", "--training.learning_rate", "3e-3", "--output", tmp_path / "run"]
    command("distill", *options)
    result = summary(tmp_path / "run")
    assert result.teacher_metrics["accuracy"] == 1
    assert right_by_name(tmp_path / "run" / "student", shuffled, answers) == pytest.approx(
        result.metrics["accuracy"]
    )
    student = AutoModelForSequenceClassification.from_pretrained(tmp_path / "start")
    rows = [row | {"labels": shuffled.index(answer)} for row, answer in zip(single(TEXTS), answers)]
    run = python_run(tmp_path / "python", teacher, student, rows)
    assert summary(run).teacher_metrics["accuracy"] == 1
    assert right_by_name(run.student, shuffled, answers) == pytest.approx(summary(run).metrics["accuracy"])


@torch.no_grad()
def right_by_name(directory: Path, names: list[str], answers: list[str]) -> float:
    """The share of the held-out texts for which a saved student, read by its config, names the teacher's
    answer.
    """
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    assert [model.config.id2label[i] for i in range(len(names))] == names
    inputs = single(TEXTS)[40:]
    logits = [
        model(**{name: torch.tensor([values]) for name, values in row.items()}).logits for row in inputs
    ]
    named = [model.config.id2label[int(row.argmax())] for row in logits]
    return sum(a == b for a, b in zip(named, answers[40:])) / len(named)


# --- language models ----------------------------------------------------------------------------------------


@torch.no_grad()
def cycle_teacher(tokens: list[int], vocabulary: int) -> PreTrainedModel:
    """A GPT-2 for which every token of the cycle is followed by the next one, and by nothing else."""
    torch.manual_seed(0)
    size = 4 * -(-vocabulary // 4)
    config = GPT2Config(
        vocab_size=vocabulary, n_embd=size, n_layer=2, n_head=4, n_positions=64, tie_word_embeddings=False
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    for block in model.transformer.h:
        block.attn.c_proj.weight.zero_()
        block.mlp.c_proj.weight.zero_()
    model.transformer.wpe.weight.zero_()
    model.transformer.wte.weight.zero_()
    model.lm_head.weight.zero_()
    for token, following in zip(tokens, [*tokens[1:], tokens[0]]):
        model.transformer.wte.weight[token, token] = 1
        model.lm_head.weight[following, token] = 1
    return model


@pytest.mark.parametrize("first", [False, True], ids=["no first token", "a first token"])
def test_next_tokens_by_the_command_and_from_a_cache(first: bool, tmp_path: Path) -> None:
    tokenizer = word_tokenizer("[CLS] $A" if first else "$A")
    tokenizer.eos_token = "[SEP]"
    words = list(dict.fromkeys(WORDS))[:11]
    cycle = [*([2] if first else []), *tokenizer.convert_tokens_to_ids(words), 3]
    save(cycle_teacher(cycle, len(tokenizer)), tmp_path / "teacher", tokenizer)
    (tmp_path / "text.txt").write_text("\n\n".join([" ".join(words)] * 60))
    (tmp_path / "held.txt").write_text("\n\n".join([" ".join(words)] * 20))
    options = ["--task.data", tmp_path / "text.txt", "--task.eval_data", tmp_path / "held.txt"]
    options += ["--task.allow_overlap", "true", "--task.max_length", len(cycle) if first else 16]
    options += ["--teacher.model", tmp_path / "teacher", "--curriculum", "one-shot", "--budget.steps", 2]
    options += ["--student.layers", 1]
    command("distill", *options, "--output", tmp_path / "run")
    assert summary(tmp_path / "run").teacher_metrics["accuracy"] == 1
    command("cache", *options, "--cache.path", tmp_path / "cache")
    command("distill", *options, "--cache.path", tmp_path / "cache", "--output", tmp_path / "cached")
    assert summary(tmp_path / "cached").teacher_metrics["accuracy"] == 1


@torch.no_grad()
def predicted_rows(model: PreTrainedModel, *, causal: bool) -> list[dict[str, Any]]:
    """Random rows with labels that are the model's own predictions at a third of the positions."""
    draw = np.random.default_rng(0)
    rows = []
    for _ in range(56):
        ids = draw.integers(5, len(TOKENIZER), size=draw.integers(8, 20)).tolist()
        labelled = draw.random(len(ids)) < 0.3
        labelled[3] = True
        if causal:
            predictions = [-100, *model(torch.tensor([ids])).logits[0, :-1].argmax(-1).tolist()]
        else:
            ids = [4 if masked else token for token, masked in zip(ids, labelled)]
            predictions = model(torch.tensor([ids])).logits[0].argmax(-1).tolist()
        labels = [p if masked else -100 for p, masked in zip(predictions, labelled)]
        rows.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels})
    return rows


@pytest.mark.parametrize("kind", ["causal-lm", "masked-lm"])
def test_labels_of_the_users_from_python(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    if kind == "causal-lm":
        teacher = AutoModelForCausalLM.from_config(LLAMA).eval()
    else:
        teacher = AutoModelForMaskedLM.from_config(BERT).eval()
    rows = predicted_rows(teacher, causal=kind == "causal-lm")
    losses = {}
    for side in (None, "right", "left"):
        given = rows if side is None else padded(rows, side)
        name = {"causal-lm": "AutoModelForCausalLM", "masked-lm": "AutoModelForMaskedLM"}[kind]
        student = vx.make_student(teacher.config, name, layers=1)
        run = python_run(tmp_path / f"run-{side}", teacher, student, given)
        assert summary(run).teacher_metrics["accuracy"] == 1, side
        losses[side] = summary(run).metrics["loss"]
    assert losses["right"] == pytest.approx(losses[None], rel=1e-5)
    assert losses["left"] == pytest.approx(losses[None], rel=1e-5)


def test_masked_tokens_by_the_command(tmp_path: Path) -> None:
    """All texts are one word, and the teacher says that word wherever it is asked."""
    torch.manual_seed(0)
    teacher = AutoModelForMaskedLM.from_config(BERT).eval()
    word = TOKENIZER.convert_tokens_to_ids("cat")
    with torch.no_grad():
        teacher.cls.predictions.bias[word] = 100
    save(teacher, tmp_path / "teacher")
    (tmp_path / "text.txt").write_text("\n\n".join(["cat " * n for n in range(5, 40)]))
    options = ["--task.kind", "masked-lm", "--task.data", tmp_path / "text.txt", "--task.max_length", 16]
    options += ["--teacher.model", tmp_path / "teacher", "--curriculum", "one-shot", "--budget.steps", 2]
    options += ["--student.layers", 1, "--task.eval_share", "0.3"]
    command("distill", *options, "--output", tmp_path / "run")
    assert summary(tmp_path / "run").teacher_metrics["accuracy"] == 1


# --- embeddings ---------------------------------------------------------------------------------------------


def test_the_teachers_embeddings_are_its_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher = AutoModel.from_config(BERT).eval()
    save(teacher, tmp_path / "teacher")
    (tmp_path / "text.txt").write_text("\n\n".join(TEXTS))
    options = ["--task.kind", "embedding", "--task.data", tmp_path / "text.txt", "--budget.steps", 1]
    options += ["--teacher.model", tmp_path / "teacher", "--student.model", tmp_path / "teacher"]
    options += [
        "--curriculum",
        "one-shot",
        "--extraction.projection",
        "identity",
        "--extraction.scaling",
        "none",
    ]
    command("distill", *options, "--training.learning_rate", "0", "--output", tmp_path / "run")
    assert summary(tmp_path / "run").metrics["cosine"] == pytest.approx(1, abs=1e-5)
    inputs = single(TEXTS)
    for side in (None, "right", "left"):
        given = inputs if side is None else padded(inputs, side)
        student = AutoModel.from_pretrained(tmp_path / "teacher")
        curriculum = vx.one_shot(target=vx.Embedding(projection=vx.Projection("identity"), scaling="none"))
        data = Dataset.from_list(given)
        run = vx.distill(
            student,
            teacher,
            curriculum,
            train_dataset=data.select(range(40)),
            eval_dataset=data.select(range(40, 60)),
            processing_class=TOKENIZER,
            args=TrainingArguments(
                output_dir=str(tmp_path / f"python-{side}"), max_steps=1, learning_rate=0.0
            ),
            quiet=True,
        )
        assert summary(run).metrics["cosine"] == pytest.approx(1, abs=1e-5), side
        assert summary(run).metrics["similarity_spearman"] == pytest.approx(1, abs=1e-3), side
