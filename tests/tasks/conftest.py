"""Small tokenizers trained on a few sentences."""

import pytest

from vigreux.tasks.tokenizers import train_tokenizer

SENTENCES = [
    "The cat sat on the mat and looked at the moon.",
    "A dog ran after the cat, but the cat was quicker.",
    "Whoever looks at the moon for long sees a rabbit in it.",
    "Seven small boats went out to sea at four in the morning.",
    "The mat was red; the boats were blue; the moon was neither.",
    "Nobody knows why the dog barked at the sea that night.",
]


@pytest.fixture(scope="session")
def wordpiece():
    return train_tokenizer(SENTENCES, 150, "wordpiece")


@pytest.fixture(scope="session")
def bpe():
    return train_tokenizer(SENTENCES, 300, "bpe")
