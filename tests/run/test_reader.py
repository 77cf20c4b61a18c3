"""What a run folder says of itself to those that only read it."""

from dataclasses import replace

from tests.run.test_folder import STAGE, create
from vigreux.run.checkpoints import checkpoint_path, write_manifest
from vigreux.run.reader import RunReader


def checkpoint(directory, step, *, complete=True):
    path = checkpoint_path(directory, step)
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"weights")
    if complete:
        write_manifest(path)
    return path


def test_checkpoints_of_all_stages_count_the_steps_of_the_run(tmp_path):
    with create(tmp_path) as run:
        first, second, third = (run.stage_dir(i, name) for i, name in enumerate(("a", "b-2", "c")))
        paths = [checkpoint(first, 4), checkpoint(first, 10), checkpoint(second, 4), checkpoint(third, 3)]
        checkpoint(third, 6, complete=False)
        run.finish_stage(replace(STAGE, name="a", steps=10))
        run.finish_stage(replace(STAGE, name="b-2", steps=5))
    reader = RunReader.open(tmp_path)
    assert reader.stage_dirs() == {0: first, 1: second, 2: third}
    checkpoints = reader.checkpoints()
    assert [(each.stage, each.step, each.global_step) for each in checkpoints] == [
        (0, 4, 4),
        (0, 10, 10),
        (1, 4, 14),
        (2, 3, 18),
    ]
    assert [each.path for each in checkpoints] == paths


def test_a_run_to_be_made_has_its_paths(tmp_path):
    reader = RunReader(tmp_path / "run")
    assert not reader.exists
    assert reader.stage_dirs() == {}
    assert reader.student == tmp_path / "run" / "student"
    assert reader.initial == tmp_path / "run" / "initial"
