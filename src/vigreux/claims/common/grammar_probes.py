"""The probes of the claims about grammars: n-grams, boundaries, and hidden states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vigreux.claims.common.grammar import GrammarScale
from vigreux.run.folder import RunFolder

if TYPE_CHECKING:
    from vigreux.probes.ngrams import NgramSettings

MOST_CHECKPOINTS = 30  # that are probed, and the last one in addition
MEASURES = ("robust", "close", "robust_interval", "close_interval")


def ngram_series(teacher: RunFolder, sentences: int, settings: NgramSettings) -> dict[str, Any]:
    """M_robust and M_close of evenly spaced checkpoints and of the last one.

    Returns:
        `steps`; and `robust`, `close`, `robust_interval`, `close_interval`: length of the n-gram → one value
        a checkpoint.
    """
    from vigreux.assembly.probing import held_out_ids, models_of_run
    from vigreux.probes.ngrams import predictor, probe_ngrams

    checkpoints = models_of_run(teacher.path, series=True)
    every = -(-len(checkpoints) // MOST_CHECKPOINTS)
    chosen = checkpoints[::every]
    if chosen[-1] != checkpoints[-1]:
        chosen.append(checkpoints[-1])
    ids = held_out_ids(checkpoints[0], sentences)
    tokenizer = checkpoints[0].tokenizer()
    scores = [
        probe_ngrams(
            predictor(checkpoint.model()), ids, tokenizer.mask_token_id, tokenizer.all_special_ids, settings
        )
        for checkpoint in chosen
    ]
    series: dict[str, Any] = {"steps": [checkpoint.step for checkpoint in chosen]}
    for measure in MEASURES:
        series[measure] = {
            str(score.n): [getattr(by_length[index], measure) for by_length in scores]
            for index, score in enumerate(scores[0])
        }
    return series


def boundary_accuracy(run: RunFolder) -> dict[int, float]:
    """Level → held-out accuracy at tokens that end a non-terminal of that level or a higher one."""
    from vigreux.assembly.probing import boundary_batches, models_of_run
    from vigreux.probes.boundaries import accuracy_by_level, at_least

    (model,) = models_of_run(run.path, series=False)
    scores = accuracy_by_level(boundary_batches(model))
    levels = range(model.task.boundary_level, len(scores))
    return {level: at_least(scores, level).accuracy for level in levels}


def nonterminal_scores(run: RunFolder, scale: GrammarScale) -> dict[str, list[float]]:
    """How well a linear probe reads each token's ancestors from the last hidden states, level by level."""
    from vigreux.assembly.probing import models_of_run, nonterminal_data
    from vigreux.probes.nonterminals import fit_nonterminal_probe

    (model,) = models_of_run(run.path, series=False)
    data = nonterminal_data(model, scale.probe_training + scale.probe_held_out)
    scores = fit_nonterminal_probe(
        data.rows(slice(scale.probe_training)), data.rows(slice(scale.probe_training, None))
    )
    return {"accuracy": scores.accuracy, "majority": scores.majority}
