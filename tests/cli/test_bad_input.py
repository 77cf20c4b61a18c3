"""Every input a user can get wrong: exit code 2, one line that says what, where and what is accepted, and
nothing written.

Beside each the nearest input that is accepted (`GOOD`, and the tests that end in a finished run).
"""

import errno
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.cli.conftest import Vigreux
from tests.cli.tiny import CLASSES, documents, save_bert, save_llama, write_text
from vigreux.run.folder import RunFolder
from vigreux.tasks.tokenizers import train_tokenizer


def refused(outcome, *parts):
    """Exit code 2 and one line that has all the parts."""
    assert outcome.code == 2, outcome
    lines = [line for line in outcome.err.splitlines() if not line.startswith("vigreux: warning")]
    assert len(lines) == 1, outcome.err
    for part in parts:
        assert part in lines[0], lines[0]


def untouched(folder=Path("run")):
    """No run was begun in `folder`."""
    assert not (folder / "run.json").exists()
    assert not (folder / "student").exists()


OPTIONS = [
    (["--curriculum", "extracton"], ["curriculum", "did you mean 'extraction'"]),
    (["--curriculum", "missing.yaml"], ["missing.yaml", "cannot be read"]),
    (["--curriculum", "progressive"], ["checkpoints", "teacher.checkpoints gives none"]),
    (["--student.layer", "1"], ["--student.layer", "--student.layers"]),
    (["--student.hidden", "24", "--student.heads", "5"], ["student.heads", "24", "5"]),
    (["--student.hidden", "25", "--student.heads", "4"], ["student.heads", "25", "4"]),
    (["--student.layers", "4"], ["4", "deeper than the teacher's 3 blocks"]),
    (["--student.layers", "two"], ["student.layers", "two"]),
    (["--extraction.layers", "{9: 1}"], ["teacher layer 9", "which has 3"]),
    (["--extraction.layers", "{2: 3}"], ["student depth 3", "which has 2"]),
    (["--extraction.layers", "{1: 2, 2: 1}"], ["must rise"]),
    (["--extraction.projection", "identity"], ["identity", "48", "24"]),
    (["--student.init", "projected"], ["student.init", "projected-embeddings"]),
    (["--task.kind", "causal"], ["task.kind", "did you mean 'causal-lm'"]),
    (["--task.data", ""], ["task.data", "missing"]),
    (["--task.data", "nowhere.txt"], ["nowhere.txt"]),
    (["--task.max_length", "100"], ["task.max_length", "100", "at most 64"]),
    (["--task.eval_share", "1.5"], ["task.eval_share", "between 0 and 1"]),
    (["--teacher.model", ""], ["teacher.model", "missing"]),
    (["--teacher.model", "./nowhere"], ["nowhere", "no such directory"]),
    (["--teacher.model", "asset:minilm"], ["did you mean 'minilm-l6'"]),
    (["--teacher.blocks", "model.layer"], ["model.layer", "model.layers"]),
    (["--teacher.checkpoints", "./nowhere"], ["teacher.checkpoints", "nowhere"]),
    (["--training.learning_rte", "1"], ["did you mean 'learning_rate'"]),
    (["--training.max_steps", "9"], ["training.max_steps", "budget"]),
    (["--training.learning_rate", "fast"], ["fast"]),
    (["--budget.steps", "0"], ["budget.steps", "0"]),
    (["--budget.steps", "1"], ["less than one step"]),
    (["--budget.seconds", "9"], ["budget", "one of steps, flops, seconds"]),
    (["--loss.temperature", "0"], ["temperature", "0"]),
    (["--loss.alpha", "1"], ["alpha"]),
]


@pytest.mark.parametrize(("options", "parts"), OPTIONS, ids=[" ".join(options) for options, _ in OPTIONS])
def test_a_wrong_option(vigreux: Vigreux, causal_config, options, parts):
    refused(vigreux("distill", causal_config, "--curriculum", "extraction", "--quiet", *options), *parts)
    untouched()


GOOD = [
    ["--curriculum", "extraction", "--extraction.layers", "{2: 1, 3: 2}", "--budget.steps", "10"],
    [
        "--curriculum",
        "extraction",
        "--student.layers",
        "3",
        "--student.hidden",
        "48",
        "--extraction.projection",
        "identity",
    ],
    [
        "--curriculum",
        "one-shot",
        "--loss.temperature",
        "1e-20",
        "--loss.alpha",
        "0.99",
        "--task.max_length",
        "64",
    ],
]


@pytest.mark.parametrize("options", GOOD, ids=[" ".join(options) for options in GOOD])
def test_the_nearest_right_options(vigreux: Vigreux, causal_config, options):
    outcome = vigreux("distill", causal_config, "--budget.steps", "10", "--quiet", *options)
    assert outcome.code == 0, outcome.err
    assert RunFolder.open("run").status == "finished"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("task: {kind: causal-lm, dat: x}", ["config.yaml", "task.dat", "did you mean 'data'"]),
        ("taks: {}", ["config.yaml", "did you mean 'task'"]),
        ("task: [1, 2]", ["config.yaml", "task"]),
        ("task: {kind: ", ["config.yaml", "not YAML"]),
        ("- 1", ["config.yaml", "accepted: a mapping"]),
        ("curriculum: [{target: logits, duration: {stps: 3}}]", ["did you mean 'steps'"]),
        ("curriculum: [{target: logit, duration: {steps: 3}}]", ["did you mean 'logits'"]),
        (
            "curriculum: [{target: {hidden: {layer: 9}}, depth: 1, duration: {steps: 3}}]",
            ["hidden layer 9", "which has 3 blocks"],
        ),
        ("curriculum: [{target: logits, duration: {steps: 3}, tempo: 2}]", ["tempo"]),
    ],
)
def test_a_wrong_file(vigreux: Vigreux, causal_config, text, parts):
    whole = yaml.safe_load(causal_config.read_text())
    if text.startswith("curriculum"):
        text = yaml.safe_dump(whole | yaml.safe_load(text))
    Path("config.yaml").write_text(text)
    refused(vigreux("distill", "config.yaml"), *parts)
    untouched()


# --- data ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["text.txt"]),
        (b"\n \n", ["text.txt"]),
        (b"\x00\x01\x02\x03" * 50, ["text.txt"]),
        ("caf\xe9 au lait".encode("latin-1"), ["text.txt", "UTF-8", "3"]),
    ],
    ids=["empty", "blank", "binary", "latin-1"],
)
def test_text_that_is_none(vigreux: Vigreux, causal_config, content, parts):
    Path("text.txt").write_bytes(content)
    refused(vigreux("distill", causal_config, "--task.data", "text.txt"), *parts)
    untouched()


def test_held_out_text_that_was_trained_on(vigreux: Vigreux, causal_config):
    texts = documents(60)
    write_text(Path("held.txt"), texts[:5])
    given = [
        "distill",
        causal_config,
        "--quiet",
        "--curriculum",
        "supervised",
        "--task.eval_data",
        "held.txt",
    ]
    refused(vigreux(*given), "5", "allow_overlap")
    untouched()
    assert vigreux(*given, "--task.allow_overlap", "true").code == 0


def labelled(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"label": "wram"}, ["wram", "did you mean 'warm'"]),
        ({"label": 2}, ["label 2", "0 to 1"]),
        ({"label": None}, ["label"]),
        ({"txt": "x"}, []),
    ],
)
def test_labels_that_the_teacher_does_not_have(vigreux: Vigreux, tiny, classifier, change, parts):
    rows = [json.loads(line) for line in Path(tiny.labelled).read_text().splitlines()]
    if isinstance(change.get("label"), int):
        rows = [row | {"label": int(row["label"] == "warm")} for row in rows]
    rows[7] |= change
    if "txt" in change:
        del rows[7]["text"]
    labelled(Path("data.jsonl"), rows)
    given = [
        "distill",
        "--quiet",
        "--task.kind",
        "classification",
        "--teacher.model",
        classifier,
        "--curriculum",
        "supervised",
    ]
    given += ["--student.layers", "1", "--budget.steps", "1", "--task.max_length", "32", "--output", "run"]
    refused(vigreux(*given, "--task.data", "data.jsonl"), *parts)
    untouched()
    assert vigreux(*given, "--task.data", tiny.labelled).code == 0


# --- teachers and students ----------------------------------------------------------------------------------


@pytest.fixture
def teacher(llama, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(llama, tmp_path / "teacher"))


def distil(vigreux: Vigreux, causal_config, *options):
    return vigreux(
        "distill",
        causal_config,
        "--quiet",
        "--curriculum",
        "one-shot",
        "--teacher.model",
        "teacher",
        *options,
    )


def test_a_teacher_without_weights(vigreux: Vigreux, causal_config, teacher):
    (teacher / "model.safetensors").unlink()
    refused(distil(vigreux, causal_config), "teacher", "no weights", "model.safetensors")
    untouched()


@pytest.mark.parametrize("keep", [0.5, 0.001])
def test_truncated_weights(vigreux: Vigreux, causal_config, teacher, keep):
    weights = teacher / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: int(keep * weights.stat().st_size)])
    refused(distil(vigreux, causal_config), "model.safetensors", "truncated or corrupted")
    untouched()


def test_pickled_weights(vigreux: Vigreux, causal_config, teacher):
    model = AutoModelForCausalLM.from_pretrained(teacher)
    torch.save(model.state_dict(), teacher / "pytorch_model.bin")
    (teacher / "model.safetensors").unlink()
    refused(distil(vigreux, causal_config), "pickled", "allow_pickle")
    untouched()
    assert distil(vigreux, causal_config, "--teacher.allow_pickle", "true").code == 0


def test_remote_code(vigreux: Vigreux, causal_config, teacher):
    config = json.loads((teacher / "config.json").read_text())
    config |= {
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"},
        "model_type": "own",
    }
    (teacher / "config.json").write_text(json.dumps(config))
    (teacher / "own.py").write_text("raise SystemExit('was run')")
    refused(distil(vigreux, causal_config), "trust_remote_code")
    untouched()


NO_SIZES = ("--student.layers", "null", "--student.hidden", "null")  # a model to start from brings its own


def test_another_tokenizer(vigreux: Vigreux, causal_config, tiny):
    other = train_tokenizer(["quite other words " * 9, "zebra yellow quartz jumped vexed"], 300, "bpe")
    save_llama(Path("start"), other, layers=1, hidden_size=24)
    refused(
        vigreux(
            "distill",
            causal_config,
            "--quiet",
            "--curriculum",
            "one-shot",
            *NO_SIZES,
            "--student.model",
            "start",
        ),
        "tokenizer",
    )
    untouched()


def test_vocabularies_padded_to_different_sizes_are_handled(vigreux: Vigreux, causal_config, tiny):
    save_llama(Path("start"), tiny.bpe, layers=1)
    model = AutoModelForCausalLM.from_pretrained("start")
    model.resize_token_embeddings(len(tiny.bpe) + 28)
    model.save_pretrained("start")
    outcome = vigreux(
        "distill", causal_config, "--quiet", "--curriculum", "one-shot", *NO_SIZES, "--student.model", "start"
    )
    assert outcome.code == 0, outcome.err
    assert any("padded to different sizes" in note for note in RunFolder.open("run").summary().notes)
    assert AutoModelForCausalLM.from_pretrained("run/student").config.vocab_size == len(tiny.bpe) + 28


def test_classes_that_differ(vigreux: Vigreux, tiny):
    names = dict(enumerate(["cold", "warm", "hot"]))
    save_bert(
        Path("three"),
        tiny.wordpiece,
        CLASSES,
        id2label=names,
        label2id={name: i for i, name in names.items()},
    )
    save_bert(Path("two"), tiny.wordpiece)
    given = [
        "distill",
        "--quiet",
        "--task.kind",
        "classification",
        "--task.data",
        tiny.labelled,
        "--task.max_length",
        "32",
    ]
    given += ["--curriculum", "one-shot", "--budget.steps", "1", "--output", "run", "--teacher.model", "two"]
    refused(vigreux(*given, "--student.model", "three"), "3 classes", "2")
    untouched()


def test_a_series_with_duplicates(vigreux: Vigreux, causal_config, llama):
    for step in (1, 2):
        shutil.copytree(llama, f"series/checkpoint-{step}")
    given = [
        "distill",
        causal_config,
        "--quiet",
        "--curriculum",
        "progressive",
        "--teacher.checkpoints",
        "series",
    ]
    refused(vigreux(*given), "checkpoint-2", "the same weights", "checkpoint-1")
    untouched()


# --- run folders, disks, losses -----------------------------------------------------------------------------


def test_a_folder_that_is_taken(vigreux: Vigreux, causal_config):
    given = ["distill", causal_config, "--quiet", "--curriculum", "supervised"]
    assert vigreux(*given).code == 0
    before = Path("run/summary.json").read_bytes()
    refused(vigreux(*given), "run", "already holds a run")
    refused(vigreux(*given, "--resume", "--student.hidden", "16"), "another configuration", "student.hidden")
    assert vigreux(*given, "--resume").code == 0
    assert Path("run/summary.json").read_bytes() == before
    refused(vigreux(*given, "--resume", "--output", "elsewhere"), "elsewhere")
    Path("mine").mkdir()
    Path("mine/letter.txt").write_text("dear")
    refused(vigreux(*given, "--output", "mine"), "mine", "letter.txt")
    assert [path.name for path in Path("mine").iterdir()] == ["letter.txt"]


def test_a_full_disk(vigreux: Vigreux, causal_config, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("vigreux.loop.recorder.write_manifest", full)
        refused(
            vigreux("distill", causal_config, "--quiet", "--curriculum", "supervised"),
            "run",
            "disk is full",
            "--resume",
        )
    assert RunFolder.open("run").status == "failed"
    assert vigreux("distill", causal_config, "--quiet", "--curriculum", "supervised", "--resume").code == 0
    AutoTokenizer.from_pretrained("run/student")


def test_a_loss_that_is_no_number(vigreux: Vigreux, causal_config):
    given = ["distill", causal_config, "--quiet", "--curriculum", "supervised", "--budget.steps", "40"]
    outcome = vigreux(*given, "--training.learning_rate", "1e30", "--training.max_grad_norm", "0")
    refused(outcome, "labels", "step", "checkpoint")
    assert RunFolder.open("run").status == "failed"
    untouched_student = not Path("run/student").exists()
    assert untouched_student


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["distil"], ["did you mean 'distill'"]),
        (["report", "nowhere"], ["nowhere"]),
        (["compare", "--budget.steps", "4", "--curricula", "one-shot,one-shot"], ["curricula"]),
        (
            [
                "compare",
                "--budget.steps",
                "4",
                "--teacher.model",
                "x",
                "--task.data",
                "y",
                "--curricula",
                "two-shot",
            ],
            ["curriculum", "two-shot", "did you mean 'one-shot'"],
        ),
        (["compare", "--budget.steps", "4", "--seeds", "0"], ["seeds"]),
        (["teach"], ["model", "missing"]),
        (["teach", "--model.start", "x", "--task.kind", "embedding"], ["embedding"]),
        (["plan"], ["teacher.model", "missing"]),
    ],
)
def test_other_commands(vigreux: Vigreux, argv, parts):
    refused(vigreux(*argv), *parts)
    assert list(Path.cwd().iterdir()) == []


# --- settings of the Trainer --------------------------------------------------------------------------------

SETTINGS = [
    ("learning_rate", "-1", "training.learning_rate: -1; accepted: a number from 0"),
    ("warmup_steps", ".nan", "training.warmup_steps: nan"),
    ("adam_beta1", "2", "training.adam_beta1: 2; accepted: a number from 0 to below 1"),
    ("dataloader_num_workers", "-1", "training.dataloader_num_workers: -1"),
    ("report_to", "wandb", "wandb to be installed"),
    ("optim", "adamw_bnb_8bit", "bitsandbytes"),
    ("lr_scheduler_kwargs", "{foo: 1}", "training.lr_scheduler_kwargs: "),
    ("lr_scheduler_type", "cosine_with_min_lr", "min_lr"),
    ("torch_compile_backend", "nonsense", "nonsense"),
    ("use_liger_kernel", "true", "training.use_liger_kernel: has no effect here"),
    ("metric_for_best_model", "loss", "training.metric_for_best_model: has no effect here"),
    ("eval_strategy", "epoch", "training.eval_strategy: 'epoch'; accepted: steps"),
]


@pytest.mark.parametrize("command", ["distill", "compare"])
@pytest.mark.parametrize(("name", "value", "message"), SETTINGS)
def test_settings_that_cannot_be_or_need_what_is_not_here(
    vigreux: Vigreux, causal_config, command, name, value, message
):
    refused(vigreux(command, causal_config, f"--training.{name}", value), message)
    assert not Path("run").exists()


@pytest.mark.parametrize("command", ["cache", "plan", "teach"])
def test_other_commands_refuse_the_same_settings(vigreux: Vigreux, causal_config, command):
    config = yaml.safe_load(causal_config.read_text())
    if command == "teach":
        config = {name: config[name] for name in ("task", "budget", "output")}
        config["model"] = {"family": "gpt2", "layers": 1, "hidden": 8, "heads": 2}
    for name, value, message in SETTINGS[:3]:
        config["training"] = {name: yaml.safe_load(value)}
        Path("settings.yaml").write_text(yaml.safe_dump(config))
        refused(vigreux(command, "settings.yaml"), message)
        assert sorted(path.name for path in Path().iterdir()) == ["settings.yaml"]
