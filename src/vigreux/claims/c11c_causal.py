"""C11c: a causal language model with final weights alone: extraction, one-shot and labels at equal steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from vigreux.claims.common.checks import above, shares_needed, speed_checks
from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import save, training_figure
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.language import ELSEWHERE, SOURCES
from vigreux.claims.common.language_probes import held_out_losses, mean_accuracies, scores_on
from vigreux.claims.common.measures import summary_of
from vigreux.claims.common.phases import EXTRACTION, ONE_SHOT
from vigreux.claims.common.scale import Scale
from vigreux.claims.common.transformer_scale import TEACHER_SEED, random_model, training_section
from vigreux.claims.common.transformer_students import Method, train_students
from vigreux.config.shared import BudgetConfig, ExtractionConfig
from vigreux.config.transformer import (
    CacheConfig,
    RunConfig,
    StudentConfig,
    TaskConfig,
    TeachConfig,
    TeacherConfig,
)

SUPERVISED = "supervised"
EXTRACTION_SETTINGS = ExtractionConfig(stages=2, hidden_share=0.3)


@dataclass(frozen=True, kw_only=True)
class CausalScale(Scale):
    """One scale of students of a model that somebody else has trained.

    Args:
        sources: Values of `task.data`; a tenth of the documents is held out.
        elsewhere: A source that no student is trained on.
        teacher: A model directory, hub id or asset; `None` trains a tiny one.
        documents: Training documents, drawn from all sources.
        max_length: Tokens of a block.
        layers, hidden, heads: Of the students.
        batch: Blocks of a step.
        steps, rate: Steps and learning rate of a student, cosine with 6 % warm-up.
        eval_every: Steps between evaluations.
        max_eval: Held-out blocks.
    """

    sources: tuple[str, ...]
    elsewhere: str
    teacher: str | None
    documents: int | None
    max_length: int
    layers: int
    hidden: int
    heads: int
    batch: int
    steps: int
    rate: float
    eval_every: int
    max_eval: int

    def tiny_teacher(self) -> TeachConfig:
        """The teacher of the smallest scale."""
        return TeachConfig(
            task=self._task(),
            model=random_model("llama", 4, 32, vocab_size=300),
            budget=BudgetConfig(steps=40),
            keep_every=40,
            training=self._training(),
            seed=TEACHER_SEED,
        )

    def student(self, curriculum: str, seed: int) -> RunConfig:
        """The run of a student. It starts from the teacher's embeddings, projected."""
        return RunConfig(
            task=self._task(),
            teacher=TeacherConfig(model=self.teacher or ""),
            student=StudentConfig(layers=self.layers, hidden=self.hidden, heads=self.heads),
            curriculum=curriculum,
            extraction=EXTRACTION_SETTINGS,
            budget=BudgetConfig(steps=self.steps),
            cache=CacheConfig(shard_samples=256),
            training=self._training(),
            seed=seed,
        )

    def _task(self) -> TaskConfig:
        return TaskConfig(
            kind="causal-lm",
            data=list(self.sources),
            max_length=self.max_length,
            max_train=self.documents,
            max_eval=self.max_eval,
        )

    def _training(self) -> dict[str, Any]:
        return training_section(self.batch, 8, self.rate, self.eval_every)


SCALES: dict[Preset, CausalScale] = {
    "smoke": CausalScale(
        sources=SOURCES,
        elsewhere=ELSEWHERE,
        teacher=None,
        documents=60,
        max_length=24,
        layers=3,
        hidden=16,
        heads=2,
        batch=8,
        steps=30,
        rate=2e-3,
        eval_every=10,
        max_eval=16,
        seeds=(0,),
    ),
    "laptop": CausalScale(
        sources=SOURCES,
        elsewhere=ELSEWHERE,
        teacher="asset:smollm2-135m",
        documents=3000,
        max_length=128,
        layers=6,
        hidden=192,
        heads=3,
        batch=8,
        steps=200,
        rate=2e-3,
        eval_every=25,
        max_eval=64,
    ),
    "paper": CausalScale(
        sources=("Salesforce/wikitext:wikitext-103-raw-v1",),
        elsewhere=ELSEWHERE,
        teacher="asset:smollm2-135m",
        documents=None,
        max_length=512,
        layers=10,
        hidden=384,
        heads=6,
        batch=64,
        steps=20_000,
        rate=1e-3,
        eval_every=500,
        max_eval=500,
    ),
}


def run(lab: Lab, preset: Preset) -> Outcome:
    """Trains students by three methods from one cache of the teacher's signals."""
    scale = SCALES[preset]
    if scale.teacher is None:
        teacher = lab.taught(scale.tiny_teacher(), "language-causal-teacher")
        scale = replace(scale, teacher=str(teacher.student))
    methods: dict[str, Method] = {
        SUPERVISED: partial(scale.student, "supervised"),
        ONE_SHOT: partial(scale.student, "one-shot"),
        EXTRACTION: partial(scale.student, "extraction"),
    }
    cached = scale.student("extraction", scale.seeds[0])  # its stages use all signals that the others use
    students = train_students(lab, None, methods, scale.seeds, prefix="language-causal-", cached=cached)
    lab.say("text of another source")
    elsewhere = {name: scores_on(scale.elsewhere, runs) for name, runs in students.runs.items()}
    needed = shares_needed(students)
    return Outcome(
        numbers={
            "teacher": summary_of(students.runs[ONE_SHOT][0]).teacher_metrics,
            "share_of_steps": needed["steps"],
            "share_of_flops": needed["flops"],
            "students": students.numbers(),
            "losses": held_out_losses(students),
            "elsewhere": elsewhere,
        },
        checks=[
            above(students, ONE_SHOT, SUPERVISED),
            above(students, EXTRACTION, ONE_SHOT),
            *speed_checks(needed),
            _elsewhere_check(elsewhere),
        ],
        seeds=scale.seeds,
        config=SCALES[preset].plain()
        | {"stages": EXTRACTION_SETTINGS.stages, "hidden_share": EXTRACTION_SETTINGS.hidden_share},
        figures=[save(training_figure(students, methods), lab.results, f"C11c.{preset}")],
        notes=[
            "The teacher ran over the text once, into a cache that all students learn from: FLOPs are"
            " theirs, and those of the"
            " teacher's output head, which makes its logits again.",
            "The projection is one for all seeds, as the cache holds states that went through it.",
        ],
    )


def _elsewhere_check(scores: Mapping[str, Sequence[Mapping[str, float]]]) -> Check:
    """On the other source, too, extraction is above one-shot."""
    means = mean_accuracies(scores)
    shown = ", ".join(f"{name} {100 * value:.2f} %" for name, value in means.items())
    what = f"on a source not trained on extraction is above one-shot, in the mean over seeds: {shown}"
    return Check(what, means[EXTRACTION] > means[ONE_SHOT])


CLAIM = Claim(
    "C11c",
    "causal language model with final weights alone: extraction beats one-shot at equal steps",
    "arXiv 2503.17494",
    run,
)
