"""C12: extraction gains by the order of its layers, not by matching something of a lower dimension."""

from __future__ import annotations

from functools import partial

from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import accuracy_figure, save
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.measures import LEARNED, all_at_chance, all_learned, percent
from vigreux.claims.common.parity import EXTRACTION, SCALES, ParityScale
from vigreux.claims.common.two_layer_students import Method, TwoLayerStudents, train_students
from vigreux.config.two_layer import TwoLayerConfig
from vigreux.curriculum import Hidden, Joint, Logits, Projection
from vigreux.curriculum.recipes import extraction, one_shot
from vigreux.curriculum.serialize import to_plain


def joint_weight(scale: ParityScale) -> float:
    """The weight of the hidden loss beside the loss on logits.

    Both are trained at the learning rate of the logits. With this weight the hidden loss has the rate that it
    has in extraction.
    """
    return scale.hidden_rate / scale.rate


def all_at_once(scale: ParityScale, width: int, seed: int) -> TwoLayerConfig:
    """Hidden layer and logits together, in one stage: extraction without its order."""
    hidden = Hidden(1, EXTRACTION.projected(), EXTRACTION.scaling)
    stages = one_shot(target=Joint(hidden, Logits(), joint_weight(scale)))
    return scale.student(to_plain(stages), width, seed, scale.short_steps)


def projected_logits(scale: ParityScale, width: int, seed: int) -> TwoLayerConfig:
    """Extraction whose first stage matches random projections of the teacher's logits.

    They have a lower dimension, but are of no earlier layer. The projection is Gaussian: a sparse one would
    give some of the student's units nothing.
    """
    stages = extraction(
        layers={2: 1}, hidden_share=EXTRACTION.hidden_share, projection=Projection("gaussian")
    )
    return scale.student(to_plain(stages), width, seed, scale.short_steps)


def run(lab: Lab, preset: Preset) -> Outcome:
    """Trains extraction, its two ablations and one-shot. One-shot and extraction are runs of C7."""
    scale = SCALES[preset]
    teacher = lab.teacher(scale.teacher())
    steps = scale.short_steps
    methods: dict[str, Method] = {
        "one-shot": partial(scale.student, "one-shot", steps=steps),
        "extraction": partial(scale.student, "extraction", steps=steps, extraction=EXTRACTION),
        "all at once": partial(all_at_once, scale),
        "projected logits": partial(projected_logits, scale),
    }
    students = train_students(lab, scale, teacher, methods)
    settings = {
        "hidden_share": EXTRACTION.hidden_share,
        "projection": EXTRACTION.projection,
        "projection_of_logits": "gaussian",
        "joint_weight": joint_weight(scale),
    }
    return Outcome(
        numbers={"students": students.numbers()},
        checks=[check for width in scale.widths for check in _checks(students, width)],
        seeds=scale.seeds,
        config=scale.plain() | settings,
        figures=[save(accuracy_figure(students.panels(), chance=0.5), lab.results, f"C12.{preset}")],
        notes=_notes(scale),
    )


def _checks(students: TwoLayerStudents, width: int) -> list[Check]:
    final = {method: students.accuracies(method, width) for method in students.runs}
    expected = {
        "one-shot": ("55 % or less in every seed", all_at_chance(final["one-shot"])),
        "extraction": ("99 % or more in every seed", all_learned(final["extraction"])),
        "all at once": ("below 99 % in at least one seed", min(final["all at once"]) < LEARNED),
        "projected logits": ("55 % or less in every seed", all_at_chance(final["projected logits"])),
    }
    return [
        Check(f"width {width}: {method}: {what}: {percent(final[method])}", holds)
        for method, (what, holds) in expected.items()
    ]


def _notes(scale: ParityScale) -> list[str]:
    return [
        "Extraction of the last hidden layer only is extraction itself here: the networks have one hidden"
        " layer.",
        f"All at once: the loss is that of the logits plus {joint_weight(scale):g} times that of the hidden"
        " layer, at the learning rate of"
        f" the logits, {scale.rate:g}. With this weight the least squares of the hidden layer, which are"
        " stable below"
        f" 2 / (n + 1) only, take steps of {scale.hidden_rate:g}, as they do in extraction.",
        "All at once: the claim says no more than that it does not do what the order does, 99 % in every"
        " seed; so one seed that"
        " stays below is what was asked for, not that all stay at chance.",
        "Projected logits: what is matched before its relu is an affine function of the input, and the"
        " teacher's final logits"
        " are almost a parity. Online least squares at a rate η adds η (n + 1) / (2 − η (n + 1)) of the"
        " unexplained variance,"
        " so that an explained variance just below 0 leaves room for a few per cent that are explained.",
        "Weight and projections were set before the run and not tuned.",
    ]


CLAIM = Claim(
    "C12", "the gain of extraction comes from the order of its layers", "arXiv 2503.17494, ablations", run
)
