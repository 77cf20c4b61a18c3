"""C11c: a causal language model of which the final weights alone are there: extraction, one-shot and labels at equal steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from vigreux.claims.c10_speed import share_needed, speed_checks
from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import save, training_figure
from vigreux.claims.common.grammar_students import EXTRACTED, ONE_SHOT, above
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.language_probes import held_out_losses, scores_elsewhere
from vigreux.claims.common.language_settings import ELSEWHERE, SOURCES
from vigreux.claims.common.small_transformers import HEAD, teacher_run, training
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
from vigreux.stats import mean_interval

SUPERVISED = "supervised"
EXTRACTION = ExtractionConfig(stages=2, hidden_share=0.3)


@dataclass(frozen=True)
class CausalSettings:
    """One scale of a student of a model that somebody else has trained.

    Args:
        sources: of the text; a tenth of the documents is held out.
        elsewhere: a source that no student is trained on.
        teacher: a model's directory, hub id or asset; `None` trains a tiny one.
        documents: to train on, drawn from all sources.
        max_length: tokens a block.
        layers, hidden, heads: of the students.
        batch: blocks a step.
        steps, rate: of a student, cosine with 6 % warm-up.
        eval_every: steps between evaluations.
        max_eval: held-out blocks.
        seeds: of the students' initial weights and the order of samples.
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
    seeds: tuple[int, ...] = (0, 1, 2)

    def tiny_teacher(self) -> TeachConfig:
        """For the smallest scale."""
        return teacher_run(
            self._task(),
            "llama",
            4,
            32,
            steps=40,
            keep_every=40,
            training=self._training(),
            head=HEAD,
            vocab_size=300,
        )

    def student(self, curriculum: str, seed: int) -> RunConfig:
        """A student's run."""
        return RunConfig(
            task=self._task(),
            teacher=TeacherConfig(model=self.teacher or ""),
            student=StudentConfig(layers=self.layers, hidden=self.hidden, heads=self.heads),
            curriculum=curriculum,
            extraction=EXTRACTION,
            budget=BudgetConfig(steps=self.steps),
            cache=CacheConfig(shard_samples=256),
            training=self._training(),
            seed=seed,
        )

    def plain(self) -> dict[str, Any]:
        """For the result file."""
        return asdict(self)

    def _task(self) -> TaskConfig:
        return TaskConfig(
            kind="causal-lm",
            data=list(self.sources),
            max_length=self.max_length,
            max_train=self.documents,
            max_eval=self.max_eval,
        )

    def _training(self) -> dict[str, Any]:
        return training(self.batch, 8, self.rate, self.eval_every)


SETTINGS: dict[Preset, CausalSettings] = {
    "smoke": CausalSettings(
        sources=SOURCES, elsewhere=ELSEWHERE, teacher=None, documents=60, max_length=24, layers=3, hidden=16, heads=2, batch=8,
        steps=30, rate=2e-3, eval_every=10, max_eval=16, seeds=(0,),
    ),
    "laptop": CausalSettings(
        sources=SOURCES, elsewhere=ELSEWHERE, teacher="asset:smollm2-135m", documents=3000, max_length=128, layers=6, hidden=192,
        heads=3, batch=8, steps=200, rate=2e-3, eval_every=25, max_eval=64,
    ),
    "paper": CausalSettings(
        sources=("Salesforce/wikitext:wikitext-103-raw-v1",), elsewhere=ELSEWHERE, teacher="asset:smollm2-135m", documents=None,
        max_length=512, layers=10, hidden=384, heads=6, batch=64, steps=20_000, rate=1e-3, eval_every=500, max_eval=500,
    ),
}  # fmt: skip


def methods_of(settings: CausalSettings) -> dict[str, Method]:
    """All take as many steps and start from the teacher's embeddings, projected."""
    return {
        SUPERVISED: lambda seed: settings.student("supervised", seed),
        ONE_SHOT: lambda seed: settings.student("one-shot", seed),
        EXTRACTED: lambda seed: settings.student("extraction", seed),
    }


def run(lab: Lab, preset: Preset) -> Outcome:
    """Students by four methods from one cache of the teacher's signals, here and on text of another source."""
    settings = SETTINGS[preset]
    teacher = None
    if settings.teacher is None:
        settings = replace(
            settings, teacher=str(lab.taught(settings.tiny_teacher(), "language-causal-teacher").student)
        )
    methods = methods_of(settings)
    cached = settings.student(
        "extraction", settings.seeds[0]
    )  # its stages ask for all that the others ask for
    students = train_students(lab, teacher, methods, settings.seeds, prefix="language-causal-", cached=cached)
    lab.say("text of another source")
    elsewhere = {name: scores_elsewhere(runs, settings.elsewhere) for name, runs in students.runs.items()}
    needed = {unit: share_needed(students, unit) for unit in ("steps", "flops")}
    summary = students.runs[ONE_SHOT][0].summary()
    assert summary is not None
    return Outcome(
        numbers={
            "teacher": summary.teacher_metrics,
            "share_of_steps": needed["steps"],
            "share_of_flops": needed["flops"],
            "students": students.numbers(),
            "losses": held_out_losses(students),
            "elsewhere": elsewhere,
        },
        checks=[
            above(students, ONE_SHOT, SUPERVISED),
            above(students, EXTRACTED, ONE_SHOT),
            *speed_checks(needed),
            _elsewhere(elsewhere),
        ],
        seeds=settings.seeds,
        config=SETTINGS[preset].plain()
        | {"stages": EXTRACTION.stages, "hidden_share": EXTRACTION.hidden_share},
        figures=[save(training_figure(students, methods), lab.results, f"C11c.{preset}")],
        notes=[
            "The teacher ran over the text once, into a cache that all students learn from: FLOPs are theirs, and those of the"
            " teacher's output head, which makes its logits again.",
            "The projection is one for all seeds, as the cache holds states that went through it.",
        ],
    )


def _elsewhere(scores: Mapping[str, list[dict[str, Any]]]) -> Check:
    """Extraction against one-shot on the other source, in the mean over seeds."""
    means = {name: mean_interval([score["accuracy"] for score in runs])[0] for name, runs in scores.items()}
    shown = ", ".join(f"{name} {100 * mean:.2f} %" for name, mean in means.items())
    what = f"on a source not trained on extraction is above one-shot, in the mean over seeds: {shown}"
    return Check(what, means[EXTRACTED] > means[ONE_SHOT])


CLAIM = Claim(
    "C11c",
    "causal language model with final weights alone: extraction beats one-shot at equal steps",
    "arXiv 2503.17494",
    run,
)
