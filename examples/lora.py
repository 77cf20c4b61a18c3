"""A LoRA student: an existing model learns from a larger one, and only its adapters change.

The models are tiny and random, so the script runs in seconds on any machine.
"""

import tempfile

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, TrainingArguments

import vigreux as vx
from vigreux.tasks.tokenizers import train_tokenizer

texts = [
    f"the {animal} {verb} over the hill"
    for animal in ("cat", "dog")
    for verb in ("ran", "sat", "sang", "slept")
] * 8
tokenizer = train_tokenizer(texts, 280, "bpe")
rows = Dataset.from_dict({"input_ids": tokenizer(texts)["input_ids"]})
torch.manual_seed(0)
sizes = {"vocab_size": len(tokenizer), "n_head": 4, "n_positions": 32, "bos_token_id": 0, "eos_token_id": 0}
teacher = GPT2LMHeadModel(GPT2Config(n_layer=4, n_embd=32, **sizes))
with tempfile.TemporaryDirectory() as base:  # in practice: the folder or hub id of a small model
    GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=16, **sizes)).save_pretrained(base)
    student = AutoModelForCausalLM.from_pretrained(base)
    student.add_adapter(LoraConfig(r=4, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True))
    run = vx.distill(
        student,
        teacher,
        vx.extraction(layers={2: 1}, stage=vx.Duration.steps(10), final=vx.Duration.steps(20)),
        task="causal-lm",
        train_dataset=rows.select(range(48)),
        eval_dataset=rows.select(range(48, 64)),
        processing_class=tokenizer,
        args=TrainingArguments(output_dir="runs/lora", learning_rate=1e-2, per_device_train_batch_size=8),
    )
    # the run saves the adapters; from_pretrained opens them on their base
    again = AutoModelForCausalLM.from_pretrained(run.student)
print(
    run.summary().metrics,
    sum(p.numel() for p in student.parameters() if p.requires_grad),
    "parameters trained",
)
