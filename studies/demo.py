"""The demo's comparison with three seeds: results/demo.json, and the table and plot of README.

make demo
vigreux compare examples/demo/compare.yaml --seeds 3 --resume
python studies/demo.py runs/demo/compare
"""

import json
import sys
from pathlib import Path

from vigreux.claims.common.claim import write_document
from vigreux.claims.common.measures import explained_variances, summary_of
from vigreux.report.plots import save_comparison
from vigreux.report.read import read_experiment
from vigreux.report.tables import comparison_table, to_markdown
from vigreux.run.folder import RunFolder

ROOT = Path(__file__).resolve().parent.parent


def export(folder: Path, name: str) -> str:
    """Writes results/NAME.json and docs/images/NAME-….png; gives the table in Markdown."""
    experiment = read_experiment([folder])
    comparison = json.loads((folder / "compare.json").read_text())
    runs = [RunFolder.open(folder / run) for run in comparison["runs"]]
    document = {
        "what": comparison["budget"],
        "commands": [
            "vigreux teach examples/demo/teacher.yaml",
            *sorted({run.info()["command"] for run in runs}),
        ],
        "config": runs[0].config(),
        "runs": [
            {"curriculum": run.info()["name"], "seed": run.info()["seed"]} | numbers_of(run) for run in runs
        ],
    }
    write_document(document, ROOT / "results" / f"{name}.json")
    images = ROOT / "docs" / "images"
    images.mkdir(parents=True, exist_ok=True)
    for path in save_comparison(experiment, images):
        path.replace(path.with_name(path.name.replace("comparison", name)))
    return to_markdown(comparison_table(experiment))


def numbers_of(run: RunFolder) -> dict[str, object]:
    """The numbers of a run that README quotes."""
    summary = summary_of(run)
    return {
        "metrics": dict(summary.metrics),
        "teacher": dict(summary.teacher_metrics),
        "steps": summary.steps,
        "flops": summary.flops,
        "seconds": summary.seconds,
        "bytes_kept": summary.bytes_kept,
        "explained_variance": explained_variances(run),
    }


if __name__ == "__main__":
    (ROOT / "results").mkdir(exist_ok=True)
    print(export(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "demo"))
