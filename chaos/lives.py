"""All pairs of crash points, lived through in several stacks at once; what is found, and its table."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from chaos.evidence import deaths
from chaos.oracle import judge
from chaos.pairs import PAIRS, STACKS, TICK, Stack
from chaos.verdict import Verdict
from fsm_core.postgres.crash import LIFE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rich.console import Console

    from chaos.pairs import Lived
    from chaos.servers import Postgres, Valkey
    from fsm_core.postgres.crash import Point

OVER = object()
EVENTS = """SELECT m.key, (SELECT extract(epoch FROM a.finished_at)::float8 FROM fsm.actions a WHERE a.machine_id = m.id AND a.status = 'completed'),
                   (SELECT count(*) FROM fsm.actions a WHERE a.machine_id = m.id),
                   m.seq + 1 - (SELECT count(*) FROM told t WHERE t.key = m.key) FROM fsm.machines m WHERE m.fsm = 'twice'"""


@dataclass
class Found:
    """What all stacks have been through, and what the oracle says of each. seconds: how long it took."""

    lives: list[Lived]
    verdicts: list[Verdict]
    seconds: float

    @property
    def green(self) -> bool:
        """Whether nothing was found."""
        return not any(verdict.failures for verdict in self.verdicts)


def live(
    folder: Path, postgres: Postgres, valkey: Valkey, pairs: Sequence[tuple[Point, Point]] = PAIRS, *,
    stacks: int = STACKS, tell: Callable[[float, str], object] = lambda *_: None,
) -> Found:  # fmt: skip
    """Live through `pairs`. `tell` is told how far it is, from 0 to 1."""
    began = time.monotonic()
    todo = deque(pairs)
    with contextlib.ExitStack() as stack:
        all_ = [
            stack.enter_context(Stack(number, folder / f"stack-{number}", postgres, valkey))
            for number in range(min(stacks, len(todo)))
        ]
        running = {each.number: each.live(todo) for each in all_}
        while running:
            for each in all_:
                each.tend()
                if each.number in running and next(running[each.number], OVER) is OVER:
                    del running[each.number]
            tell(1 - len(todo) / len(pairs), f"{len(todo)} pairs to go")
            time.sleep(TICK)
        verdicts = [lived(each) for each in all_]
        for each in all_:
            verdicts += judge(each.evidence()).verdicts
    missed = [f"{first} then {second}" for first, second in todo]
    verdicts.append(Verdict("pairs", "G1-G13", "every pair was lived through", len(missed), missed))
    return Found([life for each in all_ for life in each.lived], _summed(verdicts), time.monotonic() - began)


def lived(stack: Stack) -> Verdict:
    """Each life has had its two deaths and no other, and its action was done after them, once, in step with the application's table."""
    points = deaths(stack.folder)
    rows = {key: rest for key, *rest in stack.ask(EVENTS)}
    died = {life.key: points[2 * n : 2 * n + 2] for n, life in enumerate(stack.lived)}
    found = []
    for life in stack.lived:
        said = f"{life.pair[0]} then {life.pair[1]}"
        two = died[life.key]
        finished, actions, untold = rows.get(life.key, (None, 0, 0))
        if life.failure:
            found.append(f"{said}: {life.failure}")
        elif tuple(point for _, point in two) != life.pair:
            found.append(f"{said}: died at {two}")
        elif finished is None or actions != 1 or float(str(finished)) < two[1][0]:
            found.append(
                f"{said}: {actions} actions, the first one finished at {finished}, the second death was at {two[1][0]}"
            )
        elif untold:
            found.append(f"{said}: {untold} events are not in the application's table")
    return Verdict("pairs", "G1-G13", "every pair was lived through", len(stack.lived), found)


def _summed(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Those of one check together."""
    found: dict[str, Verdict] = {}
    for each in verdicts:
        one = found.setdefault(each.check, Verdict(each.check, each.guarantee, each.says))
        one.trials += each.trials
        one.failures += each.failures
    return list(found.values())


def show(console: Console, found: Found) -> None:
    """Print it: the seconds of each pair, the first death in the row, the second in the column."""
    seconds = {life.pair: "red" if life.failure else f"{life.seconds:.0f}" for life in found.lives}
    table = Table(title="seconds, by the first death and the second", title_justify="left")
    for name in ("", *LIFE):
        table.add_column(name.replace(".", ".\n"))
    for first in LIFE:
        table.add_row(first, *(seconds.get((first, second), "") for second in LIFE))
    console.print(table)
    for verdict in found.verdicts:
        for failure in verdict.failures[:20]:
            console.print(f"[red]{verdict.check}[/]: {failure}", highlight=False)
    said = "[green]green[/]" if found.green else "[red]RED[/]"
    console.print(f"{len(found.lives)} lives with two deaths each, {found.seconds:.0f} s: {said}")


def document(found: Found) -> dict[str, object]:
    """The same, to keep."""
    return {
        "seconds": round(found.seconds, 1),
        "pairs": {f"{life.pair[0]} {life.pair[1]}": round(life.seconds, 1) for life in found.lives if not life.failure},
        "failures": {verdict.check: verdict.failures[:50] for verdict in found.verdicts if verdict.failures},
    }  # fmt: skip
