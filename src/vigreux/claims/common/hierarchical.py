"""The settings of the claims about hierarchical parity (C6, C2h), and their checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from vigreux.claims.common.claim import Preset
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.measures import LEARNED
from vigreux.claims.common.two_layer_scale import TwoLayerScale
from vigreux.claims.common.two_layer_students import TwoLayerStudents, train_students
from vigreux.config.two_layer import BooleanTaskConfig, SGDConfig, TwoLayerConfig
from vigreux.curriculum import Duration
from vigreux.curriculum.recipes import p_shot
from vigreux.curriculum.serialize import to_plain
from vigreux.run.folder import RunFolder
from vigreux.selection import Curve, choose_checkpoints, find_transitions, select_checkpoints

NOT_LEARNED = 0.95  # below this accuracy a student has not learned the whole tree: some feature is missing
ONE_DRAW = (
    "one teacher of one draw of features, and others come out otherwise:"
    " docs/log.md, 2026-11-24, has four more"
)

ONE_SHOT = "one-shot"
TWO_SHOT = "2-shot"
THREE_SHOT = "3-shot"
PROGRESSIVE = "progressive"
BOTH_INSIDE = "3-shot, both in one transition"
ONE_INSIDE = "3-shot, one inside, one after"


@dataclass(frozen=True, kw_only=True)
class HierarchicalScale(TwoLayerScale):
    """One scale of hierarchical parity.

    Args:
        classes: Leaves of the tree; it has `classes − 1` features of k coordinates.
        steps: Steps of a student.
    """

    classes: int
    steps: int

    def task(self) -> BooleanTaskConfig:
        """A tree of features."""
        return BooleanTaskConfig(
            kind="hierarchical-parity", n=self.n, k=self.k, classes=self.classes, seed=self.task_seed
        )

    def student(self, checkpoints: Sequence[int], shot: int, width: int, seed: int) -> TwoLayerConfig:
        """A student that spends `shot` steps on each checkpoint, and the other steps on the final teacher.

        Without checkpoints it is one-shot.
        """
        training = SGDConfig(learning_rate=self.rate, eval_every=self.eval_every)
        if not checkpoints:
            return self.student_run("one-shot", width, seed, steps=self.steps, training=training)
        final = Duration.steps(self.steps - shot * len(checkpoints))
        stages = p_shot(checkpoints, stage=Duration.steps(shot), final=final)
        return self.student_run(to_plain(stages), width, seed, steps=self.steps, training=training)

    def progressive(self) -> tuple[list[int], int]:
        """The checkpoints of progressive distillation, and the steps that a student spends on each.

        A student spends as many steps as the teacher took from one to the next. Where the budget is too
        short, the checkpoints and the final teacher share it equally.
        """
        checkpoints = self.progressive_checkpoints()
        return checkpoints, min(self.progressive_every, self.steps // (len(checkpoints) + 1))


SCALES: dict[Preset, HierarchicalScale] = {
    "smoke": HierarchicalScale(
        n=14,
        k=3,
        classes=4,
        teacher_width=800,
        teacher_steps=60_000,
        teacher_rate=5e-3,
        every=2000,
        widths=(50,),
        steps=40_000,
        rate=5e-3,
        shot=8000,
        progressive_every=6000,
        eval_every=4000,
        seeds=(0,),
    ),
    "laptop": HierarchicalScale(
        n=40,
        k=5,
        classes=8,
        teacher_width=3600,
        teacher_steps=1_200_000,
        teacher_rate=1e-2,
        every=10_000,
        widths=(100, 300),
        steps=2_000_000,
        rate=1e-2,
        shot=400_000,
        progressive_every=100_000,
        eval_every=20_000,
        task_seed=4,
    ),
    "paper": HierarchicalScale(
        n=100,
        k=5,
        classes=8,
        teacher_width=50_000,
        teacher_steps=20_000_000,
        teacher_rate=1e-2,
        every=250_000,
        widths=(100, 1000),
        steps=20_000_000,
        rate=1e-2,
        shot=2_000_000,
        progressive_every=500_000,
        eval_every=250_000,
    ),
}


def checkpoints_of_methods(accuracy: Curve, available: Sequence[int]) -> dict[str, list[int]]:
    """Method → the teacher's checkpoints that teach before the final teacher does.

    2-shot and 3-shot take what `vigreux select` chooses: the middle of the largest transition, and of each of
    the two largest (both from the largest if there is only one). Two more methods have as many checkpoints as
    3-shot. One takes both from the largest transition. The other takes the middle of the largest, and the
    first checkpoint after the teacher has learned the task. The papers call the whole rise one transition,
    where we may find several: this is their 3-shot with a single checkpoint inside it (arXiv 2410.05464,
    figure 7).

    Raises:
        ConfigError: there is no transition, or too few checkpoints lie inside.
    """
    two = [choice.step for choice in select_checkpoints(accuracy, available, shots=2)]
    three = [choice.step for choice in select_checkpoints(accuracy, available, shots=3)]
    largest = max(find_transitions(accuracy), key=lambda transition: transition.change)
    both = [choice.step for choice in choose_checkpoints([largest], available, shots=3)]
    learned = min(accuracy.steps[accuracy.values >= LEARNED], default=available[-1])
    after = min((step for step in available if step >= learned), default=available[-1])
    return {ONE_SHOT: [], TWO_SHOT: two, THREE_SHOT: three, BOTH_INSIDE: both, ONE_INSIDE: [*two, after]}


def train_shots(
    lab: Lab,
    scale: HierarchicalScale,
    teacher: RunFolder,
    checkpoints: Mapping[str, Sequence[int]],
    shots: Mapping[str, int],
) -> TwoLayerStudents:
    """Students of all methods, widths and seeds.

    Args:
        lab: Where the runs are.
        scale: Widths and seeds.
        teacher: The run of the teacher.
        checkpoints: Method → the checkpoints that teach it. Methods with the same checkpoints share their
            runs.
        shots: Method → the steps on each checkpoint, if they are not `scale.shot`.
    """
    methods = {}
    folder_names = {}
    for method, steps in checkpoints.items():
        methods[method] = partial(scale.student, steps, shots.get(method, scale.shot))
        label = "-".join(map(str, steps)) if len(steps) <= 2 else method
        folder_names[method] = f"tree-{label or ONE_SHOT}"
    return train_students(lab, scale, teacher, methods, folder_names)
