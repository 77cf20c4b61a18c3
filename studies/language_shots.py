"""2-shot students of an early checkpoint of C11's teacher: results/language-shots.json, docs/language.md.

    python studies/language_shots.py        # after vigreux reproduce C11, whose teacher and students it reads

C11 takes the checkpoint in the middle of the sharp drop, or the one at half of the run if the loss has no
drop. On a laptop it has none. So these students were added afterwards: their checkpoint is at a fifth of the
run, where the loss falls.
"""

from __future__ import annotations

from pathlib import Path

from vigreux.claims.common.claim import write_document
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.language import PREFIX, SCALES, TEACHER_NAME
from vigreux.claims.common.phases import phases_of
from vigreux.claims.common.variants import Variant, compare_variants, parser, table

RESULTS = Path(__file__).resolve().parent.parent / "results"
EARLY = 5  # the early checkpoint is at a fifth of the teacher's steps


def main() -> None:
    """Trains, or reads, the students, and writes and prints the table."""
    options = parser(__doc__, RESULTS / "language-shots.json").parse_args()
    scale = SCALES[options.preset]
    early = scale.teacher_steps // EARLY
    with Lab(options.runs, options.save.parent, quiet=True) as lab:
        teacher = lab.taught(scale.teacher(), TEACHER_NAME)
        middle = int(phases_of(teacher)["middle"])
        variants: dict[str, Variant] = {
            "one-shot": lambda scale, seed: scale.student("one-shot", seed),
            f"2-shot, step {middle:,}, 50 %": lambda scale, seed: scale.two_shot(middle, seed),
            f"2-shot, step {early:,}, 50 %": lambda scale, seed: scale.two_shot(early, seed),
            f"2-shot, step {early:,}, 15 %": lambda scale, seed: scale.student(
                "p-shot", seed, checkpoints=[early]
            ),
        }
        document = compare_variants(lab, teacher, scale, variants, PREFIX)
    write_document(document, options.save)
    print(table(document["rows"]))


if __name__ == "__main__":
    main()
