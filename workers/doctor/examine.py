"""`doctor`: reads each fact by itself, and hands it to its checks. What cannot be read says so, and the rest goes on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from alembic.script import ScriptDirectory

from fsm_core.errors import BrokerUnavailable, DatabaseUnavailable, SchemaError, StoreError
from fsm_core.postgres.ask import run
from fsm_core.postgres.engine import own_engine
from fsm_core.postgres.flows import doctor as flows
from fsm_core.postgres.migrate import location
from fsm_core.postgres.own import Own
from workers.doctor import broker, delivery, server
from workers.doctor.findings import Finding, error, fine, warning

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator

    import psycopg
    from celery import Celery

    from fsm_core.postgres.ask import Ask
    from workers.settings import Settings

T = TypeVar("T")

LOOK = timedelta(seconds=5)
"""How long one look may take: whoever asks is in a hurry, and the server has other things to do."""


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """One thing to look at. what: as it is called when it cannot be read. checks: what is said of it."""

    what: str
    read: Callable[[], Coroutine[Ask[Any], Any, T]]
    checks: tuple[Callable[[T], Iterable[Finding]], ...]

    def findings(self, connection: psycopg.Connection[Any], schema: str) -> Iterator[Finding]:
        """What its checks say. Raises StoreError."""
        with connection.transaction():
            run(connection, schema, flows.bounded(LOOK))
            found = run(connection, schema, self.read())
        for check in self.checks:
            yield from check(found)


def examine(settings: Settings, app: Celery, patience: timedelta) -> list[Finding]:
    """All findings, those that need hands first.

    app: whose broker is meant. patience: what may take so long without a word. Raises nothing for what is away or refused.
    """
    found = [*_database(settings, patience), *_broker(app)]
    return sorted(found, key=lambda finding: finding.severity)


def _database(settings: Settings, patience: timedelta) -> Iterator[Finding]:
    own = Own(own_engine(settings.database_url, pool_size=1))
    try:
        with own.connected("doctor") as connection:
            yield fine("database", "the database answers")
            yield from server.clock(_skew(connection, settings.schema))
            for look in _of_the_server(settings.schema, patience):
                yield from _told(look, connection, settings.schema)
            revision = _revision(connection, settings.schema)
            if isinstance(revision, StoreError):
                yield _not_checked("the revision of the schema", revision)
            else:
                yield from delivery.schema(revision)
                if revision.found is None:
                    return  # what is not there cannot be looked at
            for look in _of_the_schema(patience):
                yield from _told(look, connection, settings.schema)
    except StoreError as failure:
        yield error(
            "database", f"the database does not answer: {failure}", "start it, or correct DATABASE_URL"
        )
    finally:
        own.close()


def _told(look: Look[Any], connection: psycopg.Connection[Any], schema: str) -> Iterator[Finding]:
    try:
        yield from look.findings(connection, schema)
    except DatabaseUnavailable:
        raise
    except StoreError as failure:
        yield _not_checked(look.what, failure)


def _not_checked(what: str, failure: StoreError) -> Finding:
    return warning("not-checked", f"{what} cannot be looked at: {failure}")


def _of_the_server(schema: str, patience: timedelta) -> tuple[Look[Any], ...]:
    told = (server.version, server.durability, server.connections, server.visibility, server.autovacuum)
    return (
        Look("the server's settings", flows.server, told),
        Look("open transactions", partial(flows.sessions, patience), (server.sessions,)),
        Look("old snapshots", flows.holders, (partial(server.holders, patience=patience),)),
        Look("dead rows", partial(flows.tables, schema), (server.tables,)),
    )


def _of_the_schema(patience: timedelta) -> tuple[Look[Any], ...]:
    async def under_way() -> delivery.Delivery:
        return delivery.Delivery(await flows.processes(), await flows.depths(), patience)

    told = (delivery.relay, delivery.leases, delivery.consumers, delivery.published, delivery.due)
    return (
        Look("what is under way", under_way, told),
        Look("actions of dead workers", flows.lost, (partial(delivery.lost, patience=patience),)),
        Look("lanes", partial(flows.lanes, patience), (delivery.lanes,)),
        Look("limits", flows.unset_limits, (delivery.limits,)),
        Look("failed actions", flows.failed, (delivery.failed,)),
        Look("inboxes", flows.full_inboxes, (delivery.inboxes,)),
        Look("versions", flows.unread, (delivery.unread,)),
    )


def _skew(connection: psycopg.Connection[Any], schema: str) -> server.Skew:
    before = datetime.now(UTC)
    there = run(connection, schema, flows.clock())
    half = (datetime.now(UTC) - before) / 2
    return server.Skew(before + half - there, half)


def _revision(connection: psycopg.Connection[Any], schema: str) -> delivery.Revision | StoreError:
    """Where the schema is; or why that cannot be told. Raises DatabaseUnavailable."""
    script = ScriptDirectory(str(location()))
    known = frozenset(each.revision for each in script.walk_revisions())
    try:
        found = run(connection, schema, flows.revision())
    except SchemaError:
        found = None
    except DatabaseUnavailable:
        raise
    except StoreError as failure:
        return failure
    return delivery.Revision(found, script.get_current_head() or "", known)


def _broker(app: Celery) -> Iterator[Finding]:
    try:
        found = broker.read(app)
    except BrokerUnavailable as failure:
        yield broker.unreachable(failure)
        return
    for check in broker.CHECKS:
        yield from check(found)
