"""Writes the tables of docs/ from the files in results/.

python studies/tables.py
"""

import json
import runpy
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from vigreux.claims.common import variants
from vigreux.files.atomic import write_atomic
from vigreux.report.layout import markdown_table
from vigreux.stats import mean, mean_interval

ROOT = Path(__file__).resolve().parent.parent
CONTENDERS = ("vigreux", "torch", "torch_compile", "jax_scan")


def claims(names: Collection[str]) -> str:
    """The results of these claims: verdict, how many parts hold, and the parts that do not."""
    rows = []
    for path in sorted((ROOT / "results").glob("C*.*.json"), key=_order):
        result = json.loads(path.read_text())
        if result["claim"] not in names:
            continue
        checks = result["checks"]
        failed = [check["what"] for check in checks if not check["holds"]]
        claim = f"[{result['claim']}](../results/{path.name}): {result['title']}"
        held = f"{len(checks) - len(failed)} of {len(checks)}"
        rows.append([claim, result["preset"], result["verdict"], held, "; ".join(failed) or "–"])
    return markdown_table(["claim", "scale", "verdict", "parts that hold", "what does not"], rows, "lllll")


def parity() -> str:
    """Claims about two-layer networks."""
    return claims(("C1", "C2", "C2h", "C3", "C4", "C5", "C6", "C7", "C12"))


def transformers() -> str:
    """Claims about Transformers, on parity and on grammars."""
    return claims(("C8", "C9", "C9g", "C10", "C12t"))


def language() -> str:
    """Claims about language models on text."""
    return claims(("C11", "C11c"))


def masked() -> str:
    """The students of C11."""
    return _students("C11.laptop")


def causal() -> str:
    """The students of C11c."""
    return _students("C11c.laptop")


def shots() -> str:
    """`studies/language_shots.py`."""
    return _variants("language-shots")


def _students(result: str) -> str:
    """A row a method: means over seeds with 95 % intervals, here and on text of another source."""
    numbers = json.loads((ROOT / "results" / f"{result}.json").read_text())["numbers"]
    baseline = numbers["students"]["one-shot"]["accuracy"]
    rows = []
    for method, student in numbers["students"].items():
        gains = [accuracy - other for accuracy, other in zip(student["accuracy"], baseline)]
        elsewhere = [score["accuracy"] for score in numbers["elsewhere"][method]]
        flops = mean([cost["flops"] for cost in student["cost"]])
        rows.append(
            [
                method,
                _interval(student["accuracy"], 100, ".2f", " %"),
                "baseline" if method == "one-shot" else _interval(gains, 100, "+.2f"),
                _interval(numbers["losses"][method], 1, ".3f"),
                _interval(elsewhere, 100, ".2f", " %"),
                f"{flops / 1e12:.1f} TFLOP",
            ]
        )
    header = ["student by", "accuracy ↑", "against one-shot", "loss ↓", "accuracy elsewhere ↑", "FLOPs"]
    return markdown_table(header, rows)


def _interval(values: Sequence[float], factor: float, form: str, unit: str = "") -> str:
    """`12.3 % ± 0.4`."""
    center, half_width = mean_interval([factor * value for value in values])
    text = f"{center:{form}}{unit}".replace("-", "−")
    if half_width is None:
        return text
    return f"{text} ± {half_width:{form.lstrip('+')}}"


def _order(path: Path) -> tuple[int, str]:
    """C2 comes before C12."""
    name = path.name.split(".")[0].lstrip("C")
    return int("".join(c for c in name if c.isdigit())), path.name


def speed() -> str:
    """Microseconds a step, and how many times as long the others take."""
    rows = []
    for result in json.loads((ROOT / "results" / "online-sgd.json").read_text()):
        if result["unit"] != "us/step":
            continue
        vigreux, *others = (result[name] for name in CONTENDERS)
        rows.append(
            [
                f"{int(result['case'].split()[1]):,}",
                str(result["threads"]),
                f"**{vigreux:.3g} µs**",
                *(_times_as_long(other, vigreux) for other in others),
                f"{100 * result['vigreux_share_of_peak']:.0f} %",
            ]
        )
    header = ["width", "threads", "Vigreux", "PyTorch", "torch.compile", "JAX scan", "share of peak"]
    return markdown_table(header, rows, "rrrrrrr")


def _times_as_long(other: float | None, vigreux: float) -> str:
    if not other:
        return "–"
    digits = 0 if other >= 100 else 1
    return f"{other:,.{digits}f} ({other / vigreux:.1f} ×)"


def sampler() -> str:
    """Tokens a second, and how many times as many as the others."""
    rows = []
    for result in json.loads((ROOT / "results" / "pcfg.json").read_text()):
        row = [result["case"].split(", ", 1)[1], f"**{result['vigreux'] / 1e6:.0f}M tokens/s**"]
        for name in ("recursive", "nltk"):
            rate = result[name]
            row.append(f"{rate / 1e6:.2f}M ({result['vigreux'] / rate:.0f} ×)" if rate else "–")
        rows.append(row)
    return markdown_table(["cfg3b, one thread", "Vigreux", "recursive Python", "nltk"], rows)


def distillation() -> str:
    """`benchmarks/distill.py`: tokens a second and memory beside the peers."""
    return _benchmark("table", "distill")


def stages() -> str:
    """`benchmarks/distill_stages.py`: what a step of each stage costs."""
    return _benchmark("stages_table", "distill-stages")


def memory() -> str:
    """`benchmarks/loss_memory.py`: the loss on logits of a large vocabulary."""
    return _benchmark("memory_table", "loss-memory")


def profile() -> str:
    """`benchmarks/distill_profile.py`: where a step goes."""
    return _benchmark("profile_table", "distill-profile")


def _benchmark(table: str, name: str) -> str:
    made = runpy.run_path(str(ROOT / "benchmarks" / "distill_report.py"))[table]
    return made(json.loads((ROOT / "results" / f"{name}.json").read_text()))


def bert() -> str:
    """The rows of `studies/extraction.py` with the BERT teacher."""
    return _variants("extraction", "bert")


def gpt2() -> str:
    """The rows of `studies/extraction.py` with the GPT-2 teacher."""
    return _variants("extraction", "gpt2")


def share() -> str:
    """The rows of `studies/share.py`."""
    return _variants("share")


def _variants(name: str, teacher: str | None = None) -> str:
    result = json.loads((ROOT / "results" / f"{name}.json").read_text())
    return variants.table((result if teacher is None else result[teacher])["rows"])


def fill(page: Path, name: str, table: Callable[[], str]) -> None:
    """Writes the table between `<!-- name -->` and `<!-- /name -->`."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    before, rest = page.read_text().split(begin)
    after = rest.split(end)[1]
    write_atomic(page, before + begin + "\n" + table() + "\n" + end + after)


if __name__ == "__main__":
    fill(ROOT / "docs" / "parity.md", "results", parity)
    fill(ROOT / "docs" / "grammars.md", "results", transformers)
    fill(ROOT / "docs" / "grammars.md", "sampler", sampler)
    fill(ROOT / "docs" / "parity.md", "speed", speed)
    fill(ROOT / "docs" / "extraction.md", "bert", bert)
    fill(ROOT / "docs" / "grammars.md", "share", share)
    fill(ROOT / "docs" / "speed.md", "distillation", distillation)
    fill(ROOT / "docs" / "speed.md", "stages", stages)
    fill(ROOT / "docs" / "speed.md", "memory", memory)
    fill(ROOT / "docs" / "speed.md", "profile", profile)
    fill(ROOT / "docs" / "extraction.md", "gpt2", gpt2)
    fill(ROOT / "docs" / "language.md", "results", language)
    fill(ROOT / "docs" / "language.md", "masked", masked)
    fill(ROOT / "docs" / "language.md", "causal", causal)
    fill(ROOT / "docs" / "language.md", "shots", shots)
