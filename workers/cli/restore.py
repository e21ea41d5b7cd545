"""`fsm restore`: write again what the outbox of a machine has lost."""

from __future__ import annotations

from workers.cli import output
from workers.cli.address import machine_address
from workers.cli.session import machine_of, opened
from workers.cli.show import MachineArgument


def restore(machine: MachineArgument, *, as_json: output.AsJson = False) -> None:
    """Write lost actions of a machine again. Its `restore` and its log tell which; they keep their ids, and a probe is asked first."""
    address = machine_address(machine)
    with opened(machines=True) as store:
        done = store.restore(machine_of(store, *address), address.key)
    if as_json:
        output.document({"actions": [str(one) for one in done]})
        return
    for one in done:
        output.line(str(one))
    output.line(f"restored {len(done)} action{'s' * (len(done) != 1)}")
