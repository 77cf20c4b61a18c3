"""Online SGD step by step, by autograd and `torch.optim.SGD`: what the blocked kernel must equal."""

import torch
import torch.nn.functional as F


def soft_cross_entropy(o, q, alpha):
    return -(q * o.log_softmax(-1)).sum(-1)


def hinge(o, q, alpha):
    if o.shape[-1] == 1:  # q = (label, teacher's value)
        return alpha * (1 - o[:, 0] * q[:, 0]).clamp(min=0) + (1 - alpha) * (1 - o[:, 0] * q[:, 1]).clamp(
            min=0
        )
    K = o.shape[-1]
    per_class = torch.stack(
        [F.multi_margin_loss(o, torch.full((len(o),), y), reduction="none") for y in range(K)], dim=-1
    )
    return (q * per_class).sum(-1)


LOSSES = {"soft-cross-entropy": soft_cross_entropy, "hinge": hinge}


def fit_logits(W, b, A, c, X, q, rate, *, loss, alpha=0.0, batch=1, weight_decay=0.0):
    """Trained copies of (W, b, A, c), and the losses of all samples, each before its step."""
    W, b, A, c = (p.clone().requires_grad_() for p in (W, b, A, c))
    optimizer = torch.optim.SGD([W, b, A, c], lr=0.0, weight_decay=weight_decay)
    losses = []
    for x, target, lr in zip(X.split(batch), q.split(batch), rate):
        o = torch.relu(x @ W.T + b) @ A.T + c
        losses.append(_step(optimizer, LOSSES[loss](o, target, alpha), lr))
    return [p.detach() for p in (W, b, A, c)], torch.cat(losses)


def fit_hidden(W, b, X, targets, rate, *, before_relu, batch=1, weight_decay=0.0):
    W, b = (p.clone().requires_grad_() for p in (W, b))
    optimizer = torch.optim.SGD([W, b], lr=0.0, weight_decay=weight_decay)
    losses = []
    for x, target, lr in zip(X.split(batch), targets.split(batch), rate):
        a = x @ W.T + b
        a = a if before_relu else torch.relu(a)
        losses.append(_step(optimizer, 0.5 * (a - target).square().sum(-1), lr))
    return [p.detach() for p in (W, b)], torch.cat(losses)


def fit_joint(
    W,
    b,
    A,
    c,
    X,
    q,
    hidden,
    rate,
    *,
    weight,
    before_relu,
    loss="soft-cross-entropy",
    alpha=0.0,
    batch=1,
    weight_decay=0.0,
):
    """Trained copies of (W, b, A, c), and the summed losses of all samples, each before its step."""
    W, b, A, c = (p.clone().requires_grad_() for p in (W, b, A, c))
    optimizer = torch.optim.SGD([W, b, A, c], lr=0.0, weight_decay=weight_decay)
    losses = []
    for x, target, t, lr in zip(X.split(batch), q.split(batch), hidden.split(batch), rate):
        z = x @ W.T + b
        h = torch.relu(z)
        of_logits = LOSSES[loss](h @ A.T + c, target, alpha)
        of_hidden = 0.5 * ((z if before_relu else h) - t).square().sum(-1)
        losses.append(_step(optimizer, of_logits + weight * of_hidden, lr))
    return [p.detach() for p in (W, b, A, c)], torch.cat(losses)


def _step(optimizer, losses, lr):
    for group in optimizer.param_groups:
        group["lr"] = float(lr)
    optimizer.zero_grad()
    losses.mean().backward()
    optimizer.step()
    return losses.detach()
