"""`fsm signal`: an event that is never too early."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fsm_core.codec import read_input
from fsm_core.errors import MachineNotFound
from workers.cli import documents, output
from workers.cli.address import Address, machine_address, span
from workers.cli.session import machine_of, opened

if TYPE_CHECKING:
    from fsm_core.postgres import PostgresStore
    from fsm_core.records import Receipt
    from fsm_core.registry import AnyMachine


def signal(
    machine: Annotated[str, typer.Argument(metavar="NAME/KEY", help="The machine; it need not be there yet.")],
    event: Annotated[str, typer.Argument(metavar="EVENT", help="The name of the event.")],
    payload: Annotated[str, typer.Argument(metavar="JSON", help="The fields of the event.")] = "{}",
    *,
    dedup_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="A repeated one changes nothing, and says so.")
    ] = None,
    ttl: Annotated[
        str | None, typer.Option(metavar="SPAN", help="How long it waits at most: 90s, 1d.")
    ] = None,
    as_json: output.AsJson = False,
) -> None:  # fmt: skip
    """Send an event that waits until the machine takes it. It may come before the machine is started."""
    address, most = machine_address(machine), None if ttl is None else span(ttl)
    with opened(machines=True) as store:
        known = _reader(store, address)
        value = read_input(known, "event", event, payload)
        receipt = store.signal(known, address.key, value, dedup_key=dedup_key, ttl=most)
    if as_json:
        output.document(documents.receipt(receipt))
    else:
        output.line(f"{address}: {event} {_became(receipt)}")


def _reader(store: PostgresStore, address: Address) -> AnyMachine:
    """The version of the machine that is there; for one that is not, the one that a start would use."""
    try:
        return machine_of(store, *address)
    except MachineNotFound:
        return store.registry.newest(address.name)


def _became(receipt: Receipt) -> str:
    again = " already (a duplicate; nothing changed)" if receipt.duplicate else ""
    if receipt.unborn:
        return f"waits for its start{again}"
    if receipt.seq is None:
        return f"waits until it can be taken{again}"
    return f"is taken as event {receipt.seq}{again}"
