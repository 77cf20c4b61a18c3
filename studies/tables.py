"""The tables of docs/, from what is in results/: claims and benchmarks.

python studies/tables.py
"""

import json
import runpy
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from vigreux.claims.common.variants import table
from vigreux.files.atomic import write_atomic
from vigreux.stats import mean_interval

ROOT = Path(__file__).resolve().parent.parent
CONTENDERS = ("vigreux", "torch", "torch_compile", "jax_scan")


def claims(names: Collection[str]) -> str:
    """One row a result of these claims: verdict, the parts that hold, and those that do not."""
    rows = ["| claim | scale | verdict | parts that hold | what does not |", "|---|---|---|---|---|"]
    for path in sorted((ROOT / "results").glob("C*.*.json"), key=_order):
        found = json.loads(path.read_text())
        if found["claim"] not in names:
            continue
        held = [check["holds"] for check in found["checks"]]
        failed = "; ".join(check["what"] for check in found["checks"] if not check["holds"])
        name = f"[{found['claim']}](../results/{path.name}): {found['title']}"
        rows.append(
            f"| {name} | {found['preset']} | {found['verdict']} | {sum(held)} of {len(held)} | {failed or '–'} |"
        )
    return "\n".join(rows) + "\n"


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
    """A row a method: mean over seeds and 95 % interval, on held-out text of the sources and on text of another source."""
    numbers = json.loads((ROOT / "results" / f"{result}.json").read_text())["numbers"]
    rows = [
        "| student by | accuracy ↑ | against one-shot | loss ↓ | accuracy elsewhere ↑ | FLOPs |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    base = numbers["students"]["one-shot"]["accuracy"]
    for method, found in numbers["students"].items():
        gain = [own - other for own, other in zip(found["accuracy"], base)]
        elsewhere = [score["accuracy"] for score in numbers["elsewhere"][method]]
        against = "baseline" if method == "one-shot" else _mean(gain, 100, "+.2f")
        flops = sum(cost["flops"] for cost in found["cost"]) / len(found["cost"])
        here, loss = _mean(found["accuracy"], 100, ".2f", " %"), _mean(numbers["losses"][method], 1, ".3f")
        there = _mean(elsewhere, 100, ".2f", " %")
        rows.append(f"| {method} | {here} | {against} | {loss} | {there} | {flops / 1e12:.1f} TFLOP |")
    return "\n".join(rows) + "\n"


def _mean(values: Sequence[float], factor: float, form: str, unit: str = "") -> str:
    mean, half = mean_interval([factor * value for value in values])
    return f"{mean:{form}}{unit}".replace("-", "−") + (
        "" if half is None else f" ± {half:{form.lstrip('+')}}"
    )


def _order(path: Path) -> tuple[int, str]:
    """C2 comes before C12."""
    name = path.name.split(".")[0].lstrip("C")
    return int("".join(c for c in name if c.isdigit())), path.name


def speed() -> str:
    """µs a step, and how many times as long the others take."""
    rows = [
        "| width | threads | Vigreux | PyTorch | torch.compile | JAX scan | share of peak |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for r in json.loads((ROOT / "results" / "online-sgd.json").read_text()):
        if r["unit"] != "us/step":
            continue
        own, *others = (r[name] for name in CONTENDERS)
        shown = [
            f"{other:,.{0 if other >= 100 else 1}f} ({other / own:.1f} ×)" if other else "–"
            for other in others
        ]
        rows.append(f"| {int(r['case'].split()[1]):,} | {r['threads']} | **{own:.3g} µs** | {' | '.join(shown)} | "
                    f"{100 * r['vigreux_share_of_peak']:.0f} % |")  # fmt: skip
    return "\n".join(rows) + "\n"


def sampler() -> str:
    """Tokens a second, and how many times as many as the others."""
    rows = ["| cfg3b, one thread | Vigreux | recursive Python | nltk |", "|---|--:|--:|--:|"]
    for r in json.loads((ROOT / "results" / "pcfg.json").read_text()):
        others = [
            f"{r[name] / 1e6:.2f}M ({r['vigreux'] / r[name]:.0f} ×)" if r[name] else "–"
            for name in ("recursive", "nltk")
        ]
        rows.append(
            f"| {r['case'].split(', ', 1)[1]} | **{r['vigreux'] / 1e6:.0f}M tokens/s** | {' | '.join(others)} |"
        )
    return "\n".join(rows) + "\n"


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
    found = json.loads((ROOT / "results" / f"{name}.json").read_text())
    return table((found if teacher is None else found[teacher])["rows"])


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
