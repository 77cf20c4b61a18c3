"""Small runs of every kind and the SHA-256 of their final weights: what a refactor must leave as it is.

    python -m tests.golden.runs --write /tmp/before.json     before the change
    python -m tests.golden.runs --check /tmp/before.json     after it, on the same machine

The hashes hold on one machine, one version of torch and one thread, because the order of additions depends on
all three. So no hash is kept in the repository, and this is a tool and not a test.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import torch
from safetensors import safe_open

from tests.cli.tiny import MASKED, make_tiny, save_bert, save_llama
from vigreux.cli.main import main
from vigreux.curriculum.recipes import extraction
from vigreux.curriculum.serialize import to_yaml

BATCH = [
    "--training.per_device_train_batch_size",
    "4",
    "--training.per_device_eval_batch_size",
    "8",
    "--quiet",
]
SIZES = ["--student.layers", "2", "--student.hidden", "24", "--task.max_length", "16", "--task.max_eval", "8"]
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
LAUNCH += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
LAUNCH += ["--main_process_port", "0", "-m", "vigreux"]

JOINT = """
- name: both
  target: {joint: {hidden: {layer: 2, projection: orthogonal}, logits: {temperature: 2}, weight: 0.5}}
  depth: 1
  duration: {share: 1}
"""


def prepare(root: Path) -> None:
    """Writes the texts, the teachers and the curricula that the runs share."""
    tiny = make_tiny(root)
    save_llama(root / "llama", tiny.bpe)
    save_llama(root / "start", tiny.bpe, layers=2, seed=5)
    save_bert(root / "bert", tiny.wordpiece)
    save_bert(root / "masked", tiny.wordpiece, MASKED)
    save_bert(root / "encoder", tiny.wordpiece, "AutoModel")
    Path("joint.yaml").write_text(JOINT)
    Path("layers.yaml").write_text(to_yaml(extraction(layers={1: 1, 3: 2}, hidden_share=0.5)))


def distill_runs() -> Iterator[tuple[str, list[str]]]:
    """Run name, and the arguments of the command that makes it, in an order in which later runs may use
    earlier ones.
    """
    teachers = {
        "causal-lm": ("llama", "text.txt"),
        "masked-lm": ("masked", "text.txt"),
        "classification": ("bert", "labelled.jsonl"),
        "embedding": ("encoder", "text.txt"),
    }

    def of(kind: str, *more: str, steps: int = 8) -> list[str]:
        model, data = teachers[kind]
        given = ["distill", "--task.kind", kind, "--task.data", data, "--teacher.model", model]
        return [*given, *BATCH, *SIZES, "--budget.steps", str(steps), *more]

    for kind in teachers:
        for curriculum in ("supervised", "one-shot", "extraction"):
            if (kind, curriculum) != ("embedding", "supervised"):
                yield f"{kind}-{curriculum}", of(kind, "--curriculum", curriculum, steps=20)
    yield "joint", of("causal-lm", "--curriculum", "joint.yaml")
    yield "layers", of("causal-lm", "--curriculum", "layers.yaml")
    for projection in ("gaussian", "sparse", "learned"):
        yield projection, of("masked-lm", "--extraction.projection", projection, steps=20)
    yield "random", of("classification", "--student.init", "random", "--curriculum", "one-shot")
    yield (
        "copied",
        of(
            "causal-lm",
            "--student.init",
            "teacher-layers",
            "--student.hidden",
            "48",
            "--curriculum",
            "one-shot",
        ),
    )
    given = of("causal-lm", "--student.model", "start", "--curriculum", "one-shot")
    for size in ("--student.layers", "--student.hidden"):
        at = given.index(size)
        given = given[:at] + given[at + 2 :]
    yield "started", given
    loss = ["--loss.alpha", "0.3", "--loss.top_k", "5", "--loss.divergence", "reverse-kl"]
    yield "losses", of("causal-lm", "--curriculum", "one-shot", *loss)
    yield "accumulated", of("masked-lm", "--training.gradient_accumulation_steps", "3", "--seed", "4")
    yield "per-stage", of("classification", "--optimizer", "per-stage", "--schedule", "carried", steps=20)
    teach = [
        "teach",
        "--task.kind",
        "causal-lm",
        "--task.data",
        "text.txt",
        "--task.max_length",
        "16",
        *BATCH,
    ]
    teach += [
        "--model.family",
        "llama",
        "--model.layers",
        "2",
        "--model.hidden",
        "32",
        "--model.vocab_size",
        "300",
    ]
    yield "taught", [*teach, "--budget.steps", "12", "--keep_every", "4"]
    series = ["--teacher.model", "taught/student", "--teacher.checkpoints", "taught/stages/00-labels"]
    given = ["distill", "--task.kind", "causal-lm", "--task.data", "text.txt", *series, *BATCH, *SIZES]
    yield "progressive", [*given, "--curriculum", "progressive", "--budget.steps", "9"]
    yield "p-shot", [*given, "--curriculum", "p-shot", "--checkpoints", "[4]", "--budget.steps", "9"]
    cached = of("causal-lm", "--curriculum", "extraction", steps=20)
    yield "cache", ["cache", *cached[1:], "--cache.path", "signals"]
    yield "from-cache", [*cached, "--cache.path", "signals"]
    law = ["teach", "--task.kind", "classification", "--task.data", "parity:n=8,k=2,seed=0", *BATCH]
    law += ["--model.family", "gpt2", "--model.layers", "1", "--model.hidden", "16", "--model.heads", "2"]
    yield "law", [*law, "--task.max_eval", "16", "--budget.steps", "6"]
    parity = [
        "--task.kind",
        "parity",
        "--task.n",
        "12",
        "--task.k",
        "2",
        "--task.eval_samples",
        "64",
        "--quiet",
    ]
    parity += ["--training.eval_every", "100", "--training.threads", "1"]
    taught = [*parity, "--student.width", "24", "--budget.steps", "300", "--training.save_every", "100"]
    yield "two-layer-teacher", ["teach", *taught]
    student = ["distill", *parity, "--student.width", "5", "--budget.steps", "200"]
    student += ["--teacher.model", "two-layer-teacher"]
    for curriculum in ("supervised", "one-shot", "extraction", "progressive"):
        yield f"two-layer-{curriculum}", [*student, "--curriculum", curriculum]
    yield "two-layer-hinge", [*student, "--curriculum", "one-shot", "--training.batch_size", "4"]
    tree = ["teach", "--task.kind", "hierarchical-parity", "--task.n", "12", "--task.k", "2", "--quiet"]
    tree += [
        "--task.classes",
        "4",
        "--student.width",
        "16",
        "--budget.steps",
        "200",
        "--training.threads",
        "1",
    ]
    yield "hierarchical", tree


def killed_and_resumed(name: str, argv: list[str], after: str) -> None:
    """Kills the run once `after` is there, and resumes it."""
    command = [sys.executable, "-m", "vigreux", *argv, "--output", name]
    process = subprocess.Popen(command)
    while not list(Path(name).glob(after)) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert main([*argv, "--output", name, "--resume"]) == 0


def digest(student: Path) -> str:
    """SHA-256 of the names, types, shapes and bytes of all tensors in a student folder."""
    total = hashlib.sha256()
    for file in sorted(student.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in sorted(opened.keys()):
                tensor = opened.get_tensor(name).contiguous()
                total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                total.update(tensor.flatten().view(torch.uint8).numpy())
    return total.hexdigest()


def hashes() -> dict[str, str]:
    """The hash of every run, made in the current folder."""
    prepare(Path())
    results = {}
    runs = dict(distill_runs())
    for name, argv in runs.items():
        output = [] if argv[0] == "cache" else ["--output", name]
        assert main([*argv, *output]) == 0, name
        if output:
            results[name] = digest(Path(name) / "student")
    for name, points in {
        "causal-lm-extraction": "stages/01-*/checkpoint-*/manifest.json",
        "gaussian": "initial/*",
    }.items():
        argv = [*runs[name], "--training.save_steps", "2"]
        killed_and_resumed(f"{name}-resumed", argv, points)
        results[f"{name}-resumed"] = digest(Path(f"{name}-resumed/student"))
        assert results[f"{name}-resumed"] == results[name], f"{name}: another student after a resume"
    environment = os.environ | {"ACCELERATE_USE_CPU": "true"}
    for name in ("causal-lm-extraction", "classification-one-shot"):
        argv = [*runs[name], "--training.per_device_train_batch_size", "2", "--output", f"{name}-two"]
        subprocess.run([*LAUNCH, *argv], check=True, env=environment)
        results[f"{name}-two"] = digest(Path(f"{name}-two/student"))
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", type=Path, help="keep the hashes in this file")
    parser.add_argument("--check", type=Path, help="compare with the hashes in this file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VIGREUX_CACHE"] = str(Path(folder) / "cache")
        os.chdir(folder)
        found = hashes()
        os.chdir(here)
    if given.write:
        given.write.write_text(json.dumps(found, indent=1) + "\n")
    if given.check:
        before = json.loads(given.check.read_text())
        different = sorted(name for name in before | found if before.get(name) != found.get(name))
        print(f"{len(found)} runs; different: {', '.join(different) or 'none'}")
        sys.exit(bool(different))
