"""The direction of imports (docs/architecture.md), read from the import statements; and that importing the library stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import vigreux

SOURCE = Path(vigreux.__file__).parent

# each part with the parts it may import from, apart from itself; the top level's modules are "core"
ALLOWED = {
    "core": set(),
    "tasks": {"core", "kernels"},
    "models": {"core"},
    "kernels": {"core"},
    "distillation": {"core", "tasks", "models", "kernels"},
    "probes": {"core", "tasks", "models", "kernels"},
    "engines": {"core", "tasks", "models", "kernels", "distillation", "probes"},
    "assembly": {"core", "tasks", "models", "distillation", "probes", "engines"},
    "report": {"core"},
    "experiments": {
        "core",
        "tasks",
        "models",
        "kernels",
        "distillation",
        "probes",
        "engines",
        "assembly",
        "report",
    },
    "cli": {
        "core",
        "tasks",
        "models",
        "kernels",
        "distillation",
        "probes",
        "engines",
        "assembly",
        "report",
        "experiments",
    },
}
# the public names of the package and `python -m vigreux` reach down from the top
ENTRY_POINTS = {"__init__.py", "__main__.py", "api.py"}


def part_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ALLOWED else "core"


def imported(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def wrong_imports(source: Path):
    for path in sorted(source.rglob("*.py")):
        relative = path.relative_to(source)
        if str(relative) in ENTRY_POINTS:
            continue
        part = relative.parts[0] if relative.parts[0] in ALLOWED else "core"
        for module in imported(path):
            if module.split(".")[0] == "vigreux" and part_of(module) not in ALLOWED[part] | {part}:
                yield f"{relative} imports {module}"


def test_imports_go_one_way():
    assert list(wrong_imports(SOURCE)) == []


def test_the_check_sees_a_wrong_import(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bad.py").write_text("from vigreux.engines.trainer import CurriculumEngine\n")
    assert list(wrong_imports(tmp_path)) == ["models/bad.py imports vigreux.engines.trainer"]


def run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_vigreux_loads_nothing_heavy():
    run(
        "import vigreux, sys; assert not {'torch','transformers','numba','datasets','matplotlib'} & set(sys.modules)"
    )


def test_help_loads_nothing_heavy():
    run(
        "import sys; from vigreux.cli.main import main; assert main(['--help']) == 0;"
        "assert not {'torch','transformers','numba','datasets','matplotlib','jsonargparse'} & set(sys.modules)"
    )


def test_pure_modules_load_no_torch():
    run(
        "import sys, vigreux.curriculum, vigreux.recipes, vigreux.plain, vigreux.config, vigreux.runs, vigreux.cost;"
        "assert not {'torch','transformers','numba'} & set(sys.modules)"
    )
