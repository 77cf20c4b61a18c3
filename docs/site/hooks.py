"""What the site takes from outside docs/: results, examples, changelog, and the options of the configuration.

The pages link to these files by their paths in the repository, so that the links work there as well. The
hooks copy the files into the site and turn the links.
"""

import json
import posixpath
import re
import sys
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "src"))

from vigreux.checks import field_types, words  # noqa: E402
from vigreux.cli.help import field_descriptions  # noqa: E402
from vigreux.config import transformer, two_layer  # noqa: E402

# file of the repository → page of the site
PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "README.md": "index.md"}
LANGUAGES = {".yaml": "yaml", ".py": "python", ".sh": "bash", ".json": "json"}
LINK = re.compile(r"(?<=\]\()((?:\.\./)*)([^)#\s:]+)(#[^)\s]*)?(?=\))")
CONFIGURATIONS = {
    "distill": transformer.RunConfig,
    "teach": transformer.TeachConfig,
    "two-layer": two_layer.TwoLayerConfig,
}


def on_files(files: Any, config: Any) -> Any:
    """Adds results, changelog and contributing guide, and one page that shows every example."""
    for path in sorted((ROOT / "results").rglob("*.*")):
        add_copy(files, config, path.relative_to(ROOT).as_posix(), path)
    for source in ("CHANGELOG.md", "CONTRIBUTING.md"):
        add_copy(files, config, PAGES[source], ROOT / source)
    files.append(File.generated(config, "examples.md", content=examples_page()))
    return files


def add_copy(files: Any, config: Any, uri: str, path: Path) -> None:
    """One file of the repository as a file of the site."""
    files.append(File.generated(config, uri, abs_src_path=str(path)))


def examples_page() -> str:
    """Every file of examples/ under its path."""
    lines = [
        "# Example files",
        "",
        "These files are in the folder `examples/` of the repository. The tests check that each of them is"
        " valid.",
        "",
    ]
    for path in sorted((ROOT / "examples").rglob("*.*")):
        if path.suffix in LANGUAGES:
            name = path.relative_to(ROOT).as_posix()
            lines += [
                f"## {name} {{ #{anchor(name)} }}",
                "",
                f"```{LANGUAGES[path.suffix]}",
                path.read_text().rstrip(),
                "```",
                "",
            ]
    return "\n".join(lines)


def anchor(name: str) -> str:
    """The anchor of an example on the page of examples."""
    return re.sub(r"[^a-z0-9]+", "-", name.removeprefix("examples/").lower())


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turns links to files of the repository, and fills in the tables of options."""
    folder = posixpath.dirname(page.file.src_uri)
    # the changelog and the contributing guide are written at the root of the repository
    base = (
        ""
        if page.file.src_uri in PAGES.values() and page.file.generated_by
        else posixpath.join("docs", folder)
    )

    def turned(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(base, match[1] + match[2]))
        fragment = match[3] or ""
        if target == "examples" or target.startswith("examples/"):
            where = "examples.md" + (f"#{anchor(target)}" if target != "examples" else "")
        elif target in PAGES:
            where = PAGES[target] + fragment
        elif target.startswith("results/"):
            where = target
        elif target.startswith("docs/"):
            where = target.removeprefix("docs/") + fragment
        else:
            return match[0]
        return posixpath.relpath(where, folder or ".") if not where.startswith("#") else where

    markdown = LINK.sub(turned, markdown)
    for name, cls in CONFIGURATIONS.items():
        markdown = markdown.replace(f"<!-- options of {name} -->", options(cls))
    markdown = markdown.replace("<!-- claims -->", claims())
    return markdown


def claims() -> str:
    """One row for each claim and preset: the verdict, and how many parts of the claim hold."""
    rows = ["| claim | preset | verdict | parts that hold |", "|---|---|---|---|"]
    results = [json.loads(path.read_text()) for path in (ROOT / "results").glob("C*.*.json")]
    for result in sorted(results, key=lambda result: (claim_number(result["claim"]), result["preset"])):
        held = [check["holds"] for check in result["checks"]]
        name = f"[{result['claim']}](results/{result['claim']}.{result['preset']}.json): {result['title']}"
        rows.append(f"| {name} | {result['preset']} | {result['verdict']} | {sum(held)} of {len(held)} |")
    return "\n".join(rows)


def claim_number(claim: str) -> tuple[int, str]:
    """C2 comes before C12."""
    return int("".join(character for character in claim if character.isdigit())), claim


def options(cls: type) -> str:
    """The options of a configuration: one table for the top level, one for each section."""
    sections = [(field.name, field_types(cls)[field.name]) for field in fields(cls)]
    nested = [(name, kind) for name, kind in sections if is_dataclass(kind)]
    tables = [f"### {name}\n\n{summary(kind)}\n\n{option_table(kind, f'{name}.')}" for name, kind in nested]
    return "\n\n".join([f"### Top level\n\n{option_table(cls, '')}", *tables])


def summary(cls: type) -> str:
    """The first sentence of a section's docstring."""
    return " ".join((cls.__doc__ or "").split("\n\n")[0].split())


def option_table(cls: type, prefix: str) -> str:
    """Name, default, accepted values and meaning of each option of a dataclass that is no section itself."""
    meaning = field_descriptions(cls)
    rows = ["| option | default | values | meaning |", "|---|---|---|---|"]
    for field in fields(cls):
        hint = field_types(cls)[field.name]
        if not is_dataclass(hint):
            cells = [
                f"`{prefix}{field.name}`",
                shown_default(field),
                words(hint),
                meaning.get(field.name, ""),
            ]
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def shown_default(field: Any) -> str:
    """The default as a YAML file would say it."""
    if field.default is MISSING or field.default in (None, ""):
        return "–"
    value = field.default
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
