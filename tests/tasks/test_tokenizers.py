"""Agreement of tokenizers, and training one."""

import pytest
from tokenizers import normalizers, processors
from transformers import AutoTokenizer

from tests.tasks.conftest import SENTENCES
from vigreux.errors import ConfigError
from vigreux.tasks.tokenizers import same_tokenizer, train_tokenizer, wrapping


def test_same(wordpiece, tmp_path):
    wordpiece.save_pretrained(tmp_path)
    assert same_tokenizer(wordpiece, AutoTokenizer.from_pretrained(tmp_path), "other") == []


def test_longer_vocabulary_is_a_note(wordpiece, tmp_path):
    wordpiece.save_pretrained(tmp_path)
    longer = AutoTokenizer.from_pretrained(tmp_path)
    longer.add_tokens(["<extra>"])
    n = len(wordpiece)
    assert same_tokenizer(wordpiece, longer, "student.model") == [
        f"student.model: the tokenizers agree on {n} ids; the teacher's has {n}, the other {n + 1}"
    ]
    assert "the teacher's has 151, the other 150" in same_tokenizer(longer, wordpiece, "student.model")[0]


def test_other_tokens_name_the_first_id(wordpiece, bpe):
    message = (
        r"student.model: its tokenizer has '<\|endoftext\|>' for id 0, the teacher's has '\[PAD\]'"
        r" \(\d+ ids differ\); accepted: "
    )
    with pytest.raises(ConfigError, match=message) as error:
        same_tokenizer(wordpiece, bpe, "student.model")
    assert "\n" not in str(error.value)


def test_what_differs_beside_the_vocabulary_is_a_note(bpe, tmp_path):
    bpe.save_pretrained(tmp_path)
    other = AutoTokenizer.from_pretrained(tmp_path)
    other.eos_token = other.pad_token
    other.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    assert same_tokenizer(bpe, other, "teacher x") == [
        "teacher x: its tokenizer puts other tokens around a text; the teacher's are used",
        "teacher x: its tokenizer ends texts with '<|pad|>'; the teacher's, '<|endoftext|>', is used",
    ]
    other = AutoTokenizer.from_pretrained(tmp_path)
    other.backend_tokenizer.normalizer = normalizers.Lowercase()
    assert same_tokenizer(bpe, other, "x") == [
        "x: its tokenizer divides texts in another way; the teacher's is used"
    ]


def test_another_mask_token_is_refused_where_tokens_are_masked(wordpiece, tmp_path):
    wordpiece.save_pretrained(tmp_path)
    other = AutoTokenizer.from_pretrained(tmp_path)
    other.mask_token = "[UNK]"
    assert same_tokenizer(wordpiece, other, "x") == []
    with pytest.raises(
        ConfigError, match=r"x: its tokenizer masks with '\[UNK\]', the teacher's with '\[MASK\]'"
    ):
        same_tokenizer(wordpiece, other, "x", masked=True)


def test_what_stands_around_a_text(bpe, wordpiece):
    assert wrapping(bpe) == ((), ())
    assert wrapping(wordpiece) == ((wordpiece.cls_token_id,), (wordpiece.sep_token_id,))
    assert wrapping(wordpiece, ["\n"]) is None  # nothing of the text is left to be found


def test_byte_level(bpe, tmp_path):
    strange = "Größe 猫 \t\n 🙂 the cat"
    assert bpe.decode(bpe(strange)["input_ids"]) == strange
    assert len(bpe) == 300
    assert (bpe.eos_token, bpe.pad_token, bpe.mask_token) == ("<|endoftext|>", "<|pad|>", None)
    bpe.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)(strange)["input_ids"] == bpe(strange)["input_ids"]


def test_wordpiece(wordpiece, tmp_path):
    ids = wordpiece("The CAT sat 猫")["input_ids"]
    assert wordpiece.convert_ids_to_tokens(ids) == ["[CLS]", "the", "cat", "sat", "[UNK]", "[SEP]"]
    assert len(wordpiece) == 150
    assert sorted(wordpiece.all_special_ids) == [0, 1, 2, 3, 4]
    wordpiece.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)("The CAT sat 猫")["input_ids"] == ids


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_training_gives_the_same_tokenizer_each_time(kind):
    vocabularies = [train_tokenizer((s for s in SENTENCES), 280, kind).get_vocab() for _ in range(5)]
    assert all(vocabulary == vocabularies[0] for vocabulary in vocabularies)


@pytest.mark.parametrize(("kind", "smallest"), [("bpe", 258), ("wordpiece", 7)])
def test_smallest_vocabulary(kind, smallest):
    assert len(train_tokenizer(SENTENCES, smallest, kind)) <= smallest
    with pytest.raises(
        ConfigError, match=f"vocab_size: {smallest - 1}; accepted for {kind}: from {smallest}"
    ):
        train_tokenizer(SENTENCES, smallest - 1, kind)
