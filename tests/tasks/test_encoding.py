"""Token types of the tokenizer's own become a column, unless they say nothing."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from vigreux.tasks.documents.sources import Record
from vigreux.tasks.encoding import encode_documents
from vigreux.tasks.kinds.embedding import TextCollator
from vigreux.tasks.stream import Sample

TEXTS = ["a b", "b", "a a b a"]
RECORDS = [Record(text, None, f"a.txt:{i}") for i, text in enumerate(TEXTS)]


def tokenizer(types):
    built = Tokenizer(models.WordLevel({"[PAD]": 0, "[CLS]": 1, "a": 2, "b": 3}, unk_token="[PAD]"))
    built.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    built.post_processor = processors.TemplateProcessing(
        single=f"[CLS]:0 $A:{types}", special_tokens=[("[CLS]", 1)]
    )
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=built, pad_token="[PAD]", model_input_names=names)


@pytest.mark.parametrize("types", [0, 1])
def test_token_types(types):
    table, notes = encode_documents(RECORDS, tokenizer(types), max_length=4)
    assert [table.row(i).tolist() for i in range(3)] == [[1, 2, 3], [1, 3], [1, 2, 2, 3]]
    assert notes == ("33.3 % of the training documents are longer than task.max_length 4 and are cut",)
    batch = TextCollator(0)([Sample(table[i], i, 0, i) for i in range(3)])
    if types == 0:
        assert set(batch) == {"input_ids", "attention_mask"}
    else:
        assert batch["token_type_ids"].tolist() == [[0, 1, 1, 0], [0, 1, 0, 0], [0, 1, 1, 1]]
