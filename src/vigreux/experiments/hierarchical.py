"""C6: hierarchical parity is learned feature by feature, and one checkpoint is not enough for a student."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vigreux.config import BudgetConfig
from vigreux.curriculum import Duration
from vigreux.experiments.claim import Check, Claim, Outcome, Preset
from vigreux.experiments.comparison import Comparison
from vigreux.experiments.figures import accuracy_figure, save
from vigreux.experiments.lab import Lab
from vigreux.experiments.parity import curve, final_accuracy
from vigreux.experiments.transition import checkpoints
from vigreux.online_config import BooleanTaskConfig, NetworkConfig, OnlineConfig, SGDConfig
from vigreux.plain import to_plain
from vigreux.recipes import p_shot
from vigreux.runs import RunFolder
from vigreux.selection import Curve, select_checkpoints

PROBES = 25  # checkpoints that are probed
SAMPLES = 50_000


@dataclass(frozen=True)
class HierarchicalSettings:
    """One scale, as `parity.ParitySettings`: a tree with 8 leaves, 7 features of k coordinates."""

    n: int
    k: int
    classes: int
    teacher_width: int
    teacher_steps: int
    teacher_rate: float
    every: int
    widths: tuple[int, ...]
    steps: int
    rate: float
    shot: int
    eval_every: int
    seeds: tuple[int, ...] = (0, 1, 2)

    def config(self, width: int, seed: int, steps: int, training: SGDConfig, **changes: Any) -> OnlineConfig:
        """A run on this task."""
        data_seed = changes.pop("data_seed", 0)
        task = BooleanTaskConfig(kind="hierarchical-parity", n=self.n, k=self.k, classes=self.classes, data_seed=data_seed)
        return OnlineConfig(
            task=task, student=NetworkConfig(width=width), budget=BudgetConfig(steps=steps), training=training, seed=seed, **changes
        )

    def teacher(self) -> OnlineConfig:
        """On labels, at a constant rate."""
        training = SGDConfig(learning_rate=self.teacher_rate, decay="constant", eval_every=self.every // 2, save_every=self.every)
        return self.config(self.teacher_width, 0, self.teacher_steps, training, data_seed=100)

    def student(self, steps: list[int], width: int, seed: int) -> OnlineConfig:
        """p-shot from these checkpoints, `shot` steps each, then the final teacher; one-shot without any."""
        training = SGDConfig(learning_rate=self.rate, eval_every=self.eval_every)
        rest = Duration.steps(self.steps - self.shot * len(steps))
        curriculum: Any = "one-shot" if not steps else to_plain(p_shot(steps, stage=Duration.steps(self.shot), final=rest))
        return self.config(width, seed, self.steps, training, curriculum=curriculum)


SETTINGS: dict[Preset, HierarchicalSettings] = {
    "smoke": HierarchicalSettings(20, 3, 4, 800, 60_000, 5e-3, 2000, (50,), 40_000, 5e-3, 8000, 4000, seeds=(0,)),
    "laptop": HierarchicalSettings(40, 4, 8, 3600, 1_000_000, 5e-3, 20_000, (100, 1000), 1_000_000, 5e-3, 150_000, 20_000),
    "paper": HierarchicalSettings(100, 5, 8, 50_000, 20_000_000, 1e-2, 250_000, (100, 1000), 20_000_000, 1e-2, 2_000_000, 250_000),
}


def run(lab: Lab, preset: Preset) -> Outcome:
    """When the teacher's features emerge; one-shot, 2-shot, 3-shot, and two checkpoints of one transition."""
    settings = SETTINGS[preset]
    teacher = lab.teacher(settings.teacher())
    emerging = _emergence(teacher, settings)
    accuracy = Curve.of(curve(teacher)["steps"], curve(teacher)["accuracy"], rises=True)
    chosen = {shots: [c.step for c in select_checkpoints(accuracy, checkpoints(teacher), shots=shots)] for shots in (2, 3)}
    plans = {"one-shot": [], "2-shot": chosen[2], "3-shot": chosen[3]}
    comparison = Comparison(
        {
            name: {
                width: [
                    lab.student(settings.student(steps, width, seed), teacher, f"tree-{name}-w{width}-seed{seed}")
                    for seed in settings.seeds
                ]
                for width in settings.widths
            }
            for name, steps in plans.items()
        }
    )
    first, last = min(emerging["half_way"]), max(emerging["half_way"])
    checks = [
        Check(f"the last feature emerges at 1.5 × the steps of the first or later: {first:,} and {last:,}", last >= 1.5 * first)
    ]
    for width in settings.widths:
        two, three = comparison.accuracies("2-shot", width), comparison.accuracies("3-shot", width)
        shown = {name: [f"{100 * a:.1f} %" for a in comparison.accuracies(name, width)] for name in plans}
        checks += [
            Check(f"width {width}: 2-shot below 95 % in every seed: {', '.join(shown['2-shot'])}", max(two) < 0.95),
            Check(f"width {width}: 3-shot at 99 % or more in every seed: {', '.join(shown['3-shot'])}", min(three) >= 0.99),
        ]
    panels = {f"teacher of width {settings.teacher_width:,}": {"labels": [curve(teacher)]}} | comparison.panels()
    return Outcome(
        numbers={
            "teacher": {"accuracy": final_accuracy(teacher), "curve": curve(teacher)},
            "checkpoints": plans,
            "emergence": emerging,
            "students": comparison.numbers(),
        },
        checks=checks,
        seeds=settings.seeds,
        config=asdict(settings),
        figures=[save(accuracy_figure(panels, chance=1 / settings.classes), lab.results, f"C6.{preset}")],
    )


def _emergence(teacher: RunFolder, settings: HierarchicalSettings) -> dict[str, Any]:
    """Each feature's largest correlation over the classes at some checkpoints, and when it has made half its way."""
    from vigreux.models.two_layer import TwoLayer
    from vigreux.probes.monomials import MonomialSettings, probe_monomials
    from vigreux.tasks.parity import HierarchicalParity

    task = HierarchicalParity.draw(settings.n, settings.k, settings.classes)
    kept = checkpoints(teacher)
    steps = kept[:: max(1, len(kept) // PROBES)]
    probe_settings = MonomialSettings(readout="probability", degree=1, samples=SAMPLES, outside=1)
    products = [
        probe_monomials(TwoLayer.load(teacher.stage_dir(0, "labels") / f"checkpoint-{step}"), task, probe_settings)
        .summary(1)
        .products
        for step in steps
    ]
    by_feature = [[at[i] or 0.0 for at in products] for i in range(len(task.features))]
    half = [next(step for step, value in zip(steps, values) if value >= max(values) / 2) for values in by_feature]
    return {"steps": steps, "correlation": by_feature, "half_way": half}


CLAIM = Claim(
    "C6", "features emerge one after another, and 3-shot succeeds where 2-shot does not", "arXiv 2410.05464, section 3.3", run
)
