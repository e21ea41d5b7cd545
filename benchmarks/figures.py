"""`python -m benchmarks.figures FILE.json`: the tables of a run, as docs/performance.md has them."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.frame import Row, Target
from benchmarks.report import amount, verdict, wanted

HEAD = "| what | figure | against | its figure | ratio | target | |"
RULE = "|---|---:|---|---:|---:|---:|---|"


def markdown(document: Mapping[str, Any]) -> str:
    """A heading and a table for each benchmark. Raises ValueError for a smoke run."""
    if document["smoke"]:
        raise ValueError("a smoke run has no figures")
    lines = [f"{document['cores']} cores, {document['system']}, Python {document['python']}.", ""]
    for name, rows in document["benchmarks"].items():
        lines += [f"### {name}", "", HEAD, RULE, *table([read(row) for row in rows]), ""]
    return "\n".join(lines)


def table(rows: Sequence[Row]) -> Iterator[str]:
    """One line for each row."""
    for row in rows:
        cells = (
            row.what,
            amount(row.figure, row.unit),
            row.against,
            amount(row.limit, row.unit),
            "" if row.ratio is None else f"{row.ratio:.2f}",
            "" if row.target is None else wanted(row.target, row.unit),
            "; ".join(part for part in (verdict(row.met), row.note) if part),
        )
        yield f"| {' | '.join(cells)} |"


def read(row: Mapping[str, Any]) -> Row:
    """A row as it was before `report.described` wrote it."""
    target = row["target"] and Target(
        row["target"]["least"], row["target"]["most"], row["target"]["of_ratio"]
    )
    against, note = row["against"] or "", row["note"] or ""
    return Row(row["what"], row["figure"], row["unit"], row["best"], against, row["limit"], target, note)


if __name__ == "__main__":
    try:
        print(markdown(json.loads(Path(sys.argv[1]).read_text())), end="")
    except (IndexError, OSError, ValueError) as error:
        sys.exit(f"python -m benchmarks.figures FILE.json: {error}")
