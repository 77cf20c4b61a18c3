"""The demo's comparison with three seeds: results/demo.json, and the table and plot of README.

make demo
vigreux compare examples/demo/compare.yaml --seeds 3 --resume
python studies/demo.py runs/demo/compare
"""

import json
import sys
from pathlib import Path

from vigreux.files.atomic import write_atomic
from vigreux.report.plots import save_comparison
from vigreux.report.read import read_experiment
from vigreux.report.tables import comparison_table, to_markdown
from vigreux.run.folder import RunFolder

ROOT = Path(__file__).resolve().parent.parent


def export(folder: Path, name: str) -> str:
    """results/NAME.json, docs/images/NAME-….png, and the table in Markdown."""
    experiment = read_experiment([folder])
    described = json.loads((folder / "compare.json").read_text())
    runs = [RunFolder.open(folder / run) for run in described["runs"]]
    document = {
        "what": described["budget"],
        "commands": [
            "vigreux teach examples/demo/teacher.yaml",
            *sorted({run.info()["command"] for run in runs}),
        ],
        "config": runs[0].config(),
        "runs": [
            {"curriculum": run.info()["name"], "seed": run.info()["seed"]} | summary_of(run) for run in runs
        ],
    }
    write_atomic(ROOT / "results" / f"{name}.json", json.dumps(document, indent=1) + "\n")
    images = ROOT / "docs" / "images"
    images.mkdir(parents=True, exist_ok=True)
    for path in save_comparison(experiment, images):
        path.replace(path.with_name(path.name.replace("comparison", name)))
    return to_markdown(comparison_table(experiment))


def summary_of(run: RunFolder) -> dict[str, object]:
    """What README quotes of a run."""
    summary = run.summary()
    assert summary is not None
    return {
        "metrics": dict(summary.metrics),
        "teacher": dict(summary.teacher_metrics),
        "steps": summary.steps,
        "flops": summary.flops,
        "seconds": summary.seconds,
        "bytes_kept": summary.bytes_kept,
        "explained_variance": [
            stage.explained_variance for stage in run.stages() if stage.explained_variance is not None
        ],
    }


if __name__ == "__main__":
    (ROOT / "results").mkdir(exist_ok=True)
    print(export(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "demo"))
