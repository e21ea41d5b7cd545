"""`python -m benchmarks.chart FILE.json > docs/images/speed.svg`: bars of our rates and the peers', of one run."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

PANELS = {
    "concurrent": "One by one: 8 clients, workers running",
    "bulk": "100 at a time, workers running",
    "drain": "Drain of a backlog",
}
OURS = "fsm-core"

WIDTH, LABEL, VALUE, BAR, GAP, HEAD = 760, 200, 70, 18, 6, 34
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 } .bar { fill: #8c959f } .ours { fill: #0969da }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .bar { fill: #6e7681 } .ours { fill: #4493f8 } }
"""


@dataclass(frozen=True)
class Bar:
    """One rate, in cycles/s."""

    name: str
    rate: float


def bars(rows: Sequence[Mapping[str, Any]]) -> list[Bar]:
    """Ours and every peer's that was measured, the quickest first."""
    own = rows[0]["figure"]
    peers = [Bar(row["against"], row["limit"]) for row in rows if row["against"] and row["limit"] is not None]
    return sorted([Bar(OURS, own), *peers], key=lambda bar: -bar.rate)


def svg(document: Mapping[str, Any]) -> str:
    """The picture. Raises ValueError if the run says nothing about speed."""
    runs = document["benchmarks"]
    panels = {title: bars(runs[name]) for name, title in PANELS.items() if runs.get(name)}
    if document["smoke"] or not panels:
        raise ValueError(f"needs a full run of one of {', '.join(PANELS)}")
    lines: list[str] = []
    top = 0
    for title, found in panels.items():
        lines += panel(title, found, top)
        top += HEAD + len(found) * (BAR + GAP) + GAP
    summary = "; ".join(f"{title}: {named(found)}" for title, found in panels.items())
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}" role="img">',
        f"<title>Cycles per second. {escape(summary)}</title>",
        f"<style>{STYLE}</style>",
        *lines,
        "</svg>",
        "",
    ])  # fmt: skip


def panel(title: str, found: Sequence[Bar], top: int) -> Iterator[str]:
    """A heading and its bars; the longest one fills the width."""
    yield f'<text class="title" x="0" y="{top + 20}">{escape(title)}, cycles/s</text>'
    most = max(bar.rate for bar in found)
    for number, bar in enumerate(found):
        y = top + HEAD + number * (BAR + GAP)
        length = max(bar.rate / most * (WIDTH - LABEL - VALUE), 1)
        middle = y + BAR - 5
        yield f'<text x="{LABEL - 8}" y="{middle}" text-anchor="end">{escape(bar.name)}</text>'
        kind = "ours" if bar.name == OURS else "bar"
        yield f'<rect class="{kind}" x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>'
        yield f'<text x="{LABEL + length + 6:.1f}" y="{middle}">{bar.rate:,.0f}</text>'


def named(found: Sequence[Bar]) -> str:
    """What a reader hears who does not see."""
    return ", ".join(f"{bar.name} {bar.rate:,.0f}" for bar in found)


if __name__ == "__main__":
    try:
        sys.stdout.write(svg(json.loads(Path(sys.argv[1]).read_text())))
    except (IndexError, OSError, ValueError) as error:
        sys.exit(f"python -m benchmarks.chart FILE.json: {error}")
