"""What a transition may know besides its state and its event. All of it is recorded or derived."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True)
class Context:
    """The circumstances of one event; a replay gives a transition the same ones.

    now: the recorded time of the event (aware, the database's clock). id: the machine's. key: its key. seq: the
    event's number, 0 for the birth. `random` and `uuid()` are drawn from a generator seeded with (id, seq).
    """

    now: datetime
    id: UUID
    key: str
    seq: int

    @property
    def random(self) -> Random:
        """The event's own generator: the same sequence in every replay, going on from draw to draw."""
        known = self.__dict__.get("_random")
        if known is None:
            # A string seed is hashed with SHA-512: equal in every process, whatever PYTHONHASHSEED is.
            known = self.__dict__["_random"] = Random(f"{self.id}.{self.seq}")  # noqa: S311 - reproducible on purpose
        return known

    def uuid(self) -> UUID:
        """A UUID (version 4 in form) drawn from `random`: new with each call, the same in every replay."""
        return UUID(int=self.random.getrandbits(128), version=4)

    def fresh(self) -> Context:
        """The same circumstances with the generator at its beginning; itself, if nothing was drawn yet."""
        return replace(self) if "_random" in self.__dict__ else self

    def at(self, seq: int) -> Context:
        """The same circumstances for event `seq`, with a generator of its own."""
        return replace(self, seq=seq)
