"""`fsm fsck`: does what is recorded agree with itself, and with what the code makes of the log?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from fsm_core.audit import Code, Finding, Log, Orphan
from fsm_core.audit import fsck as examine
from workers.cli import output
from workers.cli.address import Address, machine_address
from workers.cli.documents import Document
from workers.cli.session import opened
from workers.cli.walking import counted, not_replayed, pages

if TYPE_CHECKING:
    from fsm_core.postgres import PostgresStore
    from fsm_core.registry import Registry


def fsck(
    machines: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME[/KEY]]...", help="Machines, or all of a name; without any, all there are."
        ),
    ] = None,
    *,
    as_json: output.AsJson = False,
) -> None:
    """Check the records of machines by replaying their logs. It locks nothing and changes nothing. Exit status 1 if it finds anything."""
    result = _Result()
    with opened(machines=True) as store:
        for log in _wanted(store, machines or (), result):
            result.add(log, store.registry)
    if as_json:
        output.document(result.document())
    else:
        result.tell()
    if result.findings:
        raise typer.Exit(1)


@dataclass
class _Result:
    """What was looked at and found."""

    findings: list[Finding] = field(default_factory=list)
    machines: int = 0
    events: int = 0
    unknown: Counter[str] = field(default_factory=Counter)

    def add(self, log: Log, registry: Registry) -> None:
        report = examine(log, registry)
        self.machines += 1
        self.events += report.events
        self.findings += report.findings
        self.unknown.update(f"{log.seen.machine} v{version}" for version in report.unknown)

    def orphans(self, found: Sequence[Orphan]) -> None:
        for each in found:
            said = f"{counted(each.rows, 'row')} of {each.table} without a machine"
            self.findings.append(Finding(Code.ORPHAN, "", str(each.machine_id), None, said))

    def document(self) -> Document:
        found = [
            {**each._asdict(), "code": each.code.value, "machine": each.machine or None}
            for each in self.findings
        ]
        return {"machines": self.machines, "events": self.events, "unknown": self.unknown, "findings": found}

    def tell(self) -> None:
        for each in self.findings:
            place = f"{each.machine}/{each.key}" if each.machine else each.key
            at = "" if each.seq is None else f", event {each.seq}"
            output.line(f"{each.code}  {place}{at}: {each.message}")
        found = counted(len(self.findings), "finding") if self.findings else "no findings"
        looked_at = f"{counted(self.machines, 'machine')}, {counted(self.events, 'event')}"
        output.line(f"{found} in {looked_at}{not_replayed(self.unknown)}")


def _wanted(store: PostgresStore, given: Sequence[str], result: _Result) -> Iterator[Log]:
    """The records asked for; of all machines, also what belongs to none. Raises UnknownMachine, MachineNotFound, BadArgument."""
    if not given:
        after = None
        for page in pages(store):
            yield from page
            result.orphans(store.orphans(after, page[-1].seen.id))
            after = page[-1].seen.id
        result.orphans(store.orphans(after))
        return
    named = [machine_address(text) if "/" in text else Address(text, "") for text in given]
    names = sorted({store.registry.newest(each.name).name for each in named if not each.key})
    single = [
        store.log(each.name, each.key) for each in dict.fromkeys(named) if each.key and each.name not in names
    ]
    yield from single
    if names:
        for page in pages(store, names):
            yield from page
