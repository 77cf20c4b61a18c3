"""Synthetic tasks, whose samples are drawn from a known law: a grammar, or sparse parity as tokens.

`task.data` names the law, and `task.kind` defines what is learned from it:

    grammar:cfg3b          sentences of a published grammar (masked-lm, causal-lm)
    grammar:cfg3b:m        the same rules from the symbol m on: shorter sentences
    grammar:FILE           your grammar (`vigreux.tasks.synthetic.grammar`)
    parity:n=20,k=4,seed=0                        bits and their sparse parity (classification)
    hierarchical-parity:n=20,k=3,classes=4,seed=0

No training sample repeats (sample t is a function of the run's seed and t), unless `task.max_train` sets
their number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from vigreux.config.transformer import TaskConfig
from vigreux.errors import ConfigError, DataError, unknown
from vigreux.tasks.encoding import padding_id
from vigreux.tasks.kinds.classification import LabelledCollator
from vigreux.tasks.kinds.language import CausalCollator, MaskedCollator
from vigreux.tasks.stream import Example, Examples
from vigreux.tasks.synthetic.bits import BitStream
from vigreux.tasks.synthetic.grammar import Grammar, load_grammar
from vigreux.tasks.synthetic.parity import BooleanTask, HierarchicalParity, Parity
from vigreux.tasks.task import Collator, Task
from vigreux.tasks.tokenizers import symbol_tokenizer

LAWS = ("grammar", "parity", "hierarchical-parity")
_BITS = ("0", "1")
_AT_ONCE = 256  # samples that are drawn together
# The numbers of streams: 0 for held-out samples, odd numbers for endless training samples, even numbers from
# 2 for a fixed training set.
_HELD_OUT = 0

Draw = Callable[[int, int, int], Sequence[Example]]  # (number of a stream, first sample, count)


def is_generated(data: str | list[str]) -> bool:
    """Whether `task.data` names a law rather than documents."""
    return isinstance(data, str) and data.partition(":")[0] in LAWS and ":" in data


def generated_tokenizer(config: TaskConfig) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per symbol, then [BOS] [EOS] [PAD] [MASK] [UNK]."""
    law = _law(config)
    return symbol_tokenizer(law.terminals if isinstance(law, Grammar) else _BITS)


def generated_task(config: TaskConfig, tokenizer: PreTrainedTokenizerBase) -> Task:
    """The task that `config.data` and `config.kind` describe, in the tokens of `tokenizer`.

    Raises:
        DataError, ConfigError: there is no such law, it does not support the kind, or the tokenizer lacks its
            symbols.
    """
    law = _law(config)
    if isinstance(law, Grammar):
        return _grammar_task(law, config, tokenizer)
    return _parity_task(law, config, tokenizer)


def generated_grammar(config: TaskConfig) -> Grammar:
    """The grammar that `config.data` names.

    Raises:
        ConfigError: it names something else.
    """
    law = _law(config) if is_generated(config.data) else None
    if not isinstance(law, Grammar):
        raise ConfigError(
            f"task.data: {config.data!r} is no grammar; accepted: grammar:NAME, such as grammar:cfg3b"
        )
    return law


def _law(config: TaskConfig) -> Grammar | BooleanTask:
    assert isinstance(config.data, str)
    name, _, arguments = config.data.partition(":")
    if name == "grammar":
        return _grammar(arguments)
    settings = _settings(config.data, arguments)
    if settings.get("seed", 0) < 0:
        raise ConfigError(
            f"task.data: {config.data!r}: seed {settings['seed']}; accepted: a whole number from 0"
        )
    try:
        if name == "parity":
            return Parity.draw(**({"n": 20, "k": 4} | settings))
        return HierarchicalParity.draw(**({"n": 20, "k": 3, "classes": 4} | settings))
    except TypeError as error:
        accepted = "n, k, seed" if name == "parity" else "n, k, classes, seed"
        raise ConfigError(f"task.data: {config.data!r}; accepted after {name}: {accepted}") from error


def _grammar(name: str) -> Grammar:
    """`NAME` or `NAME:START`; the name of a file can hold a colon, too."""
    try:
        return load_grammar(name)
    except DataError:
        base, colon, start = name.rpartition(":")
        if not colon:
            raise
    return load_grammar(base).rooted(start)


def _settings(data: str, text: str) -> dict[str, int]:
    """`n=20,k=4` as a mapping."""
    try:
        return {
            name.strip(): int(value)
            for name, value in (setting.split("=") for setting in text.split(",") if setting.strip())
        }
    except ValueError as error:
        raise ConfigError(f"task.data: {data!r}; accepted: NAME:n=20,k=4,seed=0, whole numbers") from error


# --- drawing ------------------------------------------------------------------------------------------------


@dataclass
class Drawn:
    """Endless examples, drawn in blocks. The last block is cached, because they are read in order."""

    draw_block: Draw
    _last_block: tuple[tuple[int, int], Sequence[Example]] = field(default=((-1, -1), ()), repr=False)

    def example_at(self, seed: int, t: int) -> Example:
        """See `stream.Endless`."""
        return self._at(2 * (seed % 2**61) + 1, t)

    def _at(self, stream: int, t: int) -> Example:
        block = stream, t // _AT_ONCE
        if self._last_block[0] != block:
            self._last_block = block, self.draw_block(stream, block[1] * _AT_ONCE, _AT_ONCE)
        return self._last_block[1][t % _AT_ONCE]


class Fixed:
    """The first `count` examples of one stream."""

    def __init__(self, draw_block: Draw, stream: int, count: int) -> None:
        self.examples = draw_block(stream, 0, count)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]


def _drawn_task(
    draw: Draw,
    config: TaskConfig,
    collate: Collator,
    notes: Sequence[str] = (),
    classes: dict[int, str] | None = None,
) -> Task:
    held_out = Fixed(draw, _HELD_OUT, config.max_eval)
    train: Examples | Drawn = Drawn(draw)
    if config.max_train is not None:
        train = Fixed(draw, 2 * (config.split_seed % 2**61) + 2, config.max_train)
    length = -(-sum(len(example.inputs) for example in held_out.examples) // len(held_out))
    amount = "drawn without end" if config.max_train is None else f"{config.max_train} of them"
    notes = (f"training samples: {amount}; {len(held_out)} held out, of {length} tokens on average", *notes)
    return Task(config.kind, train, held_out, collate, length, classes, notes)


# --- grammars -----------------------------------------------------------------------------------------------


def _grammar_task(grammar: Grammar, config: TaskConfig, tokenizer: PreTrainedTokenizerBase) -> Task:
    if not config.spec.over_vocabulary:
        raise ConfigError(f"task.kind: {config.kind!r} on a grammar; accepted: masked-lm, causal-lm")
    if not 0 <= config.boundary_level <= (grammar.depth or 0):
        raise ConfigError(
            f"task.boundary_level: {config.boundary_level}; accepted: 0 to {grammar.depth or 0}, the"
            " grammar's depth"
        )
    _check_symbols(tokenizer, grammar.terminals)
    task = _drawn_task(
        _sentences(grammar, config.max_length, tokenizer),
        config,
        _sentence_collator(grammar, config, tokenizer),
    )
    cut = sum(
        int(example.inputs[-1]) != tokenizer.eos_token_id
        for example in (task.held_out[i] for i in range(len(task.held_out)))
    )
    if not cut:
        return task
    share = f"{100 * cut / len(task.held_out):.1f} % of the sentences"
    return replace(
        task, notes=(*task.notes, f"{share} are longer than task.max_length {config.max_length} and are cut")
    )


def _sentence_collator(grammar: Grammar, config: TaskConfig, tokenizer: PreTrainedTokenizerBase) -> Collator:
    pad = padding_id(tokenizer)
    if config.spec.is_causal:
        return CausalCollator(pad, config.boundary_level)
    # Terminals have the first ids, and a random one may replace a hidden token.
    terminals = len(grammar.terminals)
    special = tuple(tokenizer.all_special_ids)
    return MaskedCollator(
        pad, tokenizer.mask_token_id, terminals, special, config.mask_share, config.attend_masked
    )


def _sentences(grammar: Grammar, max_length: int, tokenizer: PreTrainedTokenizerBase) -> Draw:
    """[BOS] sentence [EOS], cut to `max_length`; special tokens end nothing."""
    from vigreux.tasks.synthetic.sentences import SentenceSampler  # here: it needs vigreux[lab]

    first = np.int32(tokenizer.bos_token_id)
    last = np.int32(tokenizer.eos_token_id)

    def draw(stream: int, start: int, count: int) -> list[Example]:
        sentences = SentenceSampler(grammar, stream).block(start, count)
        examples = []
        for i in range(count):
            ids = np.concatenate([[first], sentences.sentence(i), [last]]).astype(np.int32)[:max_length]
            levels = np.concatenate([[0], sentences.boundaries[sentences.span(i)], [0]]).astype(np.int8)[
                :max_length
            ]
            examples.append(Example(ids, None, levels))
        return examples

    return draw


# --- parity -------------------------------------------------------------------------------------------------


def _parity_task(law: BooleanTask, config: TaskConfig, tokenizer: PreTrainedTokenizerBase) -> Task:
    if config.spec.predicts != "samples":
        raise ConfigError(f"task.kind: {config.kind!r} on parity; accepted: classification")
    if law.n + 1 > config.max_length:
        raise ConfigError(
            f"task.max_length: {config.max_length}; accepted: from {law.n + 1}, the bits and [BOS]"
        )
    _check_symbols(tokenizer, _BITS)
    first = np.int32(tokenizer.bos_token_id)

    def draw(stream: int, start: int, count: int) -> list[Example]:
        bits = BitStream(law.n, stream).block(start, count)
        ids = np.concatenate([np.full((count, 1), first), bits > 0], axis=1).astype(np.int32)
        return [Example(row, label) for row, label in zip(ids, law.labels(bits).tolist())]

    names = {0: "-1", 1: "+1"} if law.classes == 2 else {i: f"leaf {i}" for i in range(law.classes)}
    support = " ".join(str(set(feature)) for feature in law.features)
    return _drawn_task(
        draw, config, LabelledCollator(padding_id(tokenizer)), [f"coordinates: {support}"], names
    )


def _check_symbols(tokenizer: PreTrainedTokenizerBase, symbols: Sequence[str]) -> None:
    """Raises `ConfigError` if the tokenizer does not have these symbols as its first tokens."""
    vocabulary = tokenizer.get_vocab()
    for number, symbol in enumerate(symbols):
        if vocabulary.get(symbol) != number:
            raise ConfigError(f"task.data: the model's tokenizer: {unknown('symbol', symbol, vocabulary)}")
    for name in ("bos_token", "eos_token", "mask_token"):
        if getattr(tokenizer, name) is None:
            raise ConfigError(
                f"task.data: the model's tokenizer has no {name}; accepted: one that vigreux made for such a"
                " task"
            )
