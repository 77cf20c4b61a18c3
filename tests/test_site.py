"""The documentation site names everything that it should: public names, commands, and every page
in the menu.
"""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import vigreux
from tests.test_architecture import LEVELS
from vigreux.cli.main import COMMANDS
from vigreux.config.transformer import RunConfig, TeachConfig
from vigreux.config.tree import build, check_content, leaf_types
from vigreux.config.two_layer import TwoLayerConfig
from vigreux.curriculum.serialize import from_yaml

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
# what docs/site/hooks.py makes
GENERATED = {"changelog.md", "contributing.md", "examples.md"}


def test_every_public_name_is_in_the_api_reference():
    documented = re.findall(r"^::: vigreux\.(\w+)$", (DOCS / "api.md").read_text(), flags=re.MULTILINE)
    assert sorted([*documented, "Curriculum"]) == sorted(vigreux.__all__)


def test_every_command_has_a_section():
    sections = re.findall(r"^## ([a-z]+)$", (DOCS / "commands.md").read_text(), flags=re.MULTILINE)
    assert set(sections) == set(COMMANDS)


def test_every_page_is_in_the_menu():
    menu = re.findall(r"- .+: ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE)
    assert sorted(menu) == sorted({path.name for path in DOCS.glob("*.md")} | GENERATED)


def test_the_page_on_architecture_has_every_room():
    rooms = re.findall(r"^\| `(\w+)/` \|", (DOCS / "architecture.md").read_text(), flags=re.MULTILINE)
    level_of = {room: level for level, names in enumerate(LEVELS) for room in names if room != "ground"}
    assert set(rooms) == set(level_of)
    assert [level_of[room] for room in rooms] == sorted(level_of.values())


def test_links_between_pages_lead_to_files():
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            assert (DOCS / target).exists() or target in GENERATED, f"{page.name}: {target}"


def blocks(language):
    """The code blocks of a language on all pages."""
    found = []
    for page in [*sorted(DOCS.glob("*.md")), ROOT / "README.md"]:
        for code in re.findall(rf"```{language}[^\n]*\n(.*?)```", page.read_text(), flags=re.DOTALL):
            found.append(pytest.param(code, id=f"{page.stem}: {code.splitlines()[0]}"))
    return found


@pytest.mark.parametrize("code", blocks("yaml"))
def test_yaml_on_the_pages_is_valid(code):
    content = yaml.safe_load(code)
    stages = content if isinstance(content, list) else content.get("curriculum")
    if isinstance(stages, list):
        named = [{"name": f"stage-{index}"} | stage for index, stage in enumerate(stages)]
        assert from_yaml(yaml.safe_dump(named))
    if isinstance(content, dict):
        cls = TeachConfig if "model" in content else RunConfig
        assert build(cls(), check_content(content, cls, "the page"))


@pytest.mark.parametrize("code", blocks("python"))
def test_python_on_the_pages_imports_and_parses(code):
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "vx":
            assert node.attr in vigreux.__all__


@pytest.mark.parametrize("code", blocks("bash"))
def test_commands_on_the_pages_have_known_options(code):
    options = {name for cls in (RunConfig, TeachConfig, TwoLayerConfig) for name in leaf_types(cls)}
    for line in code.replace("\\\n", " ").splitlines():
        command = re.search(r"\bvigreux +([a-z]+)(.*)", line.split("#")[0])
        if command is None or "install" in line:
            continue
        assert command[1] in COMMANDS, line
        dotted = set(re.findall(r"--([\w.]*\.\w+)", command[2]))
        assert {name for name in dotted if not name.startswith("training.")} <= options, line


def test_lines_have_at_most_110_columns():
    pages = [*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    for page in pages:
        text = re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", "", page.read_text(), flags=re.DOTALL)
        for line in text.splitlines():
            assert len(line) <= 110 or line.startswith("|"), f"{page.name}: {line}"
