"""A curriculum from Python: distils a text classifier into a smaller one.

The models are tiny and random, so the script runs in seconds on any machine.
"""

import torch
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

import vigreux as vx
from vigreux.tasks.tokenizers import train_tokenizer

texts = [
    f"the {animal} {verb} over the hill"
    for animal in ("cat", "dog")
    for verb in ("ran", "sat", "sang", "slept")
] * 8
tokenizer = train_tokenizer(texts, 100, "wordpiece")
rows = Dataset.from_dict(
    {"input_ids": tokenizer(texts)["input_ids"], "labels": ["dog" in text for text in texts]}
)
torch.manual_seed(0)
teacher = BertForSequenceClassification(
    BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=64,
    )
)

# [readme]
student = vx.make_student(teacher.config, "AutoModelForSequenceClassification", layers=2, hidden=16, heads=2)
curriculum = vx.extraction(layers={2: 1}, stage=vx.Duration.steps(10), final=vx.Duration.steps(20))
run = vx.distill(
    student,
    teacher,
    curriculum,
    train_dataset=rows.select(range(48)),
    eval_dataset=rows.select(range(48, 64)),
    processing_class=tokenizer,
    init="projected-embeddings",  # the command's default; None keeps the weights that the student has
    args=TrainingArguments(output_dir="runs/python", learning_rate=1e-3, per_device_train_batch_size=8),
)
print(run.summary().metrics, run.student)
# [/readme]
