"""Writes what was run into docs/reliability.md: from the records that runs have left, and nothing else.

python -m chaos --json chaos/records/commit-1.json
python -m chaos --pairs --json chaos/records/pairs.json
python -m chaos --mutants --json chaos/records/mutants.json
python -m chaos.document
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
RECORDS = ROOT / "chaos" / "records"
BEGIN, END = "<!-- figures: python -m chaos.document -->", "<!-- end of figures -->"
STATUS = {0: "green", 1: "RED", 3: "invalid"}


def written(page: str, records: dict[str, dict[str, Any]]) -> str:
    """The page with the figures of the records between its marks. Raises ValueError: it has no marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no {BEGIN!r} ... {END!r}")
    return f"{before}{BEGIN}\n\n{figures(records)}\n\n{END}{after}"


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """The records, by name."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}


def figures(records: dict[str, dict[str, Any]]) -> str:
    """All tables."""
    runs = {name: record for name, record in records.items() if "verdicts" in record}
    parts = [_runs(runs), _checks(runs), _faults(runs)] if runs else ["No run is on record."]
    if "pairs" in records:
        parts.append(_pairs(records["pairs"]))
    if "mutants" in records:
        parts.append(_mutants(records["mutants"]))
    return "\n\n".join(parts)


def _table(heads: list[str], rows: list[list[str]], numbers: int) -> str:
    """A table, the columns from `numbers` on to the right."""
    rule = ["---" if n < numbers else "---:" for n in range(len(heads))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, rule, *rows])


def _runs(runs: dict[str, dict[str, Any]]) -> str:
    heads = [
        "run",
        "seed",
        "outcome",
        "machines x events",
        "kills",
        "effects started",
        "run again",
        "by hand",
        "seconds",
        "ended after",
    ]
    rows = [
        [
            name, str(run["seed"]), STATUS[run["status"]], f"{run['machines']:,} x {run['events']}", f"{run['kills']:,}",
            f"{run['numbers']['starts of effects']:,}", f"{run['numbers']['effects run again']:,}",
            f"{run['numbers']['retries by hand']:,}", f"{run['seconds']:.0f}",
            "never" if run["healed_after"] is None else f"{run['healed_after']:.0f} s",
        ]
        for name, run in runs.items()
    ]  # fmt: skip
    return "### Runs\n\n" + _table(heads, rows, 3)


def _checks(runs: dict[str, dict[str, Any]]) -> str:
    """Over all runs together: trials and failures add up, and 0 failures of n give 3/n."""
    total: dict[str, list[Any]] = {}
    for run in runs.values():
        for verdict in run["verdicts"]:
            row = total.setdefault(verdict["check"], [verdict["guarantee"], 0, 0])
            row[1] += verdict["trials"]
            row[2] += len(verdict["failures"])
    rows = [
        [
            f"`{check}`",
            guarantee,
            f"{trials:,}",
            str(failures),
            "" if failures or trials < 100 else f"{3 / trials:.1e}",
        ]
        for check, (guarantee, trials, failures) in total.items()
    ]
    return "### Checks, all runs together\n\n" + _table(
        ["check", "guarantee", "trials", "failures", "95 % bound"], rows, 2
    )


def _faults(runs: dict[str, dict[str, Any]]) -> str:
    total: dict[str, list[int]] = {}
    for run in runs.values():
        for name, (done, hit) in run["faults"].items():
            row = total.setdefault(name, [0, 0])
            row[0] += done
            row[1] += hit
        for name, count in run["messages"].items():
            total.setdefault(f"messages {name}", [0, -1])[0] += count
        for name, count in run["crash points"].items():
            total.setdefault(f"killed at `{name}`", [0, -1])[0] += count
    rows = [[name, f"{done:,}", "" if hit < 0 else f"{hit:,}"] for name, (done, hit) in total.items()]
    return "### Faults, all runs together\n\n" + _table(["fault", "done", "hit work in flight"], rows, 1)


def _pairs(found: dict[str, Any]) -> str:
    lived = found["pairs"]
    failures = sum(map(len, found["failures"].values()))
    return (
        "### Pairs of crash points\n\n"
        f"{len(lived)} lives of one action, with a death at each of two points in this order; {failures} failures; "
        f"{found['seconds']:.0f} s, the longest life {max(lived.values(), default=0):.0f} s."
    )


def _mutants(found: dict[str, Any]) -> str:
    rows = [
        [f"`{name}`", ", ".join(f"`{check}`" for check in each["red"]), f"{each['seconds']:.0f}"]
        for name, each in found.items()
    ]
    return "### Mutants\n\n" + _table(["mutant", "found by", "seconds"], rows, 2)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(), read(RECORDS)))
