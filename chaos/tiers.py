"""How much is done when: reliability.md's figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.machines import KINDS
from chaos.plan import CRASHES, WORKERS, Fault, Plan

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMIT = {
    "kill_worker": Fault(10, 8), "kill_child": Fault(10, 8), "kill_relay": Fault(9, 8), "kill_submitter": Fault(9, 8),
    "kill_operator": Fault(4), "stop_worker": Fault(3, 2), "stop_relay": Fault(2), "terminate_backends": Fault(8, 4),
    "flush": Fault(2, 2), "kill_broker": Fault(1, 1), "stop_postgres": Fault(2, 2), "postgres_away": Fault(1),
    "black_hole": Fault(2, 2), "cut_after_commit": Fault(4, 2), "reset": Fault(2, 1),
}  # fmt: skip
"""200 machines x 20 events: 42 kills, at least 8 of each kind of process; 2 FLUSHALL, 1 broker, 3 immediate stops."""

TIERS = ("commit", "release")


def plan(
    tier: str,
    *,
    seed: int,
    machines: int | None = None,
    events: int | None = None,
    minutes: float | None = None,
) -> Plan:
    """The plan of a tier; what is given goes before its own figures, and its faults grow with its time."""
    if tier == "commit":
        seconds = 130.0 if minutes is None else minutes * 60
        faults = scaled(COMMIT, seconds / 130.0)
        points = spaced(CRASHES, 8)
        return Plan(
            "commit",
            machines or 200,
            events or 20,
            seconds,
            seed,
            faults=faults,
            crashes=points,
            patience=180.0,
            blow=True,
        )
    seconds = 2400.0 if minutes is None else minutes * 60
    points = {name: orders * 20 for name, orders in spaced(CRASHES, 20).items()}
    return Plan(
        "release", machines or 2000, events or 50, seconds, seed, faults=release(seconds), crashes=points,
        submitters=4, patience=300.0, kinds=KINDS | {"slow": 2, "asked": 2}, workers=WORKERS | {"steady": "threads"},
        relays=3, spared=("steady", "relay-2"), blow=True,
    )  # fmt: skip


def release(seconds: float) -> Mapping[str, Fault]:
    """A kill each 3.5 s; Postgres each 60 s, FLUSHALL each 45 s, a black hole each 30 s."""

    def each(span: float, hits: float) -> Fault:
        times = max(int(seconds / span), 1)
        return Fault(times, int(times * hits))

    return {
        "kill_worker": each(14, 0.7), "kill_child": each(14, 0.7), "kill_relay": each(14, 0.7), "kill_submitter": each(14, 0.7),
        "kill_operator": each(60, 0), "stop_worker": each(45, 0.5), "stop_relay": each(60, 0), "terminate_backends": each(20, 0.5),
        "flush": each(45, 0.5), "kill_broker": each(180, 0.5), "stop_postgres": each(60, 0.7), "postgres_away": each(300, 0),
        "black_hole": each(30, 0.5), "cut_after_commit": each(30, 0.3), "reset": each(60, 0),
    }  # fmt: skip


def spaced(crashes: Mapping[str, tuple[str, ...]], by: int) -> dict[str, tuple[str, ...]]:
    """Further apart: each at `by` times the count that it has, if it has one; what is rare stays as it is."""

    def further(order: str) -> str:
        point, _, nth = order.partition(":")
        return f"{point}:{int(nth) * by}" if nth else point

    return {name: tuple(further(order) for order in orders) for name, orders in crashes.items()}


def scaled(faults: Mapping[str, Fault], by: float) -> Mapping[str, Fault]:
    """As many as fit into another time."""
    if by == 1:
        return faults
    return {
        name: Fault(max(round(fault.times * by), 1), int(fault.hits * by)) for name, fault in faults.items()
    }
