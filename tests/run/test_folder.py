import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.backends.transformer.tiny import Killed, killed_at
from vigreux.curriculum import recipes
from vigreux.curriculum import serialize as plain
from vigreux.errors import CheckpointError, TrainingError
from vigreux.files import atomic as files
from vigreux.run import folder as runs
from vigreux.run import identity
from vigreux.run.folder import RunFolder, StageRecord, Summary

CONFIG = {
    "task": {"kind": "causal-lm", "data": "text"},
    "curriculum": "extraction",
    "extraction": {"layers": {2: 1, 4: 2}},
    "loss": {"temperature": 1e-20},
    "training": {"learning_rate": 5e-4, "logging_steps": 10},
    "seed": 3,
    "output": "runs/a",
}
STAGES = plain.to_plain(recipes.one_shot())
SUMMARY = Summary(
    {"loss": 4.5}, steps=20, flops=1e12, seconds=8.0, bytes_kept=10, teacher_bytes=10, notes=("short",)
)
STAGE = StageRecord(
    "final", "logits", None, 20, 8.0, 6e11, 4e11, first_loss=9.0, last_loss=4.6, notes=("a note",)
)


def create(path: Path, config: dict = CONFIG) -> RunFolder:
    return RunFolder.create(path, config, STAGES, command="vigreux distill a.yaml")


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def record(step: int, **more: object) -> dict:
    return {
        "kind": "train",
        "stage": "final",
        "step": step,
        "global_step": step,
        "flops": 1e9 * step,
        "loss": 1 / step,
        **more,
    }


# --- configurations -----------------------------------------------------------------------------------------


def test_the_fields_that_do_not_count():
    other = {
        **CONFIG,
        "output": "b",
        "training": {"learning_rate": 5e-4, "report_to": "none", "logging_steps": 5},
    }
    assert identity.relevant(CONFIG) == identity.relevant(other)
    assert identity.config_hash(CONFIG) == identity.config_hash(other)
    assert "output" in CONFIG
    assert identity.config_hash(CONFIG) != identity.config_hash({**CONFIG, "seed": 4})


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"seed": 1, "list": [1, {"a": 2}]}, None),
        ({"seed": 2, "list": [1, {"a": 3}]}, "seed: 1 in the folder, 2 now"),
        ({"seed": 1, "list": [1, {"a": 3}]}, "list[1].a: 2 in the folder, 3 now"),
        ({"seed": 1, "list": [1]}, 'list: [1, {"a": 2}] in the folder, [1] now'),
        ({"seed": 1}, 'list: [1, {"a": 2}] in the folder, not set now'),
        ({"seed": 1, "list": [1, {"a": 2}], "new": None}, "new: not set in the folder, null now"),
    ],
)
def test_first_difference(found, message):
    assert identity.first_difference({"seed": 1, "list": [1, {"a": 2}]}, found) == message


# --- the run folder -----------------------------------------------------------------------------------------


def test_a_run_from_start_to_end(tmp_path):
    path = tmp_path / "deep" / "run"
    with create(path) as run:
        assert run.status == "running"
        run.log_metrics(record(10))
        run.log_metrics({**record(20), "kind": "eval"})
        run.finish_stage(STAGE)
        assert run.stage_dir(0, "final") == path / "stages" / "00-final"
        run.finish(SUMMARY)
    read = RunFolder.open(path)
    assert (read.status, read.config(), read.curriculum()) == ("finished", CONFIG, STAGES)
    assert [r["step"] for r in read.metrics()] == [10, 20]
    assert [r["step"] for r in read.metrics("eval")] == [20]
    assert (read.stages(), read.summary()) == ([STAGE], SUMMARY)
    info = read.info()
    assert (info["name"], info["seed"], info["command"]) == ("extraction", 3, "vigreux distill a.yaml")
    assert info["config_hash"] == identity.config_hash(CONFIG)
    assert set(info["versions"]) == {"vigreux", "torch", "transformers"}


@pytest.mark.parametrize(
    ("asked", "name"),
    [("one-shot", "one-shot"), ("curricula/mine.yaml", "mine"), ([{"target": "labels"}], "custom")],
)
def test_the_name_of_a_curriculum(tmp_path, asked, name):
    assert create(tmp_path / "run", {**CONFIG, "curriculum": asked}).info()["name"] == name


def test_an_exception_marks_the_run_as_failed_and_resume_goes_on(tmp_path):
    with pytest.raises(ValueError), create(tmp_path / "run") as run:
        raise ValueError("loss is\nnan")
    assert run.status == "failed"
    assert run.info()["failure"] == "loss is nan"
    assert run.summary() is None
    with RunFolder.resume(tmp_path / "run", CONFIG, STAGES) as again:
        assert again.status == "running"
        assert again.info()["failure"] is None
        assert len(again.info()["resumed"]) == 1


def test_fail_on_a_full_disk_does_not_hide_the_reason(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    run = create(tmp_path / "run")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(ValueError, match="the reason"), run:
        raise ValueError("the reason")


def test_resume_repairs_and_truncates(tmp_path):
    checkpoint = tmp_path / "checkpoint-20"
    checkpoint.mkdir()
    run = create(tmp_path / "run")
    for step in (10, 20, 30):
        run.log_metrics(record(step))
        if step == 20:
            run.copy_metrics(checkpoint)
    run.finish_stage(STAGE)
    run.finish_stage(STAGE)
    run.close()
    for name in ("metrics.jsonl", "stages.jsonl"):
        with open(run.path / name, "ab") as file:
            file.write(b'{"torn": ')
    with RunFolder.resume(run.path, {**CONFIG, "output": "elsewhere"}) as again:
        again.restore_metrics(checkpoint, 20)
        again.truncate_stages(1)
        again.log_metrics(record(25))
        again.finish_stage(STAGE)
        assert [r["step"] for r in again.metrics()] == [10, 20, 25]
        assert again.stages() == [STAGE, STAGE]


def test_a_finished_run_is_resumed_as_it_is(tmp_path):
    with create(tmp_path / "run") as run:
        run.finish(SUMMARY)
    before = (run.path / "run.json").read_bytes()
    with RunFolder.resume(run.path, CONFIG) as again:
        assert again.status == "finished"
    assert (run.path / "run.json").read_bytes() == before


def test_another_configuration_names_the_first_field(tmp_path):
    with create(tmp_path / "run") as run:
        pass
    other = {**CONFIG, "training": {**CONFIG["training"], "learning_rate": 1e-3}}
    with pytest.raises(CheckpointError) as error:
        RunFolder.resume(run.path, other)
    assert one_line(error) == (
        f"{run.path}: belongs to another configuration: training.learning_rate: 0.0005 in the folder, 0.001"
        " now; accepted: the same configuration, or another output"
    )


def test_a_setting_that_is_newer_than_the_run_has_its_default(tmp_path):
    with create(tmp_path / "run"):
        pass
    newer = {**CONFIG, "training": {**CONFIG["training"], "new": 3}, "section": {"a": 1, "b": {"c": 2}}}
    with RunFolder.resume(tmp_path / "run", newer, defaults=newer):
        pass
    with pytest.raises(CheckpointError, match=r"training.new: not set in the folder, 3 now"):
        RunFolder.resume(tmp_path / "run", newer)
    with pytest.raises(CheckpointError, match=r"section.b.c: 2 in the folder, 5 now"):
        RunFolder.resume(tmp_path / "run", {**newer, "section": {"a": 1, "b": {"c": 5}}}, defaults=newer)


def test_another_number_of_processes_takes_as_many_samples(tmp_path, monkeypatch):
    training = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}
    monkeypatch.setenv("WORLD_SIZE", "4")
    with create(tmp_path / "run", {**CONFIG, "training": training}):
        pass
    monkeypatch.setenv("WORLD_SIZE", "2")
    with RunFolder.resume(tmp_path / "run", {**CONFIG, "training": {"per_device_train_batch_size": 24}}):
        pass
    with pytest.raises(CheckpointError) as error:
        RunFolder.resume(tmp_path / "run", {**CONFIG, "training": training})
    assert one_line(error) == (
        f"{tmp_path / 'run'}: 4 processes took 48 samples a step, and 2 would take 24; accepted:"
        " training.per_device_train_batch_size × training.gradient_accumulation_steps × processes = 48"
    )
    with pytest.raises(CheckpointError, match=r"belongs to another configuration: training.learning_rate"):
        RunFolder.resume(
            tmp_path / "run",
            {**CONFIG, "training": {"per_device_train_batch_size": 24, "learning_rate": 1.0}},
        )


def test_a_finished_run_is_finished_on_any_number_of_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with create(tmp_path / "run") as run:
        run.finish(SUMMARY)
    monkeypatch.setenv("WORLD_SIZE", "1")
    with RunFolder.resume(tmp_path / "run", CONFIG) as again:
        assert again.status == "finished"


def test_other_stages_under_the_same_configuration(tmp_path):
    with create(tmp_path / "run") as run:
        pass
    with pytest.raises(
        CheckpointError, match=r"curriculum\[0\].duration.share: 1.0 in the folder, not set now"
    ):
        RunFolder.resume(run.path, CONFIG, [{**STAGES[0], "duration": {"steps": 5}}])


def test_create_refuses_what_is_there(tmp_path):
    with create(tmp_path / "finished") as run:
        run.finish(SUMMARY)
    with create(tmp_path / "failed") as run:
        run.fail("no more data")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years")
    (tmp_path / "file").write_text("x")
    expected = {
        "finished": "already holds a run (finished); accepted: another output",
        "other": "is not empty and not a run folder (it holds thesis.tex); accepted: a new or empty folder",
        "file": "is a file; accepted: a new or empty folder",
    }
    for name, message in expected.items():
        with pytest.raises(CheckpointError) as error:
            create(tmp_path / name)
        assert one_line(error) == f"{tmp_path / name}: {message}"
    with pytest.raises(CheckpointError, match="accepted: --resume to continue it, or another output"):
        create(tmp_path / "failed")
    assert (tmp_path / "other" / "thesis.tex").read_text() == "years"
    assert sorted(path.name for path in (tmp_path / "other").iterdir()) == ["thesis.tex"]


def test_create_takes_an_empty_folder_and_what_a_kill_at_once_leaves(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".run.json.123.tmp").write_text("{")
    with create(tmp_path) as run:
        assert run.config() == CONFIG


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError) as error:
        create(tmp_path / "file" / "run")
    assert one_line(error) == (
        f"{tmp_path / 'file' / 'run'}: cannot be written (Not a directory); accepted: a writable"
        " output folder"
    )


def test_open_names_what_is_missing_or_damaged(tmp_path):
    with pytest.raises(CheckpointError, match=r"not a run folder \(run.json is missing\)$"):
        RunFolder.open(tmp_path)
    with create(tmp_path / "a") as run:
        pass
    with pytest.raises(CheckpointError, match=r"run folders inside it: a$"):
        RunFolder.open(tmp_path)
    (run.path / "config.yaml").write_text("a: [")
    assert run.config() == CONFIG  # a copy, for people to read: run.json holds it
    (run.path / "summary.json").write_text('{"metrics": {}}')
    with pytest.raises(CheckpointError, match=r"summary.json: is damaged \(steps: .*: Field required"):
        run.summary()
    (run.path / "run.json").write_text(
        (run.path / "run.json").read_text().replace("running", "runnins").replace("failed", "failes")
    )
    with pytest.raises(
        CheckpointError, match=r"run.json: is damaged \(its checksum does not match\)"
    ) as error:
        RunFolder.open(run.path)
    one_line(error)
    (run.path / "run.json").write_text('{"format": 1, "status": "done"}')
    with pytest.raises(CheckpointError, match=r"run.json: is damaged \(status: 'done': Input should be"):
        RunFolder.open(run.path)
    (run.path / "run.json").write_text(
        '{"format": 1, "status": "failed"}'
    )  # of an earlier version: no checksum
    with pytest.raises(CheckpointError, match=r"config.yaml: is damaged"):
        RunFolder.open(run.path).config()
    (run.path / "run.json").write_text('{"format": 99}')
    with pytest.raises(CheckpointError, match="format 99; accepted: 1"):
        RunFolder.open(run.path)
    (run.path / "run.json").write_text("[]")
    with pytest.raises(CheckpointError, match="it holds a list instead of a dict"):
        RunFolder.open(run.path)


# --- two processes, and kills -------------------------------------------------------------------------------

WRITER = """
import sys
from vigreux.files.atomic import write_atomic
from vigreux.run.folder import RunFolder, StageRecord
run = RunFolder.create(sys.argv[1], {"seed": 0}, [])
print("ready", flush=True)
step = 0
while True:
    step += 1
    run.log_metrics({"kind": "train", "stage": "a", "step": step, "global_step": step, "text": "x" * 20000})
    write_atomic(run.path / "summary.json", '{"step": "' + "y" * 20000 + '"}')
"""


def start_writer(path: Path) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_processes_do_not_write_the_same_run(tmp_path):
    path = tmp_path / "run"
    process = start_writer(path)
    try:
        with pytest.raises(CheckpointError) as error:
            RunFolder.resume(path, {"seed": 0})
        assert f"is being written by process {process.pid} on " in one_line(error)
        assert RunFolder.open(path).status == "running"
        with pytest.raises(CheckpointError, match=r"already holds a run \(running\)"):
            create(path)
    finally:
        process.kill()
        process.wait()
    assert RunFolder.open(path).status == "stopped"


@pytest.mark.parametrize("after", [0.01, 0.03, 0.1])
def test_sigkill_at_any_time_leaves_whole_records(tmp_path, after):
    path = tmp_path / "run"
    process = start_writer(path)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with RunFolder.resume(path, {"seed": 0}) as run:
        steps = [r["global_step"] for r in run.metrics()]
        assert steps == list(range(1, len(steps) + 1))
        if (path / "summary.json").exists():
            assert len(json.loads((path / "summary.json").read_text())["step"]) == 20000
        run.log_metrics({"global_step": len(steps) + 1})
        assert len(run.metrics()) == len(steps) + 1


def test_the_lock_is_free_after_finish_in_another_process(tmp_path):
    with create(tmp_path / "run") as run:
        run.finish(SUMMARY)
        code = f"from vigreux.run.folder import RunFolder; RunFolder.open({str(run.path)!r})._take_lock()"
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- the start, whole or not at all -------------------------------------------------------------------------


@pytest.mark.parametrize("call", [1, 2, 3, 4])
@pytest.mark.parametrize("after", [False, True])
def test_a_start_that_is_killed_anywhere(call: int, after: bool, tmp_path: Path) -> None:
    """At the n-th file, before or after it is written: a new run takes the folder, or a resume goes on."""
    path = tmp_path / "run"
    with killed_at(runs, "write_atomic", call, after=after), pytest.raises(Killed):
        RunFolder.create(path, CONFIG, STAGES, plan="[]")
    if (path / "run.json").exists():
        with pytest.raises(CheckpointError, match="accepted: --resume to continue it, or another output"):
            create(path)
        run = RunFolder.resume(path, CONFIG, STAGES)
    else:
        assert (call, after) == (1, False), "run.json is the first file"
        run = RunFolder.create(path, CONFIG, STAGES, plan="[]")
    with run:
        assert run.config() == CONFIG
        assert run.curriculum() == STAGES
        assert run.text("plan.json") == "[]"
        for name in ("config.yaml", "curriculum.yaml", "plan.json"):
            assert (path / name).read_text() == run.text(name)
    assert RunFolder.open(path).status == "stopped"


def test_a_full_disk_at_the_start(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(TrainingError, match="the disk is full"):
        create(tmp_path / "run")
    monkeypatch.undo()
    with create(tmp_path / "run") as run:
        assert run.config() == CONFIG


def test_fingerprints_are_compared(tmp_path):
    prints = {"data": "a", "teacher (final)": "b", "student": "c"}
    RunFolder.create(tmp_path, CONFIG, STAGES, fingerprints=prints).close()
    for name in ("data", "teacher (final)"):
        with pytest.raises(CheckpointError) as error:
            RunFolder.resume(tmp_path, CONFIG, STAGES, fingerprints=prints | {name: "x"})
        assert one_line(error) == (
            f"{tmp_path}: began with other inputs ({name}); accepted: the same inputs, or another output"
        )
    with pytest.raises(CheckpointError, match=r"other inputs \(tokenizer\)"):
        RunFolder.resume(tmp_path, CONFIG, STAGES, fingerprints=prints | {"tokenizer": "x"})
    # the student's first weights are in the folder: what is handed over later does not matter
    RunFolder.resume(tmp_path, CONFIG, STAGES, fingerprints=prints | {"student": "x"}).close()


@pytest.mark.parametrize("place", range(0, 1500, 37))
def test_a_flipped_byte_of_run_json_is_found(place, tmp_path):
    run = create(tmp_path)
    run.close()
    data = bytearray((tmp_path / "run.json").read_bytes())
    place %= len(data)
    data[place] ^= 1
    (tmp_path / "run.json").write_bytes(data)
    before = run_contents(tmp_path)
    line = refused(tmp_path)
    if line is not None:
        assert "run.json" in line
        assert "\n" not in line
        assert run_contents(tmp_path) == before
    else:  # white space, or the name of the checksum: what the file holds is whole
        assert RunFolder.open(tmp_path).config() == CONFIG


def refused(path: Path) -> str | None:
    """The line that a resume is refused with; `None` where it goes on."""
    try:
        RunFolder.resume(path, CONFIG, STAGES).close()
    except CheckpointError as error:
        return str(error)
    return None


def run_contents(path: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in path.iterdir()}
