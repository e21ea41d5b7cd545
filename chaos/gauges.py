"""What is measured from outside: connections, dead rows, memory."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

from chaos.conduct import most
from chaos.servers import HARNESS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chaos.evidence import Evidence
    from chaos.processes import Child
    from chaos.servers import Postgres

GRACE = 10.0
TABLES = ("machines", "events", "actions", "attempts", "inbox", "dedup", "workers")
OPEN = """SELECT application_name, count(*) FROM pg_stat_activity
           WHERE datname = %s AND backend_type = 'client backend' AND application_name <> %s GROUP BY 1"""
DEAD = "SELECT relname, n_dead_tup FROM pg_stat_user_tables WHERE schemaname = 'fsm' AND relname = ANY (%s)"


def connections(
    postgres: Postgres, database: str, enough: Callable[[Mapping[str, int]], bool]
) -> dict[str, int]:
    """Who has how many connections open, by application_name; those that end just now are given a moment, until it is `enough`."""
    deadline = time.monotonic() + GRACE
    with postgres.connect() as connection:
        while True:
            rows = connection.execute(OPEN.encode(), (database, HARNESS)).fetchall()
            found = {str(name): int(str(count)) for name, count in rows}
            if enough(found) or time.monotonic() > deadline:
                return found
            time.sleep(0.1)


def dead_rows(postgres: Postgres, database: str) -> dict[str, int]:
    """How many dead rows a VACUUM leaves in each table: those that somebody may still see."""
    with postgres.connect(database) as connection:
        connection.execute(f"VACUUM {', '.join(f'fsm.{each}' for each in TABLES)}".encode())
        rows = connection.execute(DEAD.encode(), (list(TABLES),)).fetchall()
    return {str(name): int(str(count)) for name, count in rows}


def measure(evidence: Evidence, postgres: Postgres, database: str) -> None:
    """All is done, and the processes are idle: note what they hold on to."""
    plan = evidence.plan

    def is_enough(open_: Mapping[str, int]) -> bool:
        return all(count <= most(plan, name) for name, count in open_.items())

    evidence.connections = connections(postgres, database, is_enough)
    evidence.dead = dead_rows(postgres, database)


def left(postgres: Postgres, database: str) -> int:
    """How many connections are open after all processes have ended."""
    return sum(connections(postgres, database, lambda open_: not open_).values())


def weigh(children: list[Child], evidence: Evidence) -> None:
    """Note how much memory each of these has."""
    for child in children:
        if child.pid is not None:
            with suppress(psutil.NoSuchProcess):
                size = psutil.Process(child.pid).memory_info().rss
                evidence.memory.setdefault((child.name, child.pid), []).append(size)
