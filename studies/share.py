"""How long the intermediate checkpoint of a 2-shot student should teach, on C9's grammar: results/share.json, docs/grammars.md.

    python studies/share.py        # after vigreux reproduce C9: its teacher, one-shot and half-and-half students are read

C9 was first run with the 15 % that are the default of p-shot, and then with 50 %.
"""

from __future__ import annotations

from pathlib import Path

from vigreux.claims.common.grammar_students import AFTER, BEFORE, MIDDLE, grammar_teacher, phases

from vigreux.claims.common.grammar import SETTINGS
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.variants import Variant, compared, parser, save, table

RESULTS = Path(__file__).resolve().parent.parent / "results"


def _default_share(step: int) -> Variant:
    return lambda settings, seed: settings.student("p-shot", seed, checkpoints=[step])


def _half(step: int) -> Variant:
    return lambda settings, seed: settings.two_shot(step, seed)


def main() -> None:
    options = parser(__doc__, RESULTS / "share.json").parse_args()
    settings, lab = SETTINGS[options.preset], Lab(options.runs, options.save.parent, quiet=True)
    teacher = grammar_teacher(lab, settings)
    found = phases(teacher)
    variants: dict[str, Variant] = {"one-shot": lambda settings, seed: settings.student("one-shot", seed)}
    for name, key in ((BEFORE, "before"), (MIDDLE, "middle"), (AFTER, "after")):
        variants |= {
            f"{name}, 15 %": _default_share(int(found[key])),
            f"{name}, 50 %": _half(int(found[key])),
        }
    document = compared(lab, teacher, settings, variants, "grammar-")
    save(document, options.save)
    print(table(document["rows"]))


if __name__ == "__main__":
    main()
