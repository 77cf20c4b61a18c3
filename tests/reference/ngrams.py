"""M_robust and M_close the slow way: the whole model, one sentence, one position and one mask at a time."""

import torch

LEFT = {2: 1, 3: 1, 4: 2, 5: 2, 6: 3}  # tokens of the n-gram before the position


def ngrams(model, sentences, mask_id, special, n, positions, attend):
    """Means over sentences of means over positions; `None` where no n-gram fits."""
    model.eval()
    per_sentence = []
    for ids in sentences:
        distances = []
        for p in positions:
            gram = set(range(p - LEFT[n], p - LEFT[n] + n))
            if min(gram) < 0 or max(gram) >= len(ids) or any(int(ids[i]) in special for i in gram):
                continue
            rest = {i for i in range(len(ids)) if i not in gram and int(ids[i]) not in special}
            full, without, alone = (
                _predict(model, ids, p, hidden, mask_id, attend) for hidden in ({p}, gram, rest | {p})
            )
            distances.append(((full - without).abs().sum() / 2, (full - alone).abs().sum() / 2))
        if distances:
            per_sentence.append([sum(float(d[i]) for d in distances) / len(distances) for i in range(2)])
    if not per_sentence:
        return None
    return tuple(sum(own[i] for own in per_sentence) / len(per_sentence) for i in range(2))


def _predict(model, ids, position, hidden, mask_id, attend):
    row = torch.tensor([[mask_id if i in hidden else int(token) for i, token in enumerate(ids)]])
    attention = torch.tensor([[1 if attend or i not in hidden else 0 for i in range(len(ids))]])
    with torch.no_grad():
        return model(input_ids=row, attention_mask=attention).logits[0, position].softmax(-1)
