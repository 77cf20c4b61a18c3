"""C12t: on Transformers, too, extraction gains by the order of its layers."""

from __future__ import annotations

from dataclasses import replace

from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import accuracy_figure, save
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.parity import CHANCE, LEARNED
from vigreux.claims.common.token_parity import EXTRACTION, SETTINGS, TokenParitySettings
from vigreux.claims.common.transformer_students import Method, train_students
from vigreux.config.transformer import RunConfig
from vigreux.curriculum import Hidden, Joint, Logits, Stage, TeacherRef
from vigreux.curriculum.recipes import WHOLE

WEIGHT = 1.0  # of the hidden states beside the logits, all at once


def all_at_once(settings: TokenParitySettings, seed: int) -> RunConfig:
    """The states after the first block and the logits in one stage: extraction without its order."""
    target = Joint(Hidden(1, EXTRACTION.projected(), EXTRACTION.scaling), Logits(), WEIGHT)
    return settings.student((Stage("all-at-once", TeacherRef.final(), target, 1, WHOLE),), seed)


def last_layer(settings: TokenParitySettings, seed: int) -> RunConfig:
    """Extraction whose one hidden stage matches the last layer, with the whole student."""
    return settings.student(
        "extraction", seed, extraction=replace(EXTRACTION, layers={settings.layers: settings.layers})
    )


def run(lab: Lab, preset: Preset) -> Outcome:
    """Extraction, its two ablations and one-shot with the budget of C8; extraction and one-shot are its very runs."""
    settings = SETTINGS[preset]
    teacher = lab.taught(settings.teacher(), "token-parity-teacher")
    methods: dict[str, Method] = {
        "one-shot": lambda seed: settings.student("one-shot", seed),
        "extraction": lambda seed: settings.student("extraction", seed, extraction=EXTRACTION),
        "all at once": lambda seed: all_at_once(settings, seed),
        "last layer alone": lambda seed: last_layer(settings, seed),
    }
    students = train_students(lab, teacher, methods, settings.seeds, prefix="token-parity-")
    final = {method: students.finals(method) for method in methods}
    checks = []
    for method, wanted, holds in (
        ("one-shot", f"{100 * CHANCE:.0f} % or less in every seed", max(final["one-shot"]) <= CHANCE),
        ("extraction", f"{100 * LEARNED:.0f} % or more in every seed", min(final["extraction"]) >= LEARNED),
        (
            "all at once",
            f"below {100 * LEARNED:.0f} % in at least one seed",
            min(final["all at once"]) < LEARNED,
        ),
        (
            "last layer alone",
            f"below {100 * LEARNED:.0f} % in at least one seed",
            min(final["last layer alone"]) < LEARNED,
        ),
    ):
        checks.append(
            Check(f"{method}: {wanted}: {', '.join(f'{100 * a:.1f} %' for a in final[method])}", holds)
        )
    title = f"GPT-2 student, {settings.layers} layers of {settings.student_hidden}"
    panels = {
        title: {method: [students.curve(run) for run in runs] for method, runs in students.runs.items()}
    }
    return Outcome(
        numbers={"students": students.numbers()},
        checks=checks,
        seeds=settings.seeds,
        config=settings.plain()
        | {"hidden_share": EXTRACTION.hidden_share, "projection": EXTRACTION.projection, "weight": WEIGHT},
        figures=[save(accuracy_figure(panels, chance=0.5), lab.results, f"C12t.{preset}")],
        notes=[
            "All at once has the hidden loss through the whole run, at the weight 1, which was set before the run and not tuned."
        ],
    )


CLAIM = Claim(
    "C12t",
    "Transformers: the gain of extraction comes from the order of its layers",
    "arXiv 2503.17494, ablations",
    run,
)
