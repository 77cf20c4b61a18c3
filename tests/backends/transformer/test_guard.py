"""What is tried before a run begins: each fault is one line and leaves no folder; its nearest valid neighbour
runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from datasets import Dataset
from peft import LoraConfig
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerFast, TrainingArguments

import vigreux as vx
from tests.models.families import SIZES, VOCAB, config_of
from vigreux.backends.transformer.model_checks import CheckedModel, check_model
from vigreux.errors import ConfigError
from vigreux.models.layout import Layout, find_layout
from vigreux.models.student import build, make_student
from vigreux.tasks.kinds.tensors import TensorTask
from vigreux.tasks.rows.build import tokenised_task

CAUSAL, MASKED = "AutoModelForCausalLM", "AutoModelForMaskedLM"
BERT = SIZES | {"intermediate_size": 48}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models

    names = ["[PAD]", "[MASK]", "[UNK]", *(f"w{i}" for i in range(VOCAB - 3))]
    made = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", mask_token="[MASK]", unk_token="[UNK]", eos_token="[UNK]"
    )


def rows(longest: int = 12) -> Dataset:
    lengths = [5, 6, 7, 8, longest, 9, 10, 11]
    draw = torch.Generator().manual_seed(0)
    ids = [torch.randint(3, VOCAB, (length,), generator=draw).tolist() for length in lengths]
    return Dataset.from_dict({"input_ids": ids})


def model_of(config: Any, auto_class: str) -> PreTrainedModel:
    model = build(config, auto_class)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def try_alone(
    model: PreTrainedModel,
    tokenizer: Any,
    kind: Any,
    states: Any = (),
    longest: int = 12,
    layout: Layout | None = None,
) -> None:
    data = rows(longest)
    task = tokenised_task(kind, data, data, tokenizer)
    if states and layout is None:
        layout = find_layout(model)
    check_model(CheckedModel("teacher", model, layout, states), task)


def distil(student: Any, teacher: Any, tokenizer: Any, root: Path, curriculum: Any, **options: Any) -> Any:
    args = TrainingArguments(output_dir=str(root), max_steps=2, per_device_train_batch_size=4)
    data = rows()
    return vx.distill(
        student,
        teacher,
        curriculum,
        train_dataset=data,
        eval_dataset=data,
        processing_class=tokenizer,
        args=args,
        quiet=True,
        **options,
    )


def test_rows_that_are_too_long(tokenizer: Any) -> None:
    model = model_of(config_of("gpt2"), CAUSAL)  # 40 positions
    try_alone(model, tokenizer, "causal-lm", longest=40)
    with pytest.raises(ConfigError, match=r"task\.max_length: the teacher cannot take rows of 41 tokens"):
        try_alone(model, tokenizer, "causal-lm", longest=41)
    rotary = model_of(config_of("llama"), CAUSAL)  # its config says 40, its positions have no end
    try_alone(rotary, tokenizer, "causal-lm", longest=64)


def test_numbers_that_are_not_finite(tokenizer: Any) -> None:
    model = model_of(config_of("gpt2"), CAUSAL)
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[0, 0] = torch.inf
    with pytest.raises(ConfigError, match=r"teacher: what it gives for a row of 12 tokens is not finite"):
        try_alone(model, tokenizer, "causal-lm")


def test_a_causal_model_that_sees_later_tokens(tokenizer: Any) -> None:
    message = r"a later token changes the logits of earlier ones"
    with pytest.raises(ConfigError, match=message):
        try_alone(model_of(AutoConfig.for_model("bert", **BERT), CAUSAL), tokenizer, "causal-lm")
    try_alone(model_of(AutoConfig.for_model("bert", **BERT, is_decoder=True), CAUSAL), tokenizer, "causal-lm")
    xlnet = AutoConfig.for_model("xlnet", vocab_size=VOCAB, d_model=32, n_layer=2, n_head=4, d_inner=48)
    with pytest.raises(ConfigError, match=message):
        try_alone(model_of(xlnet, CAUSAL), tokenizer, "causal-lm")
    with pytest.raises(ConfigError, match=r"hidden state 1 has the shape \(5, 2, 32\).*such as one-shot"):
        try_alone(model_of(xlnet, CAUSAL), tokenizer, "embedding", ((1, True),))


def test_states_in_another_order_of_axes(tokenizer: Any) -> None:
    config = AutoConfig.for_model("squeezebert", **BERT, embedding_size=32)
    model = model_of(config, MASKED)
    try_alone(model, tokenizer, "masked-lm")
    with pytest.raises(ConfigError, match=r"SqueezeBertForMaskedLM: its blocks run in the order \[\]"):
        try_alone(model, tokenizer, "masked-lm", states=((1, True),))


def test_a_view_that_is_not_what_the_model_computes(tokenizer: Any) -> None:
    model = model_of(config_of("gpt2"), CAUSAL)
    states = ((0, True), (1, True), (3, False), (3, True))
    try_alone(model, tokenizer, "causal-lm", states)
    without = find_layout(model, blocks="transformer.h", after=[])
    with pytest.raises(
        ConfigError, match=r"a view of hidden state 3 is not what the model computes; .*after_blocks"
    ):
        try_alone(model, tokenizer, "causal-lm", ((3, True),), layout=without)


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("esm", {"position_embedding_type": "rotary", "mask_token_id": 1, "pad_token_id": 0}),
        ("megatron-bert", {}),
        ("roberta-prelayernorm", {}),
        ("deberta", {}),
        ("big_bird", {}),
    ],
)
def test_final_norms_and_setters_of_other_families(family: str, more: dict[str, Any], tokenizer: Any) -> None:
    model = model_of(AutoConfig.for_model(family, **BERT | more), MASKED)
    try_alone(model, tokenizer, "masked-lm", tuple((depth, True) for depth in range(4)))


def test_nanochats_norm_runs_before_the_blocks_as_well(tokenizer: Any) -> None:
    sizes = BERT | {"num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = model_of(AutoConfig.for_model("nanochat", **sizes), CAUSAL)
    try_alone(model, tokenizer, "causal-lm", tuple((depth, True) for depth in range(4)))


def test_a_decoder_that_waits_for_an_encoder(tokenizer: Any) -> None:
    sizes = {
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
    }
    config = AutoConfig.for_model(
        "bart", vocab_size=VOCAB, d_model=32, encoder_ffn_dim=48, decoder_ffn_dim=48, **sizes
    )
    with pytest.raises(ConfigError, match=r"BartForCausalLM attends to an encoder's states"):
        try_alone(model_of(config, CAUSAL), tokenizer, "causal-lm")
    with pytest.raises(ConfigError, match=r"the family 'bart' has an encoder and a decoder.*student\.model"):
        make_student(config, CAUSAL, layers=1)


def test_shared_blocks_can_teach_by_their_logits(tokenizer: Any, tmp_path: Path) -> None:
    config = AutoConfig.for_model("albert", **BERT, embedding_size=16)
    teacher, student = model_of(config, MASKED), make_student(config, MASKED, hidden=16)
    distil(student, teacher, tokenizer, tmp_path / "run", vx.one_shot())
    with pytest.raises(ConfigError, match=r"runs 1 block\(s\) 3 times"):
        distil(student, teacher, tokenizer, tmp_path / "x", vx.extraction(student_layers=3, teacher_layers=3))
    assert not (tmp_path / "x").exists()


def test_a_hybrid_without_attention_does_not_run(tokenizer: Any, tmp_path: Path) -> None:
    linear = {
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    }
    sizes = BERT | {"num_hidden_layers": 4, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
    config = AutoConfig.for_model("qwen3_5_text", **sizes, **linear)
    teacher = model_of(config, CAUSAL)
    student = make_student(config, CAUSAL, from_layers=[0, 1])
    with pytest.raises(ConfigError, match=r"cannot be run on its own .*accepted: other student\.layers"):
        distil(student, teacher, tokenizer, tmp_path / "x", vx.one_shot(), task="causal-lm")
    assert not (tmp_path / "x").exists()
    made = make_student(config, CAUSAL, layers=2)
    assert "full_attention" in made.config.layer_types
    run = distil(made, teacher, tokenizer, tmp_path / "run", vx.one_shot(), task="causal-lm")
    opened = transformers.AutoModelForCausalLM.from_pretrained(run.student)
    assert opened(input_ids=torch.tensor([[3, 4, 5]])).logits.isfinite().all()


class Drops(transformers.GPT2LMHeadModel):
    """Forgets a weight when it is saved."""

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        state = {name: value.clone() for name, value in self.state_dict().items() if name != "lm_head.weight"}
        state["transformer.h.0.mlp.c_fc.bias"] += 1
        super().save_pretrained(*args, state_dict=state, **kwargs)


def test_a_student_that_is_not_saved_as_it_is(tokenizer: Any, tmp_path: Path) -> None:
    teacher = model_of(config_of("gpt2"), CAUSAL)
    student = Drops(config_of("gpt2"))
    with pytest.raises(
        ConfigError, match=r"student: Drops loses transformer\.h\.0\.mlp\.c_fc\.bias when it is saved"
    ):
        distil(student, teacher, tokenizer, tmp_path / "x", vx.one_shot(), task="causal-lm")
    assert not (tmp_path / "x").exists()


def adapted(folder: Path, **more: Any) -> PreTrainedModel:
    student = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        student.add_adapter(LoraConfig(r=2, target_modules=["q_proj", "v_proj"], **more))
    return student


def test_adapters_with_other_trained_weights(tokenizer: Any, tmp_path: Path) -> None:
    teacher = model_of(config_of("llama"), CAUSAL)
    build(config_of("llama"), CAUSAL, 1).save_pretrained(tmp_path / "base")
    student = adapted(tmp_path / "base")
    student.lm_head.weight.requires_grad_(True)
    with pytest.raises(
        ConfigError, match=r"student: lm_head\.weight are trained beside its adapters.*modules_to_save"
    ):
        distil(student, teacher, tokenizer, tmp_path / "x", vx.one_shot())
    assert not (tmp_path / "x").exists()
    student = adapted(tmp_path / "base", modules_to_save=["lm_head"])
    run = distil(student, teacher, tokenizer, tmp_path / "run", vx.one_shot())
    opened, ids = (
        transformers.AutoModelForCausalLM.from_pretrained(run.student).eval(),
        torch.arange(3, 12)[None],
    )
    with torch.no_grad():
        assert torch.equal(opened(ids).logits, student.eval()(ids).logits)


class Pixels(nn.Module):
    """A convolutional network: its hidden states are no vectors."""

    def __init__(self, flat: bool) -> None:
        super().__init__()
        layers = (
            [nn.Linear(16, 16), nn.Linear(16, 16)]
            if flat
            else [nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 8)]
        )
        self.net = nn.Sequential(*layers)
        self.head = nn.LazyLinear(2)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.net(inputs).flatten(1))
        return logits


def test_a_torch_module_whose_states_are_no_vectors() -> None:
    inputs, labels = torch.randn(6, 1, 4, 4), torch.zeros(6, dtype=torch.long)
    for flat in (True, False):
        data = inputs.flatten(1) if flat else inputs
        task = TensorTask(data, labels, eval_inputs=data, eval_labels=labels)
        model = Pixels(flat)
        if not flat:
            model.net[1] = nn.Conv2d(4, 4, 3, padding=1)
        model(data)
        layout = find_layout(model, blocks="net")
        check_model(CheckedModel("student", model, layout), task)
        if flat:
            check_model(CheckedModel("student", model, layout, ((1, True), (2, True))), task)
            continue
        with pytest.raises(ConfigError, match=r"no nn\.Linear|vectors of .* are needed"):
            check_model(CheckedModel("student", model, layout, ((1, True),)), task)


def test_nothing_is_left_changed(tokenizer: Any) -> None:
    model = model_of(config_of("bert"), MASKED).train()
    model.bert.embeddings.dropout.eval()
    modes = [module.training for module in model.modules()]
    state, before = torch.get_rng_state(), {name: value.clone() for name, value in model.state_dict().items()}
    try_alone(model, tokenizer, "masked-lm", ((1, True), (3, True)))
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# --- classifiers --------------------------------------------------------------------------------------------


class Unmasked(transformers.BertForSequenceClassification):
    """Padding is not hidden from it."""

    def forward(self, input_ids: Tensor, **kwargs: Any) -> Any:  # type: ignore[override]
        return super().forward(input_ids, attention_mask=torch.ones_like(input_ids))


def classification_task(tokenizer: Any) -> Any:
    labelled = rows().add_column("labels", [0, 1] * 4)
    return tokenised_task("classification", labelled, labelled, tokenizer, id2label={0: "cold", 1: "warm"})


def test_a_head_with_other_outputs_than_its_config_says(tokenizer: Any) -> None:
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**BERT, num_labels=2))
    check_model(CheckedModel("student", model, None), classification_task(tokenizer))
    model.classifier = nn.Linear(model.config.hidden_size, 5)
    with pytest.raises(
        ConfigError, match=r"student: BertForSequenceClassification gives 5 numbers a text, .* 2 classes"
    ):
        check_model(CheckedModel("student", model, None), classification_task(tokenizer))


def test_padding_that_is_not_hidden_is_said(tokenizer: Any) -> None:
    model = Unmasked(transformers.BertConfig(**BERT, initializer_range=0.5))
    with pytest.warns(UserWarning, match=r"teacher: padding is not hidden from Unmasked: .* changes by"):
        check_model(CheckedModel("teacher", model, None), classification_task(tokenizer))


def test_another_models_stage_is_tried_as_the_teacher_is(tokenizer: Any, tmp_path: Path) -> None:
    """A model that a later stage learns from cannot take the rows."""
    sizes = SIZES | {"bos_token_id": 2, "eos_token_id": 2}
    for name, positions in (("shorter", 8), ("as long", 32)):
        other = model_of(transformers.GPT2Config(**sizes | {"max_position_embeddings": positions}), CAUSAL)
        other.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        stages = (
            vx.Stage("first", vx.TeacherRef.final(), vx.Logits(), None, vx.Duration.steps(1)),
            vx.Stage(
                "last", vx.TeacherRef.other(str(tmp_path / name)), vx.Logits(), None, vx.Duration.steps(1)
            ),
        )
        given = {
            "student": model_of(transformers.GPT2Config(**sizes), CAUSAL),
            "teacher": model_of(transformers.GPT2Config(**sizes), CAUSAL),
            "curriculum": stages,
            "train_dataset": rows(),
            "eval_dataset": rows(),
            "processing_class": tokenizer,
            "output_dir": tmp_path / f"run {name}",
            "quiet": True,
        }
        if name == "shorter":
            with pytest.raises(ConfigError, match="stage 'last': teacher"):
                vx.distill(**given)
            assert not (tmp_path / "run shorter").exists()
        else:
            assert vx.distill(**given).summary().steps == 2
