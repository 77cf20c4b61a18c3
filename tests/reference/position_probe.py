"""The position-attention probe, one sentence, head and place at a time."""

import torch


def probe(module, hidden, mask):
    count, length, _ = hidden.shape
    out = torch.zeros(count, length, module.bias.numel(), dtype=hidden.dtype)
    for n in range(count):
        places = [j for j in range(length) if mask[n, j]]
        for i in range(length):
            out[n, i] = module.bias
            for q, k, v in zip(module.queries, module.keys, module.values):
                scores = torch.stack([q[i] @ k[j] for j in places]) / q.shape[-1] ** 0.5
                for weight, j in zip(scores.softmax(0), places):
                    out[n, i] = out[n, i] + weight * (hidden[n, j] @ v)
    return out.unflatten(-1, module.shape)
