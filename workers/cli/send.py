"""`fsm send`: one event, or many from JSON lines.

Lines are applied one by one as they come, each in a transaction of its own: what stands before a bad line is done, and
the message says how much that was. With dedup keys the file can simply be sent again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from fsm_core.codec import encode, read_input
from fsm_core.errors import FsmError, InvalidPayload, PayloadTooLarge
from fsm_core.payload import DEFAULT_LIMITS, Limits, dump, parse
from workers.cli import decisions, documents, output
from workers.cli.address import Address, BadArgument, machine_address
from workers.cli.session import machine_of, opened
from workers.cli.start import described

if TYPE_CHECKING:
    from fsm_core.postgres import PostgresStore
    from fsm_core.records import Snapshot
    from fsm_core.registry import AnyMachine
_HELD = " (held until it can be taken)"
_DUPLICATE = " (a duplicate; nothing changed)"
_NOTES = {(False, False): "", (False, True): _HELD, (True, False): _DUPLICATE, (True, True): _DUPLICATE}
_FIELDS = ("machine", "key", "event", "payload", "dedup_key")
# A line is a payload and its envelope: a little more of everything.
_LINE = Limits(size=2 * DEFAULT_LIMITS.size, depth=DEFAULT_LIMITS.depth + 1, items=DEFAULT_LIMITS.items + 10)


def send(
    machine: Annotated[str | None, typer.Argument(metavar="NAME/KEY", help="The machine.")] = None,
    event: Annotated[str | None, typer.Argument(metavar="EVENT", help="The name of the event.")] = None,
    payload: Annotated[str | None, typer.Argument(metavar="JSON", help="The fields of the event.")] = None,
    *,
    file: Annotated[
        str | None,
        typer.Option(
            "--file", "-f", metavar="FILE",
            help="JSON lines to send, `-` for standard input: machine, key, event, payload, dedup_key.",
        ),
    ] = None,
    dedup_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="A repeated one changes nothing, and says so.")
    ] = None,
    expected_seq: Annotated[
        int | None, typer.Option(min=0, metavar="SEQ", help="Refuse unless the machine is at this seq.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what it would do now: the state, and the actions.")
    ] = False,
    as_json: output.AsJson = False,
) -> None:  # fmt: skip
    """Send an event to a machine, or with --file many events."""
    address = None if machine is None else machine_address(machine)
    if file is not None:
        if event is not None or dedup_key is not None or expected_seq is not None or dry_run:
            raise BadArgument(
                "with --file, the events and their dedup keys are in the file; there is no --expected-seq and no --dry-run"
            )
        _send_file(file, address, as_json=as_json)
        return
    if address is None or event is None:
        raise BadArgument("which event, and to which machine? NAME/KEY EVENT [JSON], or --file")
    with opened(machines=True) as store:
        known = machine_of(store, *address)
        value = read_input(known, "event", event, "{}" if payload is None else payload)
        if dry_run:
            _preview(store, known, address, value, as_json=as_json)
            return
        now = store.advance(known, address.key, value, dedup_key=dedup_key, expected_seq=expected_seq)
    if as_json:
        output.document(documents.snapshot(now))
    else:
        output.line(described(documents.snapshot(now)) + _NOTES[now.duplicate, now.held])


def _preview(
    store: PostgresStore, known: AnyMachine, address: Address, event: object, *, as_json: bool
) -> None:
    before = store.get(known, address.key).state
    decision = store.preview(known, address.key, event)
    outcome = "applied" if known.takes(before, event) else "held" if known.unhandled == "defer" else "ignored"
    state = {
        "state_name": type(decision.state).__name__,
        "state": json.loads(encode(decision.state, "state")),
    }
    if as_json:
        actions = [decisions.action(action) for action in decision.actions]
        output.document({"dry_run": True, "outcome": outcome, **state, "actions": actions})
        return
    output.line(f"{address} would be: {output.named(state['state_name'], state['state'])} ({outcome})")
    for line in decisions.action_lines(decision.actions):
        output.line(line)


def _send_file(file: str, address: Address | None, *, as_json: bool) -> None:
    count = {"applied": 0, "duplicates": 0, "held": 0}
    with _stream(file) as stream, opened(machines=True) as store:
        for number, line in _lines(stream):
            try:
                now = _send_line(store, line, address)
            except FsmError as error:
                error.add_note(f"line {number} (events applied before it: {count['applied']})")
                raise
            count["duplicates" if now.duplicate else "held" if now.held else "applied"] += 1
    if as_json:
        output.document(count)
    else:
        output.line(
            ", ".join(f"{value} {name}" for name, value in count.items() if value or name == "applied")
        )


def _send_line(store: PostgresStore, line: bytes, address: Address | None) -> Snapshot[Any]:
    if len(line) > _LINE.size:
        raise PayloadTooLarge("the line", len(line), _LINE.size)
    fields = parse(line, "the line", _LINE)
    if unknown := set(fields) - set(_FIELDS):
        raise InvalidPayload(
            f"there is no field {', '.join(sorted(unknown))}; a line has {', '.join(_FIELDS)}"
        )
    name, key = _addressed(fields, address)
    event = _text(fields, "event")
    payload = "{}" if fields.get("payload") is None else dump(fields["payload"], "payload")
    known = machine_of(store, name, key)
    value = read_input(known, "event", event, payload)
    dedup_key = None if fields.get("dedup_key") is None else _text(fields, "dedup_key")
    return store.advance(known, key, value, dedup_key=dedup_key)


def _addressed(fields: dict[str, Any], address: Address | None) -> Address:
    """The machine of a line: its own, or the command line's. Raises InvalidPayload if they disagree, or neither says."""
    if isinstance(fields.get("key"), int) and not isinstance(fields["key"], bool):
        fields["key"] = str(fields["key"])
    name = _text(fields, "machine") if address is None or "machine" in fields else address.name
    key = _text(fields, "key") if address is None or "key" in fields else address.key
    if address is not None and (name, key) != address:
        raise InvalidPayload(f"it is for {name}/{key}, but the command line says {address}")
    return machine_address(f"{name}/{key}")


def _text(fields: dict[str, Any], name: str) -> str:
    found = fields.get(name)
    if not isinstance(found, str) or not found:
        raise InvalidPayload(
            f"{name!r} is missing" if found is None else f"{name!r} must be text, and not empty"
        )
    return found


@contextmanager
def _stream(file: str) -> Generator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(Path(file).open("rb"))
        except OSError as error:
            raise BadArgument(f"{file!r} cannot be read: {error.strerror}") from error
        yield stream


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers; each is cut at a length that is refused."""
    for number, line in enumerate(iter(lambda: stream.readline(_LINE.size + 1), b""), start=1):
        if line.strip():
            yield number, line
