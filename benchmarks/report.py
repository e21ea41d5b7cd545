"""What a run leaves behind: a table for a person, a document for a program."""

import os
import platform
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.frame import Row, Target


def table(name: str, about: str, rows: Sequence[Row], console: Console) -> None:
    """Print the rows of one benchmark."""
    made = Table(title=f"{name}: {about}", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in ("what", "figure", "best", "against", "its figure", "ratio", "target", ""):
        right = column in ("figure", "best", "its figure", "ratio", "target")
        made.add_column(column, justify="right" if right else "left")
    for row in rows:
        made.add_row(
            row.what,
            amount(row.figure, row.unit),
            amount(row.best, row.unit),
            row.against,
            amount(row.limit, row.unit),
            "" if row.ratio is None else f"{row.ratio:.2f}",
            "" if row.target is None else wanted(row.target, row.unit),
            " ".join(part for part in (verdict(row.met), row.note) if part),
        )
    console.print(made)
    console.print()


def amount(value: float | None, unit: str) -> str:
    """A figure with its unit; thousands have their commas, small ones two digits."""
    if value is None:
        return ""
    digits = f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"
    return f"{digits}{'' if unit.startswith('/') or not unit else ' '}{unit}"


def wanted(target: Target, unit: str) -> str:
    """`>= 400,000/s`, `<= 10 us`, `>= 0.5 x`."""
    sign, value = (">=", target.least) if target.least is not None else ("<=", target.most)
    return f"{sign} {f'{value:g} x' if target.ratio else amount(value, unit)}"


def verdict(met: bool | None) -> str:  # noqa: FBT001 - what `Row.met` says
    """`met`, `MISSED`, or nothing."""
    return {True: "met", False: "MISSED", None: ""}[met]


def document(runs: dict[str, Sequence[Row]], *, smoke: bool) -> dict[str, Any]:
    """All of a run for `--json`. Figures of different machines, or of a smoke run, are not to be compared."""
    return {
        "smoke": smoke,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "benchmarks": {name: [described(row) for row in rows] for name, rows in runs.items()},
    }


def described(row: Row) -> dict[str, Any]:
    """One row."""
    target = row.target
    return {
        "what": row.what,
        "unit": row.unit,
        "figure": row.figure,
        "best": row.best,
        "against": row.against or None,
        "limit": row.limit,
        "ratio": row.ratio,
        "target": None if target is None else {"least": target.least, "most": target.most, "of_ratio": target.ratio},
        "met": row.met,
        "note": row.note or None,
    }  # fmt: skip
