"""What stores answer, besides the machine itself. Stdlib only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uuid import UUID

    from fsm_core.types import Snapshot


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a signal. `seq`: of the event that it is in the log; None while it is held, for an edge to take it.

    `duplicate`: its dedup key had come before, nothing changed; `seq` is then what the first one has by now. `unborn`: the
    machine does not exist yet.
    """

    machine: str
    key: str
    id: UUID
    seq: int | None
    duplicate: bool = False
    unborn: bool = False

    @property
    def held(self) -> bool:
        """Whether it waits in the inbox."""
        return self.seq is None


def receipt(snapshot: Snapshot[Any]) -> Receipt:
    """What the answer of a decision is for a signal."""
    seq = None if snapshot.held else snapshot.seq
    return Receipt(snapshot.machine, snapshot.key, snapshot.id, seq, snapshot.duplicate)
