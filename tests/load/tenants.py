"""A machine that calls for tenants, each under a limit of its own; effects wait for a gate where the call says so."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from fsm_core import Effects, Machine, Route, To
from tests.workers.jobs import note


@dataclass(frozen=True)
class Open:
    pass


@dataclass(frozen=True)
class Ask:
    """Emit `times` calls for `tenant`; they end when the gate is open, if they have one."""

    tenant: str
    times: int
    gate: str | None = None


@dataclass(frozen=True)
class Call:
    number: int
    tenant: str
    gate: str | None


desk = Machine("tenants", states=Open, events=Ask, actions=Call, initial=Open())


@desk.on
def ask(state: Open, event: Ask) -> To[Open, Call]:
    return state, [Call(number, event.tenant, event.gate) for number in range(event.times)]


@desk.route
def by_tenant(action: Call) -> Route:
    return Route(limit="tenant", limit_key=action.tenant)


effects = Effects(desk)


@effects.act(timeout=120)
def call(action: Call) -> None:
    note(f"start {action.tenant}")
    if action.gate is not None:
        gate, pause = Path(f"{os.environ['JOBS_FILE']}.{action.gate}"), threading.Event()
        while not gate.exists():
            pause.wait(0.02)
    note(f"end {action.tenant}")
