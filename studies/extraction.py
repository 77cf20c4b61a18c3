"""What the papers leave open about extraction on Transformers, tried at laptop scale: results/extraction.json, docs/extraction.md.

    python studies/extraction.py        # after vigreux reproduce C9g C10: teachers, one-shot and extraction are theirs

Students of C10's BERT and of C9g's GPT-2 teacher, on the same sentences, steps and seeds; each row changes one thing about
extraction. The rows were fixed before the run, and none was dropped; those of SECOND, a table of their own, were added when the
others had been seen, in which projected embeddings did most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from vigreux.claims.common.grammar_students import grammar_teacher

from vigreux.claims.common.grammar import EXTRACTION, GPT2_SETTINGS, SETTINGS, GrammarSettings
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.variants import Variant, compared, figure, parser, save, table
from vigreux.config.transformer import RunConfig
from vigreux.curriculum import Curriculum, Duration, Hidden, Projection, Stage, TeacherRef
from vigreux.curriculum.recipes import one_shot

RESULTS = Path(__file__).resolve().parent.parent / "results"


def _one_shot(settings: GrammarSettings, seed: int) -> RunConfig:
    return settings.student("one-shot", seed)


def _extraction(**changes: Any) -> Variant:
    """Extraction with other settings of the section `extraction`."""
    return lambda settings, seed: settings.student(
        "extraction", seed, extraction=replace(EXTRACTION, **changes)
    )


def _run(**changes: Any) -> Variant:
    """Extraction with other settings of the run."""
    return lambda settings, seed: settings.student("extraction", seed, extraction=EXTRACTION, **changes)


def _started(curriculum: str, *, steps: float = 1.0, **changes: Any) -> Variant:
    """From projected embeddings: hidden layer 0 in closed form. `steps` is a factor."""

    def make(settings: GrammarSettings, seed: int) -> RunConfig:
        settings = replace(settings, steps=round(steps * settings.steps))
        config = settings.student(curriculum, seed, extraction=replace(EXTRACTION, **changes))
        return replace(config, student=replace(config.student, init="projected-embeddings"))

    return make


def _stages(
    target: Callable[[int], Hidden], *, layers: Callable[[GrammarSettings], range], frozen: int | None = None
) -> Variant:
    """Extraction's stages with targets of their own; `frozen` holds from the second stage on."""

    def make(settings: GrammarSettings, seed: int) -> RunConfig:
        pairs, share = layers(settings), EXTRACTION.hidden_share
        stages: Curriculum = tuple(
            Stage(f"hidden-{i}", TeacherRef.final(), target(i), i, Duration.share(share / len(pairs)))
            for i in pairs
        )
        stages += one_shot(final=Duration.share(1 - share))
        return settings.student((stages[0], *(replace(stage, frozen=frozen) for stage in stages[1:])), seed)

    return make


def _but_the_last(settings: GrammarSettings) -> range:
    return range(1, settings.layers)


def _the_last(settings: GrammarSettings) -> range:
    return range(settings.layers, settings.layers + 1)


def _gaussian_of_its_own(layer: int) -> Hidden:
    return Hidden(layer, Projection("gaussian", layer))


PCA = EXTRACTION.projected()

BERT: dict[str, Variant] = {
    "one-shot": _one_shot,
    "extraction": _extraction(),  # PCA, layers 1 to 3 in 30 % of the steps, unit scale, optimiser carried, a schedule a stage
    "one-shot from projected embeddings": _started("one-shot"),
    "extraction from projected embeddings": _started("extraction"),
    "projection gaussian": _extraction(projection="gaussian"),
    "projection orthogonal": _extraction(projection="orthogonal"),
    "projection gaussian, one each stage": _stages(_gaussian_of_its_own, layers=_but_the_last),
    "targets not scaled": _extraction(scaling="none"),
    "targets scaled per dimension": _extraction(scaling="per-dimension"),
    "layer 2 alone": _extraction(layers={2: 2}),
    "layer 3 alone": _extraction(layers={3: 3}),
    "last layer alone": _extraction(layers={4: 4}),
    "15 % of the steps": _extraction(hidden_share=0.15),
    "50 % of the steps": _extraction(hidden_share=0.5),
    "optimiser anew each stage": _run(optimizer="per-stage"),
    "one schedule over all stages": _run(schedule="carried"),
    "loss on masked tokens alone": _stages(
        lambda layer: Hidden(layer, PCA, positions="predicted"), layers=_but_the_last
    ),
    "embeddings frozen after stage 1": _stages(
        lambda layer: Hidden(layer, PCA), layers=_but_the_last, frozen=0
    ),
}

SECOND: dict[str, Variant] = {
    "one-shot": _one_shot,
    "one-shot from projected embeddings": _started("one-shot"),
    "extraction from projected embeddings": _started("extraction"),
    "extraction from projected embeddings, 15 % of the steps": _started("extraction", hidden_share=0.15),
    "extraction from projected embeddings, layer 2 alone in 15 %": _started(
        "extraction", hidden_share=0.15, layers={2: 2}
    ),
    "extraction from projected embeddings, the FLOPs of one-shot": _started("extraction", steps=4.67 / 3.97),
}

GPT2: dict[str, Variant] = {
    "one-shot": _one_shot,
    "extraction": _extraction(),
    "one-shot from projected embeddings": _started("one-shot"),
    "extraction from projected embeddings": _started("extraction"),
    "last layer alone, after the final norm": _stages(lambda layer: Hidden(layer, PCA), layers=_the_last),
    "last layer alone, before the final norm": _stages(
        lambda layer: Hidden(layer, PCA, final_norm=False), layers=_the_last
    ),
    "loss on predicted tokens alone": _stages(
        lambda layer: Hidden(layer, PCA, positions="predicted"), layers=_but_the_last
    ),
}


def main() -> None:
    options = parser(__doc__, RESULTS / "extraction.json").parse_args()
    lab = Lab(options.runs, options.save.parent, quiet=True)
    document = {}
    tables = (("bert", SETTINGS, BERT), ("gpt2", GPT2_SETTINGS, GPT2), ("second", SETTINGS, SECOND))
    for name, settings, variants in tables:
        prefix = "grammar-gpt2-" if name == "gpt2" else "grammar-"
        scale = settings[options.preset]
        document[name] = compared(lab, grammar_teacher(lab, scale), scale, variants, prefix)
        save(document, options.save)
        print(table(document[name]["rows"]), flush=True)
    panels = {
        "BERT, masked tokens": document["bert"]["rows"],
        "GPT-2, tokens at boundaries": document["gpt2"]["rows"],
    }
    figure(panels, options.save.parent / "figures" / options.save.with_suffix(".png").name)


if __name__ == "__main__":
    main()
