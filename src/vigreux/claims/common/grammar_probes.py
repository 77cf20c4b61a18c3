"""The probes of the grammar experiments: a teacher's checkpoints by n-grams, a finished model by what its states hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vigreux.claims.common.grammar import GrammarSettings
from vigreux.run.folder import RunFolder

if TYPE_CHECKING:
    from vigreux.probes.ngrams import NgramSettings

MOST = 30  # checkpoints that are probed, besides the last


def ngram_series(teacher: RunFolder, sentences: int, settings: NgramSettings) -> dict[str, Any]:
    """M_robust and M_close of evenly spaced checkpoints, the last among them, on so many held-out sentences.

    Returns:
        `steps`; `robust`, `close` and their `robust_interval`, `close_interval`: a list a length of n-gram, under its number.
    """
    from vigreux.assembly.probing import held_out_ids, models_of_run
    from vigreux.probes.ngrams import predictor, probe_ngrams

    kept = models_of_run(teacher.path, series=True)
    chosen = kept[:: -(-len(kept) // MOST)]
    chosen += [] if chosen[-1] == kept[-1] else [kept[-1]]
    ids, tokenizer = held_out_ids(kept[0], sentences), kept[0].tokenizer()
    found = [
        probe_ngrams(
            predictor(each.model()), ids, tokenizer.mask_token_id, tokenizer.all_special_ids, settings
        )
        for each in chosen
    ]
    measures = ("robust", "close", "robust_interval", "close_interval")
    return {"steps": [each.step for each in chosen]} | {
        measure: {
            str(score.n): [getattr(scores[i], measure) for scores in found]
            for i, score in enumerate(found[0])
        }
        for measure in measures
    }


def boundary_accuracy(run: RunFolder) -> dict[int, float]:
    """Level → a finished model's held-out accuracy at tokens that end a non-terminal of that level or a higher one."""
    from vigreux.assembly.probing import boundary_batches, models_of_run
    from vigreux.probes.boundaries import accuracy_by_level, at_least

    (model,) = models_of_run(run.path, series=False)
    scores = accuracy_by_level(boundary_batches(model))
    return {
        level: at_least(scores, level).accuracy for level in range(model.task.boundary_level, len(scores))
    }


def nonterminal_scores(run: RunFolder, settings: GrammarSettings) -> dict[str, list[float]]:
    """What can be read of each token's ancestors in a finished model's last hidden states, level by level."""
    from vigreux.assembly.probing import models_of_run, nonterminal_data
    from vigreux.probes.nonterminals import fit_nonterminal_probe

    (model,) = models_of_run(run.path, series=False)
    data = nonterminal_data(model, settings.probe_training + settings.probe_held_out)
    scores = fit_nonterminal_probe(
        data.rows(slice(settings.probe_training)), data.rows(slice(settings.probe_training, None))
    )
    return {"accuracy": scores.accuracy, "majority": scores.majority}
