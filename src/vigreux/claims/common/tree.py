"""The settings that the claims about hierarchical parity share, and the checkpoints that their students are taught by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vigreux.claims.common.claim import Preset
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.parity import LEARNED
from vigreux.claims.common.two_layer_students import Comparison
from vigreux.config.shared import BudgetConfig
from vigreux.config.two_layer import BooleanTaskConfig, NetworkConfig, SGDConfig, TwoLayerConfig
from vigreux.curriculum import Duration
from vigreux.curriculum.recipes import p_shot
from vigreux.curriculum.serialize import to_plain
from vigreux.run.folder import RunFolder
from vigreux.selection import Curve, choose_checkpoints, find_transitions, select_checkpoints

FAILED = 0.95  # a student whose accuracy is below has not learned the whole tree: some feature is missing


@dataclass(frozen=True)
class HierarchicalSettings:
    """One scale, as `parity.ParitySettings`.

    Args:
        n, k, classes: of the task: a tree with `classes` leaves, `classes − 1` features of k coordinates.
        teacher_width, teacher_steps, teacher_rate: the teacher, at a constant rate.
        every: steps between the teacher's checkpoints.
        widths: of the students.
        steps: of a student.
        rate: of a student, cosine with 6 % warm-up.
        shot: steps that a p-shot student spends on each intermediate checkpoint.
        progressive_every: the teacher's steps between the checkpoints of progressive distillation.
        eval_every: steps between evaluations of a student.
        seeds: of the students' initial weights.
        task_seed: draws the features; the laptop's settings were chosen on seeds 0 to 3.
    """

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
    progressive_every: int
    eval_every: int
    seeds: tuple[int, ...] = (0, 1, 2)
    task_seed: int = 0

    def teacher(self) -> TwoLayerConfig:
        """On labels. Its samples are not the students'."""
        training = SGDConfig(
            learning_rate=self.teacher_rate,
            decay="constant",
            eval_every=self.every // 2,
            save_every=self.every,
        )
        return self._config(self.teacher_width, 0, self.teacher_steps, training, data_seed=100)

    def student(self, checkpoints: Sequence[int], each: int, width: int, seed: int) -> TwoLayerConfig:
        """`each` steps from every checkpoint in turn, the rest of the budget from the final teacher; one-shot without any."""
        training = SGDConfig(learning_rate=self.rate, eval_every=self.eval_every)
        rest = Duration.steps(self.steps - each * len(checkpoints))
        stages = p_shot(checkpoints, stage=Duration.steps(each), final=rest) if checkpoints else None
        return self._config(
            width, seed, self.steps, training, curriculum=to_plain(stages) if stages else "one-shot"
        )

    def series(self) -> tuple[list[int], int]:
        """The checkpoints of progressive distillation, and the steps that each teaches.

        As many as the teacher took between two of them, so that the student goes at the teacher's pace, or an equal share of the
        budget where that is less.
        """
        found = list(range(self.progressive_every, self.teacher_steps, self.progressive_every))
        return found, min(self.progressive_every, self.steps // (len(found) + 1))

    def plain(self) -> dict[str, Any]:
        """For the result file."""
        return asdict(self)

    def _config(
        self, width: int, seed: int, steps: int, training: SGDConfig, **changes: Any
    ) -> TwoLayerConfig:
        task = BooleanTaskConfig(
            kind="hierarchical-parity", n=self.n, k=self.k, classes=self.classes, seed=self.task_seed,
            data_seed=changes.pop("data_seed", 0),
        )  # fmt: skip
        return TwoLayerConfig(
            task=task,
            student=NetworkConfig(width=width),
            budget=BudgetConfig(steps=steps),
            training=training,
            seed=seed,
            **changes,
        )


SETTINGS: dict[Preset, HierarchicalSettings] = {
    "smoke": HierarchicalSettings(
        n=14, k=3, classes=4, teacher_width=800, teacher_steps=60_000, teacher_rate=5e-3, every=2000, widths=(50,),
        steps=40_000, rate=5e-3, shot=8000, progressive_every=6000, eval_every=4000, seeds=(0,),
    ),
    "laptop": HierarchicalSettings(
        n=40, k=5, classes=8, teacher_width=3600, teacher_steps=1_200_000, teacher_rate=1e-2, every=10_000, widths=(100, 300),
        steps=2_000_000, rate=1e-2, shot=400_000, progressive_every=100_000, eval_every=20_000, task_seed=4,
    ),
    "paper": HierarchicalSettings(
        n=100, k=5, classes=8, teacher_width=50_000, teacher_steps=20_000_000, teacher_rate=1e-2, every=250_000, widths=(100, 1000),
        steps=20_000_000, rate=1e-2, shot=2_000_000, progressive_every=500_000, eval_every=250_000,
    ),
}  # fmt: skip

ONE_SHOT, TWO_SHOT, THREE_SHOT, PROGRESSIVE = "one-shot", "2-shot", "3-shot", "progressive"
BOTH_INSIDE, ONE_INSIDE = "3-shot, both in one transition", "3-shot, one inside, one after"


def plans(accuracy: Curve, available: Sequence[int]) -> dict[str, list[int]]:
    """Method → the teacher's checkpoints that come before the final one.

    2-shot and 3-shot take what `vigreux select` takes: the middle of the largest transition, and of each of the two largest
    (both from the largest where there is only one). Two more have as many checkpoints as 3-shot. One takes both from the largest
    transition. The other takes the middle of the largest, and the first checkpoint after the teacher has learned the task. The
    papers call the whole rise one transition, where we may find several: this is their 3-shot with a single checkpoint inside it
    (arXiv 2410.05464, figure 7).

    Raises:
        ConfigError: no transition, or too few checkpoints inside.
    """
    two = [choice.step for choice in select_checkpoints(accuracy, available, shots=2)]
    three = [choice.step for choice in select_checkpoints(accuracy, available, shots=3)]
    largest = max(find_transitions(accuracy), key=lambda transition: transition.change)
    both = [choice.step for choice in choose_checkpoints([largest], available, shots=3)]
    learned = min(accuracy.steps[accuracy.values >= LEARNED], default=available[-1])
    after = min((step for step in available if step >= learned), default=available[-1])
    return {ONE_SHOT: [], TWO_SHOT: two, THREE_SHOT: three, BOTH_INSIDE: both, ONE_INSIDE: [*two, after]}


def train(
    lab: Lab,
    settings: HierarchicalSettings,
    teacher: RunFolder,
    methods: dict[str, list[int]],
    each: dict[str, int],
) -> Comparison:
    """Students of all methods, widths and seeds; `each` method's steps a checkpoint, `settings.shot` where it names none.

    A folder is named by its checkpoints: methods that come to the same share their runs.
    """

    def student(method: str, width: int, seed: int) -> RunFolder:
        steps = methods[method]
        config = settings.student(steps, each.get(method, settings.shot), width, seed)
        label = "-".join(map(str, steps)) if len(steps) <= 2 else method
        return lab.student(config, teacher, f"tree-{label or ONE_SHOT}-w{width}-seed{seed}")

    return Comparison(
        {
            method: {
                width: [student(method, width, seed) for seed in settings.seeds] for width in settings.widths
            }
            for method in methods
        }
    )
