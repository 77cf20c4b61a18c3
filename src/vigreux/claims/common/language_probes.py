"""How finished models of a language experiment do elsewhere: on text of a source that none of them was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vigreux.claims.common.transformer_students import Students
from vigreux.probes.ngrams import NgramScore, NgramSettings
from vigreux.run.folder import RunFolder


def scores_elsewhere(runs: Sequence[RunFolder], source: str) -> list[dict[str, float]]:
    """Loss and accuracy of each finished model on all text of `source` (at most `task.max_eval` blocks), in its own task.

    The masks, where there are any, are the same for all.
    """
    from vigreux.assembly.probing import models_of_run
    from vigreux.backends.transformer.evaluation import HeldOut
    from vigreux.tasks.build import build_task
    from vigreux.tasks.documents.sources import read_records
    from vigreux.tasks.documents.split import Documents

    records = read_records(source)
    scores = []
    for run in runs:
        (model,) = models_of_run(run.path, series=False)
        task = build_task(
            replace(model.task, data=source), model.tokenizer(), documents=Documents(records, records)
        )
        scores.append(HeldOut(task, None)(model.model()))
    return scores


def held_out_losses(students: Students) -> dict[str, list[float]]:
    """Method → the loss on held-out text of the sources that were trained on, a seed each, in nats a token."""
    metrics = {
        method: [summary.metrics for run in runs if (summary := run.summary())]
        for method, runs in students.runs.items()
    }
    return {method: [each["loss"] for each in found] for method, found in metrics.items()}


def ngrams_of(
    students: Students, methods: Sequence[str], sentences: int, settings: NgramSettings
) -> Mapping[str, object]:
    """M_robust and M_close of finished students: method → a list a seed, each by the length of the n-gram."""
    return {
        method: [_by_length(_scores(run, sentences, settings)) for run in students.runs[method]]
        for method in methods
    }


def _scores(run: RunFolder, sentences: int, settings: NgramSettings) -> list[NgramScore]:
    from vigreux.assembly.probing import held_out_ids, models_of_run
    from vigreux.probes.ngrams import predictor, probe_ngrams

    (model,) = models_of_run(run.path, series=False)
    tokenizer = model.tokenizer()
    ids = held_out_ids(model, sentences)
    return probe_ngrams(
        predictor(model.model()), ids, tokenizer.mask_token_id, tokenizer.all_special_ids, settings
    )


def _by_length(scores: Sequence[NgramScore]) -> dict[str, dict[str, float]]:
    return {str(score.n): {"robust": score.robust, "close": score.close} for score in scores}
