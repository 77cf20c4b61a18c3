"""Models and data from Python: what they are for, and what does not go together; nothing is written before it
is known.
"""

import copy

import pytest
import torch
import transformers
from torch import nn
from torch.utils.data import TensorDataset
from transformers import TrainingArguments

import vigreux as vx
from vigreux.tasks.tokenizers import train_tokenizer

TEXTS = [f"the {animal} {verb}" for animal in ("cat", "dog", "owl") for verb in ("ran", "sat", "slept")] * 3
TOKENIZER = train_tokenizer(TEXTS, 60, "wordpiece")
IDS = TOKENIZER(TEXTS)["input_ids"]
LONG = TOKENIZER([f"{one} {other}" for one, other in zip(TEXTS, TEXTS[::-1])])["input_ids"]
ROWS = [{"input_ids": ids} for ids in IDS]
SIZES = {"vocab_size": len(TOKENIZER), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES |= {"intermediate_size": 32, "max_position_embeddings": 32}


def bert(name, seed=0, **settings):
    torch.manual_seed(seed)
    return getattr(transformers, name)(transformers.BertConfig(**SIZES | settings)).eval()


def gpt(seed=0, cls=transformers.GPT2LMHeadModel):
    torch.manual_seed(seed)
    sizes = {"vocab_size": len(TOKENIZER), "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
    return cls(transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).eval()


def distill(path, student, teacher, train, held=None, curriculum=None, tokenizer=TOKENIZER, **more):
    return vx.distill(
        student,
        copy.deepcopy(teacher) if teacher is student else teacher,
        curriculum or vx.one_shot(),
        train_dataset=train,
        eval_dataset=train if held is None else held,
        processing_class=tokenizer,
        args=TrainingArguments(
            output_dir=str(path / "run"), max_steps=4, per_device_train_batch_size=8, learning_rate=1e-2
        ),
        quiet=True,
        **more,
    )


def refused(path, message, *args, **more):
    with pytest.raises(vx.VigreuxError, match=message) as error:
        distill(path, *args, **more)
    assert "\n" not in str(error.value)
    assert not (path / "run").exists()


# --- what models are for ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("BertForQuestionAnswering", "is for question answering"),
        ("BertForMultipleChoice", "is for multiple choice"),
        ("BertForNextSentencePrediction", "is for next sentence prediction"),
        ("BertForPreTraining", "is for pretraining"),
        ("BertLMHeadModel", "an encoder that sees the token it is to predict"),
    ],
)
def test_heads_that_no_task_trains(tmp_path, name, use):
    refused(tmp_path, use, bert(name, 1), bert(name), ROWS)


def test_encoders_with_decoders(tmp_path):
    sizes = {"vocab_size": 60, "d_model": 16, "num_layers": 1, "num_heads": 2, "d_kv": 8, "d_ff": 16}
    config = transformers.T5Config(**sizes, decoder_start_token_id=0)
    target = vx.one_shot(target=vx.Embedding())
    whole = transformers.T5Model(config)
    refused(tmp_path, "has an encoder and a decoder", whole, whole, ROWS, curriculum=target)
    head = transformers.T5ForConditionalGeneration(config)
    refused(tmp_path, "T5ForConditionalGeneration is for", head, head, ROWS)
    config.vocab_size = len(TOKENIZER)
    student, teacher = transformers.T5EncoderModel(config), transformers.T5EncoderModel(config)
    assert "cosine" in distill(tmp_path, student, teacher, ROWS, curriculum=target).summary().metrics


def test_images_are_for_torch_modules(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(**sizes, image_size=8, patch_size=4, num_labels=3)
    vit = transformers.ViTForImageClassification(config)
    pixels, labels = torch.randn(24, 3, 8, 8), torch.arange(24) % 3
    refused(tmp_path, "reads pixel_values, and no task takes these yet", vit, vit, (pixels, labels))

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.model = transformers.ViTForImageClassification(config)

        def forward(self, x):
            return self.model(pixel_values=x).logits

    run = distill(tmp_path, Plain(), Plain(), (pixels, labels), tokenizer=None)
    assert set(run.summary().metrics) == {"loss", "accuracy", "agreement"}


def test_a_class_of_ones_own_is_what_it_comes_from(tmp_path):
    class Mine(transformers.GPT2LMHeadModel):
        pass

    class Reader(transformers.BertForQuestionAnswering):
        pass

    assert "perplexity" in distill(tmp_path, gpt(1, Mine), gpt(0, Mine), ROWS).summary().metrics
    reader = Reader(transformers.BertConfig(**SIZES))
    refused(tmp_path / "other", "Reader is for question answering", reader, reader, ROWS)


@pytest.mark.parametrize(
    ("student", "teacher", "more", "message"),
    [
        (gpt(), gpt(), {"task": "masked-lm"}, "task: 'masked-lm', and the student is a GPT2LMHeadModel"),
        (gpt(), gpt(), {"task": "embedding"}, "accepted: 'causal-lm'; for embeddings its base_model"),
        (gpt(), bert("BertForMaskedLM"), {}, "is for masked-lm, the student for causal-lm"),
        (gpt(), nn.Linear(2, 2), {}, "accepted: two of one sort"),
        (gpt(), gpt(), {"tokenizer": None}, "processing_class: missing"),
        (
            bert("BertModel"),
            bert("BertModel"),
            {},
            "stage 'final': learns logits, and an embedding model has no",
        ),
    ],
)
def test_models_that_do_not_go_together(tmp_path, student, teacher, more, message):
    refused(tmp_path, message, student, teacher, ROWS, **more)


def test_classifiers_of_other_kinds(tmp_path):
    def labelled(value):
        return [row | {"labels": value} for row in ROWS]

    name = "BertForSequenceClassification"
    one = bert(name, num_labels=1)
    refused(tmp_path, "a score and not a class", one, one, labelled(0.5))
    several = bert(name, num_labels=3, problem_type="multi_label_classification")
    refused(tmp_path, "problem_type 'multi_label_classification'", several, several, labelled([1, 0, 1]))
    three = bert(name, num_labels=3)
    refused(tmp_path, "a score and not a class", three, one, labelled(0))
    refused(tmp_path, "no column labels or label", three, three, ROWS)


# --- rows reach the models ----------------------------------------------------------------------------------

KINDS = {
    "causal-lm": (gpt, vx.extraction(layers={1: 1}, hidden_share=0.5)),
    "masked-lm": (lambda seed: bert("BertForMaskedLM", seed), vx.one_shot()),
    "classification": (lambda seed: bert("BertForSequenceClassification", seed), vx.one_shot()),
    "embedding": (lambda seed: bert("BertModel", seed), vx.one_shot(target=vx.Embedding())),
}


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(tmp_path, kind):
    make, curriculum = KINDS[kind]
    teacher, results = make(0), []
    for name, options in {
        "none": {},
        "right": {"padding": "max_length"},
        "left": {"padding": "max_length", "padding_side": "left"},
    }.items():
        columns = TOKENIZER(TEXTS, max_length=16, truncation=True, **options)
        rows = [{name: columns[name][i] for name in columns} for i in range(len(TEXTS))]
        if kind == "classification":
            with torch.no_grad():
                answers = [int(teacher(torch.tensor([ids])).logits.argmax()) for ids in IDS]
            rows = [row | {"labels": answer} for row, answer in zip(rows, answers)]
        student = make(1)
        run = distill(tmp_path / name, student, copy.deepcopy(teacher), rows, curriculum=curriculum)
        summary = run.summary()
        results.append((summary.metrics, summary.teacher_metrics, dict(student.state_dict())))
        if kind == "classification":
            assert summary.teacher_metrics["accuracy"] == 1
    for metrics, of_teacher, weights in results[1:]:
        assert metrics == results[0][0]
        assert of_teacher == results[0][1]
        assert all(torch.equal(value, results[0][2][name]) for name, value in weights.items())


def test_token_types_reach_the_teacher(tmp_path):
    """The teacher answers by where the second text begins; a student without token types learns beside it."""
    rows = [
        {"input_ids": ids, "token_type_ids": [0] * (i % 5) + [1] * (len(ids) - i % 5)}
        for i, ids in enumerate(LONG)
    ]
    teacher = bert("BertForSequenceClassification", num_labels=2)

    @torch.no_grad()
    def logits(*columns):
        given = [{name: torch.tensor([row[name]]) for name in columns} for row in rows]
        return torch.cat([teacher(**row).logits for row in given])

    with torch.no_grad():
        teacher.bert.embeddings.token_type_embeddings.weight.mul_(50)
        teacher.classifier.bias.sub_(logits("input_ids", "token_type_ids").mean(0))
    answers = logits("input_ids", "token_type_ids").argmax(1).tolist()
    assert 0 < sum(answers) < len(answers)
    assert answers != logits("input_ids").argmax(1).tolist()
    rows = [row | {"label": answer} for row, answer in zip(rows, answers)]
    sizes = {"vocab_size": len(TOKENIZER), "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}
    student = transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig(**sizes))
    summary = distill(tmp_path, student, teacher, rows).summary()
    assert summary.teacher_metrics["accuracy"] == 1
    assert any("token_type_ids: given to the teacher" in note for note in summary.notes)


def test_labels_of_completions_are_the_only_ones(tmp_path):
    """Prompts carry no loss, and batches without labels do no harm."""
    prompts = [row | {"labels": [-100] * 3 + row["input_ids"][3:]} for row in ROWS]
    silent = [row | {"labels": [-100] * len(row["input_ids"])} for row in ROWS]
    runs = {}
    for name, rows in {
        "all": ROWS,
        "labels": prompts,
        "few": silent[:-1] + prompts[-1:],
    }.items():
        runs[name] = distill(tmp_path / name, gpt(1), gpt(), rows).summary()
    assert runs["labels"].metrics != runs["all"].metrics
    with torch.no_grad():  # the teacher's loss, over the completions one by one
        losses = [
            nn.functional.cross_entropy(gpt()(torch.tensor([ids])).logits[0, 2:-1], torch.tensor(ids[3:]))
            for ids in IDS
        ]
    sizes = torch.tensor([len(ids) - 3 for ids in IDS])
    mean = float((torch.stack(losses) * sizes).sum() / sizes.sum())
    assert runs["labels"].teacher_metrics["loss"] == pytest.approx(mean, rel=1e-5)
    assert torch.isfinite(torch.tensor(list(runs["few"].metrics.values()))).all()


# --- tensors ------------------------------------------------------------------------------------------------

X = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)


def mlp(classes=3):
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, classes))


@pytest.mark.parametrize(
    ("train", "held", "message"),
    [
        ((X, Y.float()), None, "labels: .* accepted: one whole number per row; scores"),
        ((X, Y > 0), None, "labels: .*torch.bool; accepted: one whole number per row"),
        ((X, nn.functional.one_hot(Y)), None, r"labels: shape \(24, 3\)"),
        ((X, Y + 5), None, "labels: row 0 is .*; accepted: 0 to 2"),
        ((X, Y[:9]), None, "inputs: 24 rows, and 9 of labels"),
        ((X[:0], Y[:0]), None, "at least 1"),
        ((X * float("nan"), Y), None, "inputs: row 0 is not finite"),
        ((X.double(), Y), None, "student: Sequential fails on inputs"),
        ((X[:, :5], Y), None, "student: Sequential fails on inputs"),
        ((X, Y), (X[:, :5], Y), r"eval_inputs: rows of shape \(5,\)"),
        (
            (X, Y),
            TensorDataset(X, Y),
            "eval_dataset: a TensorDataset; a torch module takes a pair of tensors",
        ),
        ((X.numpy(), Y.numpy()), (X, Y), "train_dataset: a tuple"),
    ],
)
def test_tensors_that_a_module_cannot_take(tmp_path, train, held, message):
    refused(tmp_path, message, mlp(), mlp(), train, held)


def test_modules_that_tensors_do_not_fit(tmp_path):
    refused(tmp_path, "teacher: 4 outputs per row, and the student has 3", mlp(), mlp(4), (X, Y))
    refused(tmp_path, "gives one output a row", mlp(1), mlp(1), (X, Y * 0))
    refused(tmp_path, "gives shape", nn.Sequential(nn.Linear(6, 4), nn.Unflatten(1, (2, 2))), None, (X, Y))
    refused(tmp_path, "has no weights", nn.Tanh(), mlp(), (X, Y))
    refused(tmp_path, "task: 'classification' of a torch module", mlp(), mlp(), (X, Y), task="classification")
    rest = distill(tmp_path, mlp(), mlp(), [X, Y.clamp(max=1)], (X, Y), tokenizer=None)  # class 2 is held out
    assert rest.summary().steps == 4
