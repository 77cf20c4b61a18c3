"""The probes of the grammar experiments: a run's checkpoints by n-grams, a final model by the ancestors in its hidden states."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vigreux.experiments.grammar_worlds import GrammarSettings
from vigreux.experiments.transition import checkpoints
from vigreux.runs import RunFolder

if TYPE_CHECKING:
    from vigreux.probes.nonterminals import ProbeData
    from vigreux.tasks.sentences import Sentences

_PROBE_STREAM = 2**62  # sentences that neither training nor evaluation sees


def ngram_series(teacher: RunFolder, settings: GrammarSettings, steps: list[int]) -> dict[str, Any]:
    """M_robust and M_close of the teacher's checkpoints: `steps`, and for each n a list of each measure."""
    from vigreux.probes.ngrams import NgramSettings, predictor, probe_ngrams

    probe = NgramSettings(positions=settings.positions)
    ids, tokenizer = _ids(settings, settings.probe_sentences), _tokenizer(settings)
    found = [
        probe_ngrams(predictor(_load(_checkpoint(teacher, step))), ids, tokenizer.mask_token_id, tokenizer.all_special_ids, probe)
        for step in steps
    ]
    by_n = {score.n: [scores[i] for scores in found] for i, score in enumerate(found[0])}
    return {
        "steps": steps,
        "robust": {n: [score.robust for score in scores] for n, scores in by_n.items()},
        "close": {n: [score.close for score in scores] for n, scores in by_n.items()},
        "robust_interval": {n: [score.robust_interval for score in scores] for n, scores in by_n.items()},
        "close_interval": {n: [score.close_interval for score in scores] for n, scores in by_n.items()},
    }


def nonterminal_scores(model: Path, settings: GrammarSettings) -> dict[str, list[float]]:
    """What can be read of each token's ancestors in a model's last hidden states, level by level."""
    from vigreux.probes.nonterminals import fit_nonterminal_probe

    data = _probe_data(model, settings, settings.probe_training + settings.probe_held_out)
    split = settings.probe_training
    train, held_out = (type(data)(data.hidden[s], data.mask[s], data.ancestors[s]) for s in (slice(split), slice(split, None)))
    scores = fit_nonterminal_probe(train, held_out)
    return {"accuracy": scores.accuracy, "majority": scores.majority}


def probe_steps(teacher: RunFolder, most: int = 30) -> list[int]:
    """Evenly spaced checkpoints, the final teacher last."""
    kept = checkpoints(teacher)
    summary = teacher.summary()
    assert summary is not None
    return [*kept[:: max(1, len(kept) // most)], summary.steps]


def _probe_data(model: Path, settings: GrammarSettings, count: int) -> ProbeData:
    import torch

    from vigreux.models.layout import num_blocks
    from vigreux.models.views import cut
    from vigreux.probes.nonterminals import IGNORE, ProbeData, joined
    from vigreux.tasks.table import pad

    network = _load(model).eval()
    view = cut(network, num_blocks(network))
    sentences, tokenizer = _sentences(settings, count), _tokenizer(settings)
    parts = []
    for first in range(0, count, 128):
        rows = range(first, min(first + 128, count))
        ids, mask = pad([_with_ends(sentences, i, tokenizer) for i in rows], tokenizer.pad_token_id)
        assert sentences.ancestors is not None
        ancestors = torch.full((*ids.shape, sentences.ancestors.shape[1]), IGNORE)
        for r, i in enumerate(rows):
            own = torch.from_numpy(sentences.ancestors[_span(sentences, i)].astype(np.int64))
            ancestors[r, 1 : 1 + len(own)] = own
        with torch.no_grad():
            hidden = view({"input_ids": ids, "attention_mask": mask})
        parts.append(ProbeData(hidden, mask.bool(), ancestors))
    return joined(parts)


def _ids(settings: GrammarSettings, count: int) -> list[np.ndarray]:
    sentences, tokenizer = _sentences(settings, count), _tokenizer(settings)
    return [_with_ends(sentences, i, tokenizer) for i in range(count)]


def _sentences(settings: GrammarSettings, count: int) -> Sentences:
    from vigreux.tasks.generated import generated_grammar
    from vigreux.tasks.sentences import SentenceSampler

    return SentenceSampler(generated_grammar(settings.task()), _PROBE_STREAM).block(0, count, ancestors=True)


def _with_ends(sentences: Sentences, index: int, tokenizer: Any) -> np.ndarray:
    return np.concatenate([[tokenizer.bos_token_id], sentences.tokens[_span(sentences, index)], [tokenizer.eos_token_id]])


def _span(sentences: Sentences, index: int) -> slice:
    return slice(int(sentences.ends[index - 1]) if index else 0, int(sentences.ends[index]))


def _tokenizer(settings: GrammarSettings) -> Any:
    from vigreux.tasks.generated import generated_tokenizer

    return generated_tokenizer(settings.task())


def _checkpoint(teacher: RunFolder, step: int) -> Path:
    return teacher.stage_dir(0, "labels") / f"checkpoint-{step}"


def _load(path: Path) -> Any:
    from vigreux.models.load import load_model

    return load_model(path, "AutoModelForMaskedLM")
