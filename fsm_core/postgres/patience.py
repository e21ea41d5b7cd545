"""A connection that waits for a silent server only so long.

TCP notices a peer that has vanished, not one whose kernel or proxy still acknowledges: without a limit of the client's own, a
process would wait for ever for an answer that never comes. libpq has none but for connecting.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

if TYPE_CHECKING:
    from collections.abc import Generator

RV = TypeVar("RV")


class PatientConnection(psycopg.Connection[Any]):
    """psycopg's, with `patience`: how many seconds one exchange with the server may take. None: for ever.

    A longer one closes the connection, and raises psycopg.OperationalError as one that broke does.
    """

    patience: float | None = None

    def wait(self, gen: Generator[Any, Any, RV], *args: Any, **options: Any) -> RV:
        """Where psycopg waits for the server: all that it sends and reads goes through here."""
        return super().wait(
            gen if self.patience is None else self._bounded(gen, self.patience), *args, **options
        )

    def _bounded(self, gen: Generator[Any, Any, RV], seconds: float) -> Generator[Any, Any, RV]:
        """`gen`, until it has lasted for so long. Its waiter wakes it ten times a second, with 0 if there is nothing to read."""
        until = time.monotonic() + seconds
        try:
            wants = next(gen)
            while True:
                ready = yield wants
                if not ready and time.monotonic() > until:
                    gen.close()
                    self.close()
                    raise psycopg.OperationalError(f"no answer from the server for {seconds:g} s")
                wants = gen.send(ready)
        except StopIteration as end:
            answer: RV = end.value
            return answer
