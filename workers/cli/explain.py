"""`fsm explain`: why a machine is not moving, in one answer."""

from __future__ import annotations

from typing import Annotated

import typer

from fsm_core.errors import FsmError
from fsm_core.explain import Reason, Weight
from fsm_core.explain import explain as reasons_of
from fsm_core.registry import AnyMachine, Registry
from workers.cli import output
from workers.cli.address import machine_address
from workers.cli.session import opened
from workers.settings import listed


def explain(
    machine: Annotated[str, typer.Argument(metavar="NAME/KEY", help="The machine.")],
    *,
    as_json: output.AsJson = False,
) -> None:
    """Say why a machine is not moving. The most telling reason comes first. Exit status 1 if somebody has to do something."""
    name, key = machine_address(machine)
    with opened(machines=bool(listed())) as store:
        facts = store.explain(name, key)
        reasons = reasons_of(facts, _code(store.registry, name, facts.record.version))
    if as_json:
        output.document(
            {
                "machine": name,
                "key": key,
                "state": facts.record.state_name,
                "reasons": [_shown(r) for r in reasons],
            }
        )
    else:
        for reason in reasons:
            output.line(reason.message + (f" -> {reason.advice}" if reason.advice else ""))
    if reasons[0].weight is Weight.BROKEN:
        raise typer.Exit(1)


def _code(registry: Registry, name: str, version: int) -> AnyMachine | None:
    try:
        return registry.reader(name, version)
    except FsmError:
        return None


def _shown(reason: Reason) -> dict[str, object]:
    return {
        "code": reason.code,
        "needs_hands": reason.weight is Weight.BROKEN,
        "message": reason.message,
        "advice": reason.advice,
    }
