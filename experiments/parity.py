"""The table of docs/parity.md, from the verdicts in results/: every claim that `vigreux reproduce` has run, at every scale.

python experiments/parity.py
"""

import json
from pathlib import Path

from vigreux.files import write_atomic

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results -->\n", "<!-- /results -->\n"


def table() -> str:
    """One row a result: verdict, the parts that hold, and those that do not."""
    rows = ["| claim | scale | verdict | parts that hold | what does not |", "|---|---|---|---|---|"]
    for path in sorted((ROOT / "results").glob("C*.*.json")):
        found = json.loads(path.read_text())
        held = [check["holds"] for check in found["checks"]]
        failed = "; ".join(check["what"] for check in found["checks"] if not check["holds"])
        name = f"[{found['claim']}](../results/{path.name}): {found['title']}"
        rows.append(f"| {name} | {found['preset']} | {found['verdict']} | {sum(held)} of {len(held)} | {failed or '–'} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    page = ROOT / "docs" / "parity.md"
    before, rest = page.read_text().split(BEGIN)
    after = rest.split(END)[1]
    write_atomic(page, before + BEGIN + "\n" + table() + "\n" + END + after)
