"""2-shot students of C11's teacher through an early checkpoint: results/language-shots.json, docs/language.md.

    python studies/language_shots.py        # after vigreux reproduce C11: its teacher, one-shot and 2-shot students are read

C11 takes the checkpoint in the middle of the sharp drop, and where the loss has none the one at half of the run. It has none on a
laptop; so these were added afterwards, through the checkpoint at a fifth of the run, where the loss falls.
"""

from __future__ import annotations

from pathlib import Path

from vigreux.claims.common.grammar_students import phases
from vigreux.claims.common.language_settings import SETTINGS

from vigreux.claims.common.lab import Lab
from vigreux.claims.common.variants import Variant, compared, parser, save, table

RESULTS = Path(__file__).resolve().parent.parent / "results"
EARLY = 5  # the checkpoint after one so-many-th of the teacher's steps


def main() -> None:
    options = parser(__doc__, RESULTS / "language-shots.json").parse_args()
    settings, lab = SETTINGS[options.preset], Lab(options.runs, options.save.parent, quiet=True)
    teacher = lab.taught(settings.teacher(), "language-teacher")
    early, middle = settings.teacher_steps // EARLY, int(phases(teacher)["middle"])
    variants: dict[str, Variant] = {
        "one-shot": lambda settings, seed: settings.student("one-shot", seed),
        f"2-shot, step {middle:,}, 50 %": lambda settings, seed: settings.two_shot(middle, seed),
        f"2-shot, step {early:,}, 50 %": lambda settings, seed: settings.two_shot(early, seed),
        f"2-shot, step {early:,}, 15 %": lambda settings, seed: settings.student(
            "p-shot", seed, checkpoints=[early]
        ),
    }
    document = compared(lab, teacher, settings, variants, "language-")
    save(document, options.save)
    print(table(document["rows"]))


if __name__ == "__main__":
    main()
