"""Whether two tokenizers agree, and training a new one."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from vigreux.errors import ConfigError

_END, _PAD = "<|endoftext|>", "<|pad|>"
_BYTES = 256
_TEXTS = ("the cat sat", "1 2 3")  # on which it is seen what a tokenizer does
_ALPHABET = 1000  # single characters a wordpiece vocabulary holds at most


class Wrapping(NamedTuple):
    """The token ids that a tokenizer puts before and after a text."""

    before: tuple[int, ...]
    after: tuple[int, ...]


def wrapping(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str] = _TEXTS) -> Wrapping | None:
    """What the tokenizer puts before and after a text, seen from these; `None` where it cannot be seen.

    Each text is encoded with and without special tokens. The second has to stand in the first, the same way for all texts.
    """
    seen = set()
    for text in texts:
        bare = list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        whole = list(tokenizer(text, verbose=False)["input_ids"])
        at = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), None)
        if not bare or at is None:
            return None
        seen.add(Wrapping(tuple(whole[:at]), tuple(whole[at + len(bare) :])))
    return seen.pop() if len(seen) == 1 else None


def same_tokenizer(
    teacher: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase, where: str, *, masked: bool = False
) -> list[str]:
    """Checks that every id which both tokenizers know means the same token; returns notes on what differs otherwise.

    Args:
        teacher: that every text of the run goes through.
        other: of another model of the run.
        where: names this model in messages.
        masked: whether tokens are hidden behind the mask token.

    Raises:
        ConfigError: an id that means different tokens (names the first), or another mask token where tokens are masked.
    """
    ours, theirs = ({i: token for token, i in of.get_vocab().items()} for of in (teacher, other))
    differ = sorted(i for i in ours.keys() & theirs.keys() if ours[i] != theirs[i])
    if differ:
        i = differ[0]
        raise ConfigError(
            f"{where}: its tokenizer has {theirs[i]!r} for id {i}, the teacher's {ours[i]!r} ({len(differ)} ids differ);"
            " accepted: a model with the teacher's tokenizer"
        )
    if masked and other.mask_token_id != teacher.mask_token_id:
        raise ConfigError(
            f"{where}: its tokenizer masks with {other.mask_token!r}, the teacher's with {teacher.mask_token!r}; accepted: a"
            " model with the teacher's mask token"
        )
    notes = []
    if ours != theirs:
        common = len(ours.keys() & theirs.keys())
        notes.append(
            f"{where}: the tokenizers agree on {common} ids; the teacher's has {len(ours)}, the other {len(theirs)}"
        )
    around = wrapping(teacher), wrapping(other)
    if None not in around and around[0] != around[1]:
        notes.append(f"{where}: its tokenizer puts other tokens around a text; the teacher's are used")
    elif _seen(teacher) != _seen(other):
        notes.append(f"{where}: its tokenizer divides texts in another way; the teacher's is used")
    if other.eos_token_id != teacher.eos_token_id:
        notes.append(
            f"{where}: its tokenizer ends texts with {other.eos_token!r}; the teacher's, {teacher.eos_token!r}, is used"
        )
    return notes


def _seen(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer makes of a text with capitals, accents, digits and spaces."""
    ids: list[int] = tokenizer("The Brown  Fox, naïve: 12,345.67!\n\tif x_1 == y:", add_special_tokens=False)[
        "input_ids"
    ]
    return ids


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, kind: Literal["bpe", "wordpiece"]
) -> PreTrainedTokenizerFast:
    """A tokenizer made from the texts.

    Args:
        texts: the training documents.
        vocab_size: tokens at most, special tokens included.
        kind: `bpe`, byte-level as GPT-2's, for causal models (<|endoftext|> ends a document, <|pad|> pads), or `wordpiece`, lower
            case as BERT's, for masked models ([PAD] [UNK] [CLS] [SEP] [MASK]).

    Raises:
        ConfigError: a `vocab_size` too small for the bytes (bpe) or the special tokens (wordpiece).
    """
    smallest = _BYTES + 2 if kind == "bpe" else 7
    if vocab_size < smallest:
        raise ConfigError(f"vocab_size: {vocab_size}; accepted for {kind}: from {smallest}")
    return _byte_level(list(texts), vocab_size) if kind == "bpe" else _wordpiece(list(texts), vocab_size)


def symbol_tokenizer(symbols: Sequence[str]) -> PreTrainedTokenizerFast:
    """A token a symbol, in their order from id 0, then [BOS] [EOS] [PAD] [MASK] [UNK]; text is symbols with blanks between."""
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
    """The trainer numbers the pieces ##a … as a hash table gives them, and so breaks ties anew each time: they are fixed first."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    alphabet = _alphabet(texts, min(_ALPHABET, (vocab_size - len(special)) // 2))  # each also as ##piece
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
    """Piece → id: `first`, then the alphabet and the pieces seen inside words, then merges up to `vocab_size`."""
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
