"""What a resume refuses: other data, another teacher; and a comparison that goes on past what fails."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import vigreux.assembly.one_run as one_run
from tests.backends.transformer.tiny import killed_at
from tests.cli.conftest import Vigreux
from tests.cli.tiny import Tiny, documents, save_llama, write_text
from vigreux import api
from vigreux.backends.transformer.stage_trainer import StageTrainer
from vigreux.curriculum import recipes
from vigreux.distillation.signals.store import CacheStore
from vigreux.errors import CheckpointError, TrainingError
from vigreux.files.lock import FolderLock
from vigreux.run.folder import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore:stage .* explained variance")


def interrupt() -> None:
    raise KeyboardInterrupt


def interrupted(vigreux: Vigreux, *argv: object) -> None:
    with killed_at(StageTrainer, "compute_loss", 3, die=interrupt):
        assert vigreux(*argv).code == 130


@pytest.fixture
def given(tiny: Tiny, llama: Path, causal_config: Path, tmp_path: Path) -> list[object]:
    """A run on data and a teacher of its own, which may be changed."""
    shutil.copy(tiny.text, tmp_path / "text.txt")
    shutil.copytree(llama, tmp_path / "teacher")
    return ["distill", causal_config, "--task.data", "text.txt", "--teacher.model", "teacher", "--quiet"]


def test_other_data_and_another_teacher(
    vigreux: Vigreux, given: list[object], tiny: Tiny, tmp_path: Path
) -> None:
    interrupted(vigreux, *given)
    before = (tmp_path / "run" / "run.json").read_bytes()
    text = Path("text.txt").read_text()
    write_text(Path("text.txt"), documents(60, seed=5))
    refused = vigreux(*given, "--resume")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "run: began with other inputs (data); accepted: the same inputs, or another output" in refused.err
    Path("text.txt").write_text(text)
    shutil.move("teacher", "first")
    save_llama(Path("teacher"), tiny.bpe, seed=3)
    refused = vigreux(*given, "--resume")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "run: began with other inputs (teacher (final));" in refused.err
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    shutil.rmtree("teacher")
    shutil.move("first", "teacher")
    done = vigreux(*given, "--resume")
    assert done.code == 0, done.err


def test_a_run_of_an_earlier_version_goes_on(vigreux: Vigreux, given: list[object]) -> None:
    """Without fingerprints, checksums or copies; with one warning."""
    interrupted(vigreux, *given)
    run = RunFolder.open("run")
    info = {
        name: value for name, value in run.info().items() if name not in ("fingerprints", "files", "writer")
    }
    run._write_info(info)
    for copy in run.path.glob("stages/*/checkpoint-*/metrics.jsonl"):
        copy.unlink()
    done = vigreux(*given, "--resume")
    assert done.code == 0, done.err
    assert done.err.count("without fingerprints") == 1


def test_from_python(llama: Path, tiny: Tiny, tmp_path: Path) -> None:
    def rows(seed: int) -> list[dict[str, Any]]:
        draw = torch.Generator().manual_seed(seed)
        return [{"input_ids": torch.randint(5, 60, (8,), generator=draw).tolist()} for _ in range(16)]

    def run(*, data: int = 0, change: float = 0.0, steps: int = 4, resume: bool = True) -> None:
        teacher = AutoModelForCausalLM.from_pretrained(llama)
        with torch.no_grad():
            next(teacher.parameters()).add_(change)
        student = AutoModelForCausalLM.from_pretrained(llama)
        api.distill(
            student,
            teacher,
            recipes.one_shot(),
            train_dataset=rows(data),
            eval_dataset=rows(9),
            args=_arguments(tmp_path, steps),
            processing_class=tiny_tokenizer(llama),
            resume=resume,
            quiet=True,
        )

    with killed_at(StageTrainer, "compute_loss", 3, die=interrupt), pytest.raises(KeyboardInterrupt):
        run(resume=False)
    with pytest.raises(CheckpointError, match=r"other inputs \(data\)"):
        run(data=1)
    with pytest.raises(CheckpointError, match=r"other inputs \(teacher \(final\)\)"):
        run(change=1e-3)
    with pytest.raises(CheckpointError, match="another configuration: steps: 4 in the folder, 6 now"):
        run(steps=6)
    run()
    assert RunFolder.open(tmp_path / "run").status == "finished"


def _arguments(tmp_path: Path, steps: int) -> Any:
    from transformers import TrainingArguments

    return TrainingArguments(
        str(tmp_path / "run"), max_steps=steps, per_device_train_batch_size=4, use_cpu=True, report_to="none"
    )


def tiny_tokenizer(llama: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(llama)


# --- comparisons --------------------------------------------------------------------------------------------


def test_a_comparison_goes_on_past_a_run_that_fails(
    vigreux: Vigreux, causal_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distill_one, order = one_run.distill_one, []

    def failing(materials: Any, config: Any, **options: Any) -> Any:
        order.append(config.curriculum)
        if config.curriculum == "one-shot" and len(order) < 6:
            RunFolder.create(config.output, {"seed": config.seed}, []).fail("boom")
            raise TrainingError("stage 'final': the loss is nan at step 2")
        return distill_one(materials, config, **options)

    monkeypatch.setattr(one_run, "distill_one", failing)
    given = ["compare", causal_config, "--curricula", "supervised,one-shot,extraction", "--seeds", "1"]
    given += ["--budget.steps", "4", "--output", "grid", "--quiet"]
    done = vigreux(*given)
    assert done.code == 2
    assert order == ["supervised", "one-shot", "extraction"]
    assert "vigreux: one-shot-seed0 failed: stage 'final': the loss is nan at step 2" in done.err
    assert "1 of 3 runs failed (one-shot-seed0: stage 'final'" in done.err.splitlines()[-1]
    assert "report: grid/report.html" in done.out
    assert RunFolder.open("grid/extraction-seed0").status == "finished"
    shutil.rmtree("grid/one-shot-seed0")
    shutil.rmtree("grid/extraction-seed0")
    order += ["", "", ""]
    again = vigreux(*given, "--resume")
    assert again.code == 0, again.err
    assert order[-2:] == ["one-shot", "extraction"]


def test_two_comparisons_in_one_folder(vigreux: Vigreux, causal_config: Path, tmp_path: Path) -> None:
    (tmp_path / "grid").mkdir()
    lock = FolderLock(tmp_path / "grid")
    lock.take()
    refused = vigreux("compare", causal_config, "--output", "grid", "--quiet")
    lock.release()
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "grid: is being written by another comparison" in refused.err
    assert sorted(path.name for path in (tmp_path / "grid").iterdir()) == [".lock"]


# --- caches -------------------------------------------------------------------------------------------------


def test_a_cache_is_repaired_and_has_one_writer(
    vigreux: Vigreux, causal_config: Path, tmp_path: Path
) -> None:
    given = ["cache", causal_config, "--cache.path", "cache", "--quiet"]
    lock = FolderLock(tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    lock.take()
    refused = vigreux(*given)
    lock.release()
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "cache: is being written by another process" in refused.err
    assert vigreux(*given).code == 0
    cache = tmp_path / "cache"
    before = {path: path.read_bytes() for path in cache.rglob("*.safetensors")}
    for name in ("projections", "held-out"):
        (cache / f"{name}.safetensors").write_bytes(b"damaged")
        student = vigreux("distill", causal_config, "--cache.path", "cache", "--output", "run", "--quiet")
        assert (student.code, student.err.count("\n")) == (2, 1)
        assert "vigreux cache with the same configuration makes it alone again" in student.err
        assert not (tmp_path / "run").exists()
        repaired = vigreux(*given)
        assert repaired.code == 0, repaired.err
        assert {path: path.read_bytes() for path in cache.rglob("*.safetensors")} == before
    assert CacheStore.open(cache).missing("train", contents=True) == []
