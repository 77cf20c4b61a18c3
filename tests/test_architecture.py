"""The house's rules (docs/architecture.md): directions of imports, a light import, sizes."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import vigreux

SOURCE = Path(vigreux.__file__).parent

# The rooms, from the ground up. A room imports from the rows above its row, never from a room beside it.
# "ground" is the top level's modules.
LEVELS = (
    {"ground"},
    {"files"},
    {"downloads", "selection"},
    {"curriculum"},
    {"config"},
    {"plan"},
    {"run"},
    {"kernels"},
    {"tasks", "models"},
    {"distillation", "probes"},
    {"loop"},
    {"backends"},
    {"assembly"},
    {"report"},
    {"sweeps"},
    {"claims"},
    {"cli"},
)
# These rooms read less than the levels allow.
NARROWER = {
    "kernels": {"ground"},
    "report": {"ground", "files", "selection", "curriculum", "config", "plan", "run"},
    "models": {"ground", "files", "downloads", "curriculum", "config"},
}
ALLOWED = {
    room: NARROWER.get(room, set().union(*LEVELS[:level]))
    for level, rooms in enumerate(LEVELS)
    for room in rooms
}
# the public names of the package and `python -m vigreux` reach down from the top
ENTRY_POINTS = {"__init__.py", "__main__.py", "api.py", "runs.py"}


def part_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ALLOWED else "ground"


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
        part = relative.parts[0] if relative.parts[0] in ALLOWED else "ground"
        for module in imported(path):
            if module.split(".")[0] == "vigreux" and part_of(module) not in ALLOWED[part] | {part}:
                yield f"{relative} imports {module}"


def test_imports_go_one_way():
    assert list(wrong_imports(SOURCE)) == []


def test_the_check_sees_a_wrong_import(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bad.py").write_text(
        "from vigreux.backends.transformer.backend import TransformerBackend\n"
    )
    assert list(wrong_imports(tmp_path)) == ["models/bad.py imports vigreux.backends.transformer.backend"]


def import_circle(source: Path) -> list[str]:
    """The modules of a circle of imports, those under TYPE_CHECKING included; empty where there is none."""
    names = {
        path: ".".join(("vigreux", *path.relative_to(source).with_suffix("").parts))
        for path in source.rglob("*.py")
    }
    modules = set(names.values())
    imports = {
        name: {module for module in imported(path) if module in modules} - {name}
        for path, name in names.items()
        if path.name != "__init__.py"
    }
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_there_is_no_circle_of_imports():
    assert import_circle(SOURCE) == []


def test_the_check_sees_a_circle(tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "a.py").write_text("from vigreux.tasks.b import B\n")
    (tmp_path / "tasks" / "b.py").write_text("from vigreux.tasks.a import A\n")
    assert set(import_circle(tmp_path)) == {"vigreux.tasks.a", "vigreux.tasks.b"}


def run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_vigreux_loads_nothing_heavy():
    run(
        "import vigreux, sys; assert not {'torch','transformers','numba','datasets','matplotlib'} &"
        " set(sys.modules)"
    )


def test_help_loads_nothing_heavy():
    run(
        "import sys; from vigreux.cli.main import main; assert main(['--help']) == 0;"
        "assert not {'torch','transformers','numba','datasets','matplotlib'} & set(sys.modules)"
    )


def test_pure_modules_load_no_torch():
    run(
        "import sys, vigreux.curriculum.recipes, vigreux.curriculum.serialize, vigreux.config.transformer;"
        "import vigreux.run.folder, vigreux.plan.cost;"
        "assert not {'torch','transformers','numba'} & set(sys.modules)"
    )


# --- sizes --------------------------------------------------------------------------------------------------

LONGEST_MODULE, LONGEST_FUNCTION = 400, 50


def function_length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, the docstring left out."""
    length = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        length -= docstring.end_lineno - docstring.lineno + 1
    return length


def too_long(source: Path) -> tuple[set[str], set[str]]:
    """Modules and functions above the limits."""
    modules, functions = set(), set()
    for path in source.rglob("*.py"):
        name, text = path.relative_to(source).as_posix(), path.read_text()
        if text.count("\n") > LONGEST_MODULE:
            modules.add(name)
        functions |= {
            f"{name}: {node.name}"
            for node in ast.walk(ast.parse(text))
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            and function_length(node) > LONGEST_FUNCTION
        }
    return modules, functions


def test_no_module_and_no_function_is_too_long():
    assert too_long(SOURCE) == (set(), set())


def test_the_check_sees_what_is_too_long(tmp_path):
    def lines(count: int) -> str:
        return "    x = 1\n" * count

    (tmp_path / "a.py").write_text(
        f'def short():\n    """One.\n\n    Two.\n    """\n{lines(49)}\n\ndef long():\n{lines(50)}'
    )
    (tmp_path / "b.py").write_text("x = 1\n" * 401)
    assert too_long(tmp_path) == ({"b.py"}, {"a.py: long"})
