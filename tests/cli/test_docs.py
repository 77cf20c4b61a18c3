"""The commands of the pages about caches and machines run, on a tiny configuration."""

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Vigreux
from tests.cli.tiny import make_tiny, save_llama

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("cache", "scaling")


def commands(page: str) -> list[list[str]]:
    """The lines of its bash blocks that begin with vigreux, without comments."""
    blocks = (ROOT / "docs" / f"{page}.md").read_text().split("```bash\n")[1:]
    scripts = [block.split("```")[0].replace("\\\n", " ") for block in blocks]
    lines = [line.split("#")[0].split() for script in scripts for line in script.splitlines()]
    return [line[1:] for line in lines if line and line[0] == "vigreux"]


@pytest.mark.filterwarnings("ignore:stage .* explained variance")
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_the_page(page: str, vigreux: Vigreux, tmp_path: Path) -> None:
    tiny = make_tiny(tmp_path)
    teacher = save_llama(tmp_path / "teacher", tiny.bpe)
    (tmp_path / "CONFIG.yaml").write_text(
        f"teacher: {{model: {teacher}}}\n"
        f"task: {{kind: causal-lm, data: {tiny.text}, max_length: 16}}\n"
        "student: {layers: 2, hidden: 16}\nbudget: {steps: 4}\noutput: runs/own\n"
        "training: {per_device_train_batch_size: 4, per_device_eval_batch_size: 8, use_cpu: true}\n"
    )
    found = commands(page)
    assert len(found) > 1
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for command in found:
        done = vigreux(*command)
        assert done.code == 0, (command, done.err)
