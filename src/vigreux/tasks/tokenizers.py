"""Compares two tokenizers, and trains new ones."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from vigreux.errors import ConfigError

_END = "<|endoftext|>"
_PAD = "<|pad|>"
_BYTES = 256
_TEXTS = ("the cat sat", "1 2 3")  # a tokenizer is tried on these
_ALPHABET = 1000  # the most single characters in a wordpiece vocabulary


class Wrapping(NamedTuple):
    """The token ids that a tokenizer puts before and after a text."""

    before: tuple[int, ...]
    after: tuple[int, ...]


def wrapping(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str] = _TEXTS) -> Wrapping | None:
    """The tokens that the tokenizer puts before and after a text; `None` if they cannot be determined.

    Each text is encoded with and without special tokens. The second encoding must be inside the first, in the
    same way for all texts.
    """
    wrappings = set()
    for text in texts:
        bare = list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        wrapped = list(tokenizer(text, verbose=False)["input_ids"])
        start = next((i for i in range(len(wrapped)) if wrapped[i : i + len(bare)] == bare), None)
        if not bare or start is None:
            return None
        wrappings.add(Wrapping(tuple(wrapped[:start]), tuple(wrapped[start + len(bare) :])))
    return wrappings.pop() if len(wrappings) == 1 else None


def same_tokenizer(
    teacher: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase, where: str, *, masked: bool = False
) -> list[str]:
    """Checks that common ids of two tokenizers mean the same token; returns notes on other differences.

    Args:
        teacher: the tokenizer of all texts of the run.
        other: the tokenizer of another model of the run.
        where: names this model in messages.
        masked: whether tokens are hidden behind the mask token.

    Raises:
        ConfigError: an id means different tokens (the message names the first), or the mask tokens differ and
            `masked` is set.
    """
    teacher_tokens = {i: token for token, i in teacher.get_vocab().items()}
    other_tokens = {i: token for token, i in other.get_vocab().items()}
    common = teacher_tokens.keys() & other_tokens.keys()
    differ = sorted(i for i in common if teacher_tokens[i] != other_tokens[i])
    if differ:
        i = differ[0]
        raise ConfigError(
            f"{where}: its tokenizer has {other_tokens[i]!r} for id {i}, the teacher's has"
            f" {teacher_tokens[i]!r} ({len(differ)} ids differ);"
            " accepted: a model with the teacher's tokenizer"
        )
    if masked and other.mask_token_id != teacher.mask_token_id:
        raise ConfigError(
            f"{where}: its tokenizer masks with {other.mask_token!r}, the teacher's with"
            f" {teacher.mask_token!r}; accepted: a model with the teacher's mask token"
        )
    notes = []
    if teacher_tokens != other_tokens:
        notes.append(
            f"{where}: the tokenizers agree on {len(common)} ids; the teacher's has {len(teacher_tokens)},"
            f" the other {len(other_tokens)}"
        )
    wrappings = wrapping(teacher), wrapping(other)
    if None not in wrappings and wrappings[0] != wrappings[1]:
        notes.append(f"{where}: its tokenizer puts other tokens around a text; the teacher's are used")
    elif _sample_ids(teacher) != _sample_ids(other):
        notes.append(f"{where}: its tokenizer divides texts in another way; the teacher's is used")
    if other.eos_token_id != teacher.eos_token_id:
        notes.append(
            f"{where}: its tokenizer ends texts with {other.eos_token!r}; the teacher's,"
            f" {teacher.eos_token!r}, is used"
        )
    return notes


def _sample_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids of a text with capitals, accents, digits and spaces."""
    ids: list[int] = tokenizer("The Brown  Fox, naïve: 12,345.67!\n\tif x_1 == y:", add_special_tokens=False)[
        "input_ids"
    ]
    return ids


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, kind: Literal["bpe", "wordpiece"]
) -> PreTrainedTokenizerFast:
    """A tokenizer that is trained on the texts.

    Args:
        texts: the training documents.
        vocab_size: the most tokens, special tokens included.
        kind: `bpe`: byte-level like GPT-2's, for causal models (<|endoftext|> ends a document, <|pad|> pads);
            `wordpiece`: lower case like BERT's, for the other models ([PAD] [UNK] [CLS] [SEP] [MASK]).

    Raises:
        ConfigError: `vocab_size` is too small for the bytes (bpe) or the special tokens (wordpiece).
    """
    smallest = _BYTES + 2 if kind == "bpe" else 7
    if vocab_size < smallest:
        raise ConfigError(f"vocab_size: {vocab_size}; accepted for {kind}: from {smallest}")
    return _byte_level(list(texts), vocab_size) if kind == "bpe" else _wordpiece(list(texts), vocab_size)


def symbol_tokenizer(symbols: Sequence[str]) -> PreTrainedTokenizerFast:
    """One token per symbol, from id 0 in order, then [BOS] [EOS] [PAD] [MASK] [UNK].

    Blanks separate symbols.
    """
    special = ["[BOS]", "[EOS]", "[PAD]", "[MASK]", "[UNK]"]
    vocabulary = {token: i for i, token in enumerate([*symbols, *special])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[(token, vocabulary[token]) for token in ("[BOS]", "[EOS]")]
    )
    names = ["bos_token", "eos_token", "pad_token", "mask_token", "unk_token"]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **dict(zip(names, special)))


def _byte_level(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[_END, _PAD], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=_END, eos_token=_END, pad_token=_PAD)


def _wordpiece(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Trains a wordpiece tokenizer (see `train_tokenizer`). The pieces ##a … get the first ids.

    The trainer numbers them in the order of a hash table, so it would break ties differently each time.
    """
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    # Each character is also a ##piece.
    alphabet = _alphabet(texts, min(_ALPHABET, (vocab_size - len(special)) // 2))
    continuing = sorted(
        piece
        for piece in _wordpieces(texts, 0, special, alphabet)
        if len(piece) == 3 and piece.startswith("##")
    )
    vocabulary = _wordpieces(texts, vocab_size, special + continuing, alphabet)
    tokenizer = _wordpiece_tokenizer(vocabulary)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    )
    names = ["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **dict(zip(names, special)))


def _wordpiece_tokenizer(vocabulary: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _wordpieces(texts: list[str], vocab_size: int, first: list[str], alphabet: list[str]) -> dict[str, int]:
    """Piece → id: `first`, then the alphabet and the pieces inside words, then merges up to `vocab_size`."""
    tokenizer = _wordpiece_tokenizer({})
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=first,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.get_vocab()


def _alphabet(texts: list[str], most: int) -> list[str]:
    """The `most` most frequent characters, ties by character."""
    normalizer = normalizers.BertNormalizer(lowercase=True)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text))
    return sorted(
        counts.keys() - set(string.whitespace), key=lambda character: (-counts[character], character)
    )[:most]
