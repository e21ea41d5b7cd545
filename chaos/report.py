"""What a run has shown: a table for people, JSON for the records."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.table import Table

from chaos.conduct import FEWEST_SAMPLES, grown

if TYPE_CHECKING:
    from rich.console import Console

    from chaos.evidence import Evidence
    from chaos.verdict import Judgement

SAID = 5
GREEN, RED, INVALID = 0, 1, 3


def status(judgement: Judgement) -> int:
    """The exit status: 0 green, 1 red, 3 green and worth nothing."""
    return RED if not judgement.green else INVALID if judgement.invalid else GREEN


def show(console: Console, evidence: Evidence, judgement: Judgement) -> None:
    """Print it."""
    plan = evidence.plan
    table = Table(
        title=f"{plan.name}: {plan.machines} machines x {plan.events} events, seed {plan.seed}",
        title_justify="left",
    )
    for column in ("check", "guarantee", "what holds", "trials", "failures", "95 % bound"):
        table.add_column(
            column, justify="right" if column in ("trials", "failures", "95 % bound") else "left"
        )
    for verdict in judgement.verdicts:
        failures = f"[red]{len(verdict.failures)}[/]" if verdict.failures else "0"
        bound = "" if verdict.bound is None or verdict.trials < 10 else f"{verdict.bound:.1e}"
        table.add_row(verdict.check, verdict.guarantee, verdict.says, str(verdict.trials), failures, bound)
    console.print(table)
    faults = Table(title="faults", title_justify="left")
    for column in ("fault", "done", "hit work in flight", "demanded"):
        faults.add_column(column, justify="left" if column == "fault" else "right")
    for name, fault in plan.faults.items():
        demanded = str(fault.hits) if fault.hits else ""
        faults.add_row(name, str(evidence.faults[name]), str(evidence.hits[name]), demanded)
    for name, count in sorted(evidence.mischief.items()):
        faults.add_row(f"messages {name}", str(count), "", "")
    console.print(faults)
    said = ", ".join(f"{number:,} {name}" for name, number in judgement.numbers.items())
    after = "never" if evidence.healed_after is None else f"{evidence.healed_after:.1f} s"
    console.print(
        f"{said}; {kills(evidence)} kills; {evidence.seconds:.0f} s, all ended {after} after the last fault"
    )
    for verdict in judgement.verdicts:
        for failure in verdict.failures[:SAID]:
            console.print(f"[red]{verdict.check}[/]: {failure}", markup=True, highlight=False)
    for reason in judgement.invalid:
        console.print(f"[yellow]invalid[/]: {reason}")
    words = {GREEN: "[green]green[/]", RED: "[red]RED[/]", INVALID: "[yellow]INVALID[/]"}
    console.print(words[status(judgement)])


def kills(evidence: Evidence) -> int:
    """How many processes were killed by SIGKILL."""
    return sum(
        count for name, count in evidence.faults.items() if name.startswith("kill_") and name != "kill_broker"
    )


def memory(evidence: Evidence) -> dict[str, list[float]]:
    """Of the processes that nobody killed, in MiB: what was usual early in the run, and late."""
    return {
        name: [round(size / 2**20, 1) for size in grown(sizes)]
        for (name, _), sizes in evidence.memory.items()
        if len(sizes) >= FEWEST_SAMPLES
    }


def document(evidence: Evidence, judgement: Judgement) -> dict[str, object]:
    """The same, to keep."""
    plan = evidence.plan
    return {
        "plan": plan.name, "seed": plan.seed, "machines": plan.machines, "events": plan.events, "seconds": round(evidence.seconds, 1),
        "healed_after": evidence.healed_after, "status": status(judgement), "kills": kills(evidence), "numbers": judgement.numbers,
        "faults": {name: [evidence.faults[name], evidence.hits[name]] for name in plan.faults}, "messages": dict(evidence.mischief),
        "crash points": dict(Counter(evidence.points)), "memory": memory(evidence),
        "verdicts": [
            {"check": v.check, "guarantee": v.guarantee, "trials": v.trials, "failures": v.failures[:50], "bound": v.bound}
            for v in judgement.verdicts
        ],
        "invalid": judgement.invalid,
    }  # fmt: skip
