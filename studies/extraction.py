"""What the papers leave open about extraction on transformers: results/extraction.json, docs/extraction.md.

    python studies/extraction.py        # after vigreux reproduce C9g C10, whose teachers and students it
    reads

Students of C10's BERT teacher and of C9g's GPT-2 teacher, on the same sentences, steps and seeds. Each row
changes one thing about extraction. The rows were fixed before the run, and none was dropped. The rows of
SECOND, a table of their own, were added when the others had been seen, in which projected embeddings did
most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from vigreux.claims.common.claim import write_document
from vigreux.claims.common.grammar import EXTRACTION, GPT2_SCALES, SCALES, GrammarScale, grammar_teacher
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.variants import Variant, compare_variants, figure, parser, table
from vigreux.config.transformer import RunConfig
from vigreux.curriculum import Curriculum, Duration, Hidden, Projection, Stage, TeacherRef
from vigreux.curriculum.recipes import one_shot

RESULTS = Path(__file__).resolve().parent.parent / "results"


def _one_shot(scale: GrammarScale, seed: int) -> RunConfig:
    return scale.student("one-shot", seed)


def _extraction(**changes: Any) -> Variant:
    """Extraction with other settings of the section `extraction`."""
    return lambda scale, seed: scale.student("extraction", seed, extraction=replace(EXTRACTION, **changes))


def _run(**changes: Any) -> Variant:
    """Extraction with other settings of the run."""
    return lambda scale, seed: scale.student("extraction", seed, extraction=EXTRACTION, **changes)


def _started(curriculum: str, *, steps: float = 1.0, **changes: Any) -> Variant:
    """A student that starts from projected embeddings. `steps` is a factor."""

    def make(scale: GrammarScale, seed: int) -> RunConfig:
        scale = replace(scale, steps=round(steps * scale.steps))
        config = scale.student(curriculum, seed, extraction=replace(EXTRACTION, **changes))
        return replace(config, student=replace(config.student, init="projected-embeddings"))

    return make


def _stages(
    target: Callable[[int], Hidden], *, layers: Callable[[GrammarScale], range], frozen: int | None = None
) -> Variant:
    """Extraction's stages with other targets. `frozen` counts from the second stage on."""

    def make(scale: GrammarScale, seed: int) -> RunConfig:
        pairs = layers(scale)
        share = EXTRACTION.hidden_share
        stages: Curriculum = tuple(
            Stage(f"hidden-{i}", TeacherRef.final(), target(i), i, Duration.share(share / len(pairs)))
            for i in pairs
        )
        stages += one_shot(final=Duration.share(1 - share))
        later = tuple(replace(stage, frozen=frozen) for stage in stages[1:])
        return scale.student((stages[0], *later), seed)

    return make


def _all_but_last(scale: GrammarScale) -> range:
    return range(1, scale.layers)


def _last(scale: GrammarScale) -> range:
    return range(scale.layers, scale.layers + 1)


def _gaussian_by_stage(layer: int) -> Hidden:
    return Hidden(layer, Projection("gaussian", layer))


PCA = EXTRACTION.projected()

BERT: dict[str, Variant] = {
    "one-shot": _one_shot,
    # PCA, layers 1 to 3 in 30 % of the steps, unit scale, the optimiser carried, a schedule for each stage
    "extraction": _extraction(),
    "one-shot from projected embeddings": _started("one-shot"),
    "extraction from projected embeddings": _started("extraction"),
    "projection gaussian": _extraction(projection="gaussian"),
    "projection orthogonal": _extraction(projection="orthogonal"),
    "projection gaussian, one each stage": _stages(_gaussian_by_stage, layers=_all_but_last),
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
        lambda layer: Hidden(layer, PCA, positions="predicted"), layers=_all_but_last
    ),
    "embeddings frozen after stage 1": _stages(
        lambda layer: Hidden(layer, PCA), layers=_all_but_last, frozen=0
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
    "last layer alone, after the final norm": _stages(lambda layer: Hidden(layer, PCA), layers=_last),
    "last layer alone, before the final norm": _stages(
        lambda layer: Hidden(layer, PCA, final_norm=False), layers=_last
    ),
    "loss on predicted tokens alone": _stages(
        lambda layer: Hidden(layer, PCA, positions="predicted"), layers=_all_but_last
    ),
}


def main() -> None:
    """Trains, or reads, the students, and writes and prints the tables."""
    options = parser(__doc__, RESULTS / "extraction.json").parse_args()
    document: dict[str, Any] = {}
    tables = (("bert", SCALES, BERT), ("gpt2", GPT2_SCALES, GPT2), ("second", SCALES, SECOND))
    with Lab(options.runs, options.save.parent, quiet=True) as lab:
        for name, scales, variants in tables:
            scale = scales[options.preset]
            prefix = "grammar-gpt2-" if name == "gpt2" else "grammar-"
            teacher = grammar_teacher(lab, scale)
            document[name] = compare_variants(lab, teacher, scale, variants, prefix)
            write_document(document, options.save)
            print(table(document[name]["rows"]), flush=True)
    panels = {
        "BERT, masked tokens": document["bert"]["rows"],
        "GPT-2, tokens at boundaries": document["gpt2"]["rows"],
    }
    figure(panels, options.save.parent / "figures" / options.save.with_suffix(".png").name)


if __name__ == "__main__":
    main()
