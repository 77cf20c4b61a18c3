"""How finished language models do on other text, and which n-grams their output depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vigreux.claims.common.transformer_students import Students
from vigreux.probes.ngrams import NgramScore, NgramSettings
from vigreux.run.folder import RunFolder
from vigreux.stats import mean_interval


def scores_on(source: str, runs: Sequence[RunFolder]) -> list[dict[str, float]]:
    """Loss and accuracy of each finished model, in its own task, on all text of `source`.

    `task.max_eval` limits the number of blocks. Masks are the same for all models.
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


def mean_accuracies(scores: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, float]:
    """Method → the mean accuracy over seeds, of the scores of `scores_on`."""
    return {
        method: mean_interval([score["accuracy"] for score in by_seed])[0]
        for method, by_seed in scores.items()
    }


def held_out_losses(students: Students) -> dict[str, list[float]]:
    """Method → the loss on held-out text of the training sources, one for each seed, in nats a token."""
    return {method: students.finals(method, "loss") for method in students.runs}


def ngrams_of(
    students: Students, methods: Sequence[str], sentences: int, settings: NgramSettings
) -> Mapping[str, object]:
    """M_robust and M_close of finished students: method → one entry a seed, by length of the n-gram."""
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
