"""The documentation site names everything that it should: public names, commands, and every page in the menu."""

import re
from pathlib import Path

import vigreux
from tests.test_architecture import LEVELS
from vigreux.cli.main import COMMANDS

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


def test_lines_have_at_most_110_columns():
    pages = [*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    for page in pages:
        text = re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", "", page.read_text(), flags=re.DOTALL)
        for line in text.splitlines():
            assert len(line) <= 110 or line.startswith("|"), f"{page.name}: {line}"
