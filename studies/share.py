"""How long a 2-shot student's checkpoint should teach, on C9's grammar: results/share.json, docs/grammars.md.

    python studies/share.py        # after vigreux reproduce C9, whose teacher and students it reads

C9 was first run with 15 % of the steps, the default of p-shot, and then with 50 %.
"""

from __future__ import annotations

from pathlib import Path

from vigreux.claims.common.claim import write_document
from vigreux.claims.common.grammar import SCALES, grammar_teacher
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.phases import AFTER, BEFORE, MIDDLE, phases_of
from vigreux.claims.common.variants import Variant, compare_variants, parser, table

RESULTS = Path(__file__).resolve().parent.parent / "results"


def default_share(step: int) -> Variant:
    """15 % of the steps on the checkpoint."""
    return lambda scale, seed: scale.student("p-shot", seed, checkpoints=[step])


def half(step: int) -> Variant:
    """Half of the steps on the checkpoint."""
    return lambda scale, seed: scale.two_shot(step, seed)


def main() -> None:
    """Trains, or reads, the students, and writes and prints the table."""
    options = parser(__doc__, RESULTS / "share.json").parse_args()
    scale = SCALES[options.preset]
    with Lab(options.runs, options.save.parent, quiet=True) as lab:
        teacher = grammar_teacher(lab, scale)
        phases = phases_of(teacher)
        variants: dict[str, Variant] = {"one-shot": lambda scale, seed: scale.student("one-shot", seed)}
        for name, key in ((BEFORE, "before"), (MIDDLE, "middle"), (AFTER, "after")):
            variants[f"{name}, 15 %"] = default_share(int(phases[key]))
            variants[f"{name}, 50 %"] = half(int(phases[key]))
        document = compare_variants(lab, teacher, scale, variants, "grammar-")
    write_document(document, options.save)
    print(table(document["rows"]))


if __name__ == "__main__":
    main()
