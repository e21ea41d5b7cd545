"""Where a replay can begin, on the code that is here."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fsm_core.errors import UnknownMachine

if TYPE_CHECKING:
    from fsm_core.audit.log import Base, Log
    from fsm_core.audit.replaying import Reader


class Beginning(NamedTuple):
    """Where a replay begins: at `base` (None: the birth), if `known`. unknown: versions of what comes before, or of it all."""

    known: bool
    base: Base | None
    unknown: tuple[int, ...]


def beginning(log: Log, reader: Reader) -> Beginning:
    """The earliest place from which on `reader` knows every version: the birth, else one of the snapshots."""
    unknown = {version for version in _versions(log, None) if not _knows(reader, log.seen.machine, version)}
    whole = bool(log.entries) and log.entries[0].seq == 0
    if (whole or not log.snapshots) and not unknown:
        return Beginning(known=True, base=None, unknown=())
    for base in log.snapshots:
        if not unknown & _versions(log, base):
            return Beginning(known=True, base=base, unknown=tuple(sorted(unknown)))
    return Beginning(known=False, base=None, unknown=tuple(sorted(unknown)))


def _versions(log: Log, base: Base | None) -> set[int]:
    """The versions of all that a replay from `base` reads."""
    first = -1 if base is None else base.seq
    after = {entry.version for entry in log.entries if entry.seq > first and not entry.refused}
    return after | {log.seen.version} | (set() if base is None else {base.version})


def _knows(reader: Reader, name: str, version: int) -> bool:
    try:
        reader(name, version)
    except UnknownMachine:
        return False
    return True
