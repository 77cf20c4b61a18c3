"""The papers' curricula as literal tables, and every rule beside its nearest valid neighbour."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigreux.curriculum import (
    Duration,
    Embedding,
    Hidden,
    Joint,
    Labels,
    Logits,
    Projection,
    Stage,
    TeacherRef,
    check_curriculum,
    hidden_part,
    resolve_steps,
    shared_projection,
    table,
)
from vigreux.curriculum.recipes import extraction, one_shot, p_shot, pair_layers, progressive, supervised
from vigreux.curriculum.serialize import from_plain, from_yaml, to_plain, to_yaml
from vigreux.errors import ConfigError

SIZES = {"batch_size": 10, "train_samples": 1000, "tokens_per_sample": 32}


def lines(curriculum):
    """The printed table without its header."""
    return table(curriculum).splitlines()[1:]


def test_supervised():
    assert lines(supervised()) == ["labels  labels   labels  whole  100 % of the budget"]


def test_one_shot():
    assert lines(one_shot(target=Logits(temperature=2, alpha=0.5))) == [
        "final  final    logits (τ=2, α=0.5)  whole  100 % of the budget"
    ]


def test_progressive_shares_the_budget_equally():
    assert lines(progressive([1000, 2000, 3000])) == [
        "checkpoint-1000  checkpoint 1000  logits  whole  25 % of the budget",
        "checkpoint-2000  checkpoint 2000  logits  whole  25 % of the budget",
        "checkpoint-3000  checkpoint 3000  logits  whole  25 % of the budget",
        "final            final            logits  whole  25 % of the budget",
    ]


def test_two_shot_gives_the_checkpoint_fifteen_percent():
    assert lines(p_shot([6500])) == [
        "checkpoint-6500  checkpoint 6500  logits  whole  15 % of the budget",
        "final            final            logits  whole  85 % of the budget",
    ]


def test_many_shots_leave_half_for_the_final_teacher():
    assert [stage.duration.value for stage in p_shot([1, 2, 3, 4, 5])] == pytest.approx([0.1] * 5 + [0.5])


def test_extraction_pairs_layers_evenly():
    assert lines(extraction(student_layers=3, teacher_layers=6)) == [
        "hidden-2-to-1  final    hidden 2 (gaussian/0)  1      10 % of the budget",
        "hidden-4-to-2  final    hidden 4 (gaussian/0)  2      10 % of the budget",
        "final          final    logits                 whole  80 % of the budget",
    ]


def test_extraction_by_hand():
    curriculum = extraction(
        layers={2: 1, 4: 2},
        stage=Duration.steps(500),
        final=Duration.steps(2000),
        projection=Projection("sparse", 3),
        scaling="per-dimension",
    )
    assert lines(curriculum) == [
        "hidden-2-to-1  final    hidden 2 (sparse/3)  1      500 steps",
        "hidden-4-to-2  final    hidden 4 (sparse/3)  2      500 steps",
        "final          final    logits               whole  2000 steps",
    ]
    assert shared_projection(curriculum) == Projection("sparse", 3)
    assert shared_projection(one_shot()) is None


@pytest.mark.parametrize(
    ("teacher", "student", "stages", "pairs"),
    [
        (6, 3, None, {2: 1, 4: 2}),
        (6, 3, 1, {4: 2}),
        (6, 3, 3, {2: 1, 4: 2, 6: 3}),
        (30, 6, None, {5: 1, 10: 2, 15: 3, 20: 4, 25: 5}),
        (30, 6, 2, {10: 2, 25: 5}),
        (4, 4, None, {1: 1, 2: 2, 3: 3}),
        (4, 1, None, {4: 1}),
        (7, 5, None, {1: 1, 3: 2, 4: 3, 6: 4}),
    ],
)
def test_pair_layers(teacher, student, stages, pairs):
    assert pair_layers(teacher, student, stages) == pairs


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_pairs_rise_and_stay_inside(teacher, student, data):
    if student > teacher:
        with pytest.raises(ConfigError, match="deeper"):
            pair_layers(teacher, student)
        return
    stages = data.draw(st.none() | st.integers(1, student))
    pairs = list(pair_layers(teacher, student, stages).items())
    assert pairs == sorted(pairs)
    assert len({s for _, s in pairs}) == len(pairs) == (stages or max(student - 1, 1))
    assert all(1 <= t <= teacher and 1 <= s <= student for t, s in pairs)


def test_steps_of_each_unit():
    durations = [
        Duration.steps(7),
        Duration.samples(31),
        Duration.tokens(640),
        Duration.epochs(0.1),
        Duration.plateau(2, limit=9),
    ]
    curriculum = tuple(Stage(f"s{i}", TeacherRef.final(), Logits(), None, d) for i, d in enumerate(durations))
    assert resolve_steps(curriculum, 0, **SIZES) == (7, 4, 2, 10, 9)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(1, 5000))
def test_shares_of_one_take_the_whole_budget(weights, budget):
    shares = [w / sum(weights) for w in weights]
    curriculum = tuple(
        Stage(f"s{i}", TeacherRef.final(), Logits(), None, Duration.share(x)) for i, x in enumerate(shares)
    )
    try:
        steps = resolve_steps(curriculum, budget, **SIZES)
    except ConfigError as error:  # only a share too small for one step
        assert "less than one step" in str(error)  # noqa: PT017
        assert budget * min(shares) < 1.5
        return
    assert sum(steps) == budget
    assert all(abs(n - share * budget) <= 1 for n, share in zip(steps, shares))


LOGITS = st.builds(
    Logits,
    temperature=st.sampled_from([1e-20, 0.5, 1.0]),
    alpha=st.sampled_from([0.0, 0.3]),
    top_k=st.none() | st.integers(1, 9),
    divergence=st.sampled_from(["forward-kl", "reverse-kl", "soft-cross-entropy", "jensen-shannon"]),
)
HIDDEN = st.builds(
    Hidden,
    layer=st.integers(0, 9),
    projection=st.builds(Projection, st.sampled_from(["gaussian", "pca", "learned"]), st.integers(0, 9)),
    scaling=st.sampled_from(["unit", "none"]),
)
TARGETS = st.one_of(
    LOGITS,
    st.builds(Embedding, pooling=st.sampled_from(["mean", "cls"])),
    HIDDEN,
    st.builds(Joint, HIDDEN, LOGITS, weight=st.sampled_from([0.5, 1.0])),
)
TEACHERS = st.one_of(
    st.just(TeacherRef.final()),
    st.builds(TeacherRef.checkpoint, st.integers(1, 99)),
    st.just(TeacherRef.other("models/large")),
)
DURATIONS = st.one_of(
    st.builds(Duration.steps, st.integers(1, 99)),
    st.builds(Duration.share, st.sampled_from([0.1, 0.2])),
    st.builds(Duration.epochs, st.sampled_from([0.5, 2.0])),
    st.builds(Duration.plateau, st.integers(1, 5), st.integers(1, 99)),
)


@given(st.lists(st.tuples(TEACHERS, TARGETS, DURATIONS), min_size=1, max_size=5))
def test_yaml_there_and_back(parts):
    curriculum = tuple(Stage(f"stage-{i}", *part[:2], None, part[2]) for i, part in enumerate(parts))
    assert from_yaml(to_yaml(curriculum)) == curriculum
    assert from_plain(to_plain(curriculum)) == curriculum


def test_yaml_by_hand():
    text = """
    - target: {hidden: {layer: 2, projection: orthogonal}}
      depth: 1
      duration: {share: 0.25}
    - {name: bigger, teacher: {model: models/large}, target: logits, duration: {epochs: 1.5}}
    - {target: labels, duration: {steps: 10}}
    - target: {joint: {hidden: {layer: 1, projection: {kind: sparse, seed: 2}}, logits: {temperature: 2}, weight: 0.5}}
      duration: {steps: 10}
    - name: plainest
      target:
        joint:
          hidden: {layer: 1}
          logits:
      duration: {steps: 10}
    """  # noqa: E501
    assert from_yaml(text) == (
        Stage("stage-1", TeacherRef.final(), Hidden(2, Projection("orthogonal")), 1, Duration.share(0.25)),
        Stage("bigger", TeacherRef.other("models/large"), Logits(), None, Duration.epochs(1.5)),
        Stage("stage-3", TeacherRef.labels(), Labels(), None, Duration.steps(10)),
        Stage(
            "stage-4",
            TeacherRef.final(),
            Joint(Hidden(1, Projection("sparse", 2)), Logits(2), 0.5),
            None,
            Duration.steps(10),
        ),
        Stage("plainest", TeacherRef.final(), Joint(Hidden(1), Logits()), None, Duration.steps(10)),
    )


def test_what_a_stage_leaves_out_in_words_and_plain_values():
    target = Hidden(4, Projection("pca"), positions="predicted", final_norm=False)
    curriculum = (Stage("last", TeacherRef.final(), target, 2, Duration.steps(5), frozen=0),)
    assert (
        "hidden 4 (pca, predicted tokens, before the final norm)  2, 0 frozen  5 steps"
        in lines(curriculum)[0]
    )
    plain = to_plain(curriculum)
    assert plain[0]["frozen"] == 0
    assert plain[0]["target"] == {
        "hidden": {"layer": 4, "projection": {"kind": "pca"}, "positions": "predicted", "final_norm": False}
    }
    assert from_plain(plain) == curriculum
    with pytest.raises(ConfigError, match="frozen 3 is outside the student, which has 2 blocks"):
        check_curriculum((replace(curriculum[0], depth=None, frozen=3),), student_layers=2)


def test_a_divergence_of_hidden_states_in_words_and_plain_values():
    target = Hidden(1, divergence="cosine")
    curriculum = (Stage("first", TeacherRef.final(), target, 1, Duration.steps(5)),)
    assert "hidden 1 (gaussian/0, cosine)" in lines(curriculum)[0]
    plain = to_plain(curriculum)
    assert plain[0]["target"] == {"hidden": {"layer": 1, "divergence": "cosine"}}
    assert from_plain(plain) == curriculum
    with pytest.raises(ConfigError, match="divergence: unknown value 'kl'; accepted: mse, cosine"):
        from_plain([{**plain[0], "target": {"hidden": {"layer": 1, "divergence": "kl"}}}])


def test_a_joint_target_in_words_and_plain_values():
    curriculum = one_shot(target=Joint(Hidden(1, Projection("sparse")), Logits(2), 0.5))
    assert lines(curriculum) == [
        "final  final    logits (τ=2) + 0.5 × hidden 1 (sparse/0)  whole  100 % of the budget"
    ]
    assert to_plain(curriculum)[0]["target"] == {
        "joint": {
            "hidden": {"layer": 1, "projection": {"kind": "sparse"}},
            "logits": {"temperature": 2},
            "weight": 0.5,
        }
    }
    assert str(Joint(Hidden(1), Logits())) == "logits + hidden 1 (gaussian/0)"
    assert shared_projection(curriculum) == Projection("sparse")
    parts = (Labels(), Logits(), Embedding(), Hidden(2), Joint(Hidden(1), Logits()))
    assert [hidden_part(target) for target in parts] == [None, None, None, Hidden(2), Hidden(1)]


STAGE = {"target": "logits", "duration": {"steps": 5}}
JOINT = {"hidden": {"layer": 1}, "logits": {}}


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ([], "no stages"),
        ("logits", "accepted: a builder's name, or a list of stages"),
        ([STAGE | {"tempo": 1}], r"curriculum\[0\].tempo: unknown value 'tempo'"),
        ([{"target": "logits"}], r"curriculum\[0\].duration: missing"),
        ([STAGE | {"target": "logit"}], "did you mean 'logits'"),
        ([STAGE | {"target": {"hidden": {}}}], r"curriculum\[0\].target.hidden.layer: missing"),
        ([STAGE | {"target": {"logits": {"temprature": 2}}}], "did you mean 'temperature'"),
        (
            [STAGE | {"target": {"logits": {"temperature": "hot"}}}],
            r"curriculum\[0\].target.logits.temperature: 'hot'; accepted: a positive number",
        ),
        ([STAGE | {"teacher": "last"}], "unknown value 'last'"),
        ([STAGE | {"duration": 5}], "accepted: a mapping"),
        ([STAGE | {"duration": {"stps": 5}}], "did you mean 'steps'"),
        ([STAGE | {"duration": {"steps": 5, "epochs": 1}}], "exactly one"),
        (
            [STAGE | {"duration": {"share": 0.6}}, STAGE | {"name": "b", "duration": {"share": 0.5}}],
            "add up to 1.1",
        ),
        ([STAGE | {"name": "a"}, STAGE | {"name": "a"}], "two stages are named 'a'"),
        ([STAGE | {"depth": 1}], "depth 1 needs a hidden target"),
        ([STAGE | {"target": "joint"}], r"curriculum\[0\].target.joint.hidden: missing"),
        (
            [STAGE | {"target": {"joint": {"hidden": {"layer": 1}}}}],
            r"curriculum\[0\].target.joint.logits: missing",
        ),
        (
            [STAGE | {"target": {"joint": JOINT | {"hidden": {}}}}],
            r"curriculum\[0\].target.joint.hidden.layer: missing",
        ),
        (
            [STAGE | {"target": {"joint": JOINT | {"hidden": 1}}}],
            r"curriculum\[0\].target.joint.hidden: 1; accepted: a mapping",
        ),
        (
            [STAGE | {"target": {"joint": JOINT | {"logits": {"temprature": 2}}}}],
            r"joint.logits.temprature: .*mean 'temperature'",
        ),
        (
            [STAGE | {"target": {"joint": JOINT | {"hidden": {"layer": 1, "projection": {"sed": 1}}}}}],
            r"hidden.projection.sed",
        ),
        (
            [STAGE | {"target": {"joint": JOINT | {"weigth": 2}}}],
            r"curriculum\[0\].target.joint.weigth: .*mean 'weight'",
        ),
        (
            [STAGE | {"target": {"joint": JOINT | {"weight": 0}}}],
            "joint.weight: 0; accepted: a positive number",
        ),
        (
            [STAGE | {"target": {"joint": JOINT | {"weight": "much"}}}],
            r"curriculum\[0\].target.joint.weight: 'much'; accepted: a positive number",
        ),
        ([STAGE | {"target": {"joint": JOINT}, "teacher": "labels"}], "any other target with a model"),
    ],
)
def test_bad_plain_curricula(plain, message):
    assert from_plain([STAGE, STAGE | {"name": "joint", "target": {"joint": JOINT | {"weight": 0.1}}}])
    with pytest.raises(ConfigError, match=message):
        from_plain(plain)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Duration.steps(0), "duration.steps: 0; accepted: a positive number"),
        (lambda: Duration.steps(1.5), "duration.steps: 1.5; accepted: a whole number"),
        (lambda: Duration.share(1.01), "more than the whole budget"),
        (lambda: Duration(3, "plateau"), "needs limit"),
        (lambda: Duration(3, "hours"), "unknown value 'hours'"),
        (lambda: Logits(temperature=0), "logits.temperature"),
        (lambda: Logits(alpha=1), "use the target 'labels'"),
        (lambda: Logits(top_k=0), "logits.top_k"),
        (lambda: Logits(divergence="kl"), "unknown value 'kl'"),
        (lambda: Hidden(-1), "hidden.layer"),
        (lambda: Hidden(1, positions="masked"), "hidden.positions: unknown value 'masked'"),
        (lambda: Joint(Hidden(1), Logits(), weight=-1), "joint.weight: -1"),
        (lambda: Joint(Hidden(1), Logits(), weight=float("inf")), "joint.weight: inf"),
        (lambda: Joint(Logits(), Hidden(1)), "joint.hidden: Logits.*; accepted: Hidden"),
        (lambda: Joint(Hidden(1), Labels()), "joint.logits: Labels.*; accepted: Logits"),
        (lambda: Projection("gausian"), "did you mean 'gaussian'"),
        (lambda: Stage("x", TeacherRef.labels(), Logits(), None, Duration.steps(1)), "goes with the teacher"),
        (lambda: Stage("a/b", TeacherRef.final(), Logits(), None, Duration.steps(1)), "without '/'"),
        (
            lambda: Stage("x", TeacherRef.final(), Hidden(2), 1, Duration.steps(1), frozen=1),
            "'x': frozen 1; accepted: 0",
        ),
        (
            lambda: Stage("x", TeacherRef.final(), Logits(), None, Duration.steps(1), frozen=-1),
            "stage 'x'.frozen: -1; accepted: a whole number",
        ),
        (lambda: progressive([]), "at least one checkpoint"),
        (lambda: progressive([2, 1]), "rising order"),
        (lambda: extraction(), "give layers"),
        (lambda: extraction(layers={4: 1, 2: 2}), "both must rise"),
        (
            lambda: extraction(layers={2: 1, 9: 2}, teacher_layers=6),
            "teacher layer 9 is outside the teacher, which has 6",
        ),
        (
            lambda: extraction(layers={2: 4}, student_layers=3),
            "student depth 4 is outside the student, which has 3",
        ),
        (lambda: extraction(student_layers=7, teacher_layers=6), "student.layers: 7 is deeper"),
        (lambda: extraction(student_layers=3, teacher_layers=6, hidden_share=1), "hidden_share"),
    ],
)
def test_bad_values(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


def test_nearest_valid_values():
    assert Duration.share(1).value == 1
    assert Logits(temperature=1e-20, alpha=0.999).top_k is None
    assert Hidden(0).layer == 0
    assert Joint(Hidden(1), Logits(), weight=1e-9).hidden == Hidden(1)
    assert extraction(layers={2: 1, 6: 3}, teacher_layers=6, student_layers=3)


def test_check_against_models():
    curriculum = extraction(layers={2: 1, 4: 2})
    check_curriculum(curriculum, student_layers=2, teacher_layers=4)
    with pytest.raises(ConfigError, match="hidden layer 4 is outside the teacher, which has 3 blocks"):
        check_curriculum(curriculum, student_layers=2, teacher_layers=3)
    joint = one_shot(target=Joint(Hidden(4), Logits()))
    check_curriculum(joint, student_layers=1, teacher_layers=4)
    with pytest.raises(ConfigError, match="hidden layer 4 is outside the teacher, which has 3 blocks"):
        check_curriculum(joint, teacher_layers=3)
    with pytest.raises(ConfigError, match="depth 2 is outside the student, which has 1 blocks"):
        check_curriculum(curriculum, student_layers=1, teacher_layers=4)
