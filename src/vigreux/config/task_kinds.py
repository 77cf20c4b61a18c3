"""The kinds of tasks: one entry for each kind, which all other modules read.

A kind is a name in a configuration. Its fields say which class of transformers loads the models, what they
predict, and which metric judges the task. `vigreux.tasks.kinds` makes the samples and batches of each kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

TaskKind = Literal["causal-lm", "masked-lm", "classification", "token-classification", "embedding"]
# "tensor" is the task of a plain torch module. Only the Python interface has it.
AnyTaskKind = TaskKind | Literal["tensor"]
TASK_KINDS: tuple[TaskKind, ...] = get_args(TaskKind)


@dataclass(frozen=True)
class MetricSpec:
    """How a held-out metric is written and compared.

    Args:
        name: its name in the records of metrics.jsonl.
        higher_is_better: whether larger values are better.
        is_share: whether values lie between 0 and 1 and are written in per cent.
        words: the name in a sentence; default `name` with spaces.
    """

    name: str
    higher_is_better: bool
    is_share: bool = False
    words: str = ""


METRICS: Mapping[str, MetricSpec] = {
    metric.name: metric
    for metric in (
        MetricSpec("loss", higher_is_better=False),
        MetricSpec("accuracy", higher_is_better=True, is_share=True),
        MetricSpec("agreement", higher_is_better=True, is_share=True),
        MetricSpec("entity_f1", higher_is_better=True, is_share=True, words="entity F1"),
        MetricSpec("entity_precision", higher_is_better=True, is_share=True),
        MetricSpec("entity_recall", higher_is_better=True, is_share=True),
        MetricSpec("perplexity", higher_is_better=False),
        MetricSpec("cosine", higher_is_better=True),
        MetricSpec("similarity_pearson", higher_is_better=True),
        MetricSpec("similarity_spearman", higher_is_better=True),
    )
}


@dataclass(frozen=True)
class TaskSpec:
    """What a kind of task is.

    Args:
        words: the task in a sentence of a report; `{n}` stands for the setting `task.n`.
        metric: the metric that judges the task, one of `METRICS`.
        predicts: what a row of the model's output belongs to. "positions": a position of a sequence (the
            batch's labels are (B, T), with −100 at positions without loss). "samples": a sample (logits
            (B, C)). "vectors": a sample's vector, without logits.
        auto_class: the class of transformers that loads and saves the models; "" for other models.
        model_table: transformers' table of the model classes with this kind's head; "" for models without a
            head.
        head: what that head predicts, in words.
        pipeline_tag: the hub's name for the task; "" for a task that the hub does not know.
        reads_tokens: whether samples are token ids; otherwise they are tensors.
        has_labels: whether a teacher can learn the task: the data has labels, or its texts are the labels.
        has_classes: whether outputs are classes with names. Models and data are matched by these names.
        over_vocabulary: whether logits are over the vocabulary. They are many, so losses do not hold all of
            them at once, and a cache stores the head's input or the top classes.
        has_perplexity: whether exp(loss) is a metric.
        is_causal: whether position t predicts token t + 1 and must not see it.
        hides_tokens: whether tokens are replaced by a mask token, anew each time a sample is read.
        predicted_share: (max_length, mask_share) → the share of positions that are predicted, for plans.
        tokenizer: the algorithm of a tokenizer that `vigreux teach` trains.
        text_field: the default column of the text.
        label_field: the default column of the labels.
        settings: the settings of the task section that this kind reads, and not all kinds do.
    """

    words: str
    metric: str
    predicts: Literal["positions", "samples", "vectors"]
    auto_class: str = ""
    model_table: str = ""
    head: str = ""
    pipeline_tag: str = ""
    reads_tokens: bool = True
    has_labels: bool = True
    has_classes: bool = False
    over_vocabulary: bool = False
    has_perplexity: bool = False
    is_causal: bool = False
    hides_tokens: bool = False
    predicted_share: Callable[[int, float], float] | None = None
    tokenizer: Literal["bpe", "wordpiece"] = "wordpiece"
    text_field: str = "text"
    label_field: str = "label"
    settings: tuple[str, ...] = ()

    @property
    def has_logits(self) -> bool:
        """Whether the models return logits."""
        return self.predicts != "vectors"

    @property
    def by_position(self) -> bool:
        """Whether the model predicts each position of a sequence, rather than each sample."""
        return self.predicts == "positions"


SPECS: Mapping[str, TaskSpec] = {
    "causal-lm": TaskSpec(
        words="causal language modelling",
        metric="loss",
        predicts="positions",
        auto_class="AutoModelForCausalLM",
        pipeline_tag="text-generation",
        model_table="MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
        head="the next token",
        over_vocabulary=True,
        has_perplexity=True,
        is_causal=True,
        predicted_share=lambda max_length, mask_share: 1 - 1 / max_length,
        tokenizer="bpe",
        settings=("boundary_level",),
    ),
    "masked-lm": TaskSpec(
        words="masked language modelling",
        metric="loss",
        predicts="positions",
        auto_class="AutoModelForMaskedLM",
        pipeline_tag="fill-mask",
        model_table="MODEL_FOR_MASKED_LM_MAPPING_NAMES",
        head="masked tokens",
        over_vocabulary=True,
        has_perplexity=True,
        hides_tokens=True,
        predicted_share=lambda max_length, mask_share: mask_share,
        settings=("mask_share", "attend_masked"),
    ),
    "classification": TaskSpec(
        words="text classification",
        metric="accuracy",
        predicts="samples",
        auto_class="AutoModelForSequenceClassification",
        pipeline_tag="text-classification",
        model_table="MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
        head="one class a text",
        has_classes=True,
        settings=("label_field",),
    ),
    "token-classification": TaskSpec(
        words="token classification",
        metric="entity_f1",
        predicts="positions",
        auto_class="AutoModelForTokenClassification",
        pipeline_tag="token-classification",
        model_table="MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
        head="one class a token",
        has_classes=True,
        predicted_share=lambda max_length, mask_share: 1.0,  # at most: words can have several tokens
        text_field="tokens",
        label_field="tags",
        settings=("label_field",),
    ),
    "embedding": TaskSpec(
        words="sentence embeddings",
        metric="cosine",
        predicts="vectors",
        auto_class="AutoModel",
        pipeline_tag="feature-extraction",
        has_labels=False,
        settings=("pooling",),
    ),
    "tensor": TaskSpec(
        words="classification by a torch module",
        metric="accuracy",
        predicts="samples",
        reads_tokens=False,
    ),
    "parity": TaskSpec(
        words="the parity of {k} of {n} coordinates",
        metric="accuracy",
        predicts="samples",
        reads_tokens=False,
    ),
    "hierarchical-parity": TaskSpec(
        words="hierarchical parity, {classes} classes from features of {k} of {n} coordinates",
        metric="accuracy",
        predicts="samples",
        reads_tokens=False,
    ),
}


def kinds_that_read(setting: str) -> tuple[str, ...]:
    """The kinds that read a setting of the task section; empty if all kinds read it."""
    return tuple(kind for kind, spec in SPECS.items() if setting in spec.settings)


def recorded_kind(config: Mapping[str, object]) -> str:
    """The kind of task of a run, from the configuration in its folder; "" if it names none.

    A run from Python has `kind` at the top level; a run from a configuration has it in the section `task`.
    """
    task = config.get("task")
    kind = task.get("kind") if isinstance(task, Mapping) else config.get("kind")
    return str(kind or "")
