"""Roles in the database: what each process may do, derived from the statements that it runs, and the SQL that grants it.

Six group roles that nobody logs in as; logins are made members of them. Who owns the tables (the login of `fsm migrate`) may do
everything, and no process should be it. `docs/security.md` has the matrix; a test runs each statement under its role, and with
each single grant taken away.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql
from sqlalchemy import create_engine

from fsm_core.errors import ConfigurationError
from fsm_core.postgres.own import Own
from fsm_core.postgres.tables import build
from fsm_core.postgres.urls import engine_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_NAME = 63
"""Bytes that PostgreSQL keeps of a name; a longer one would be cut, and two could meet."""

Columns = tuple[str, ...]


class Role(StrEnum):
    """Who does what.

    submitter: an application: start, advance, signal, cancel, get, wait. operator: the same, and retry, restore, limits, upcast, and
    everything that a reader sees. worker: runs effects. relay: publishes, repairs, lets held events expire; sees no payload.
    pruner: deletes what is over; a relay that prunes (FSM_RETENTION) is a member of both. reader: looks, and changes nothing.
    """

    SUBMITTER = "submitter"
    OPERATOR = "operator"
    WORKER = "worker"
    RELAY = "relay"
    PRUNER = "pruner"
    READER = "reader"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a role may do to a table: with all its columns (True), with none (False), or with some."""

    select: bool | Columns = False
    insert: bool = False
    update: Columns = ()
    delete: bool = False


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a login's statement may run, may wait for a lock, and may leave its transaction idle."""

    statement: str
    lock: str = "10s"
    idle_in_transaction: str = "60s"


TIMEOUTS: dict[Role, Timeouts] = {
    Role.SUBMITTER: Timeouts("30s"),
    Role.WORKER: Timeouts("30s"),
    Role.RELAY: Timeouts("60s"),
    Role.PRUNER: Timeouts("60s"),
    # `fsm fsck` replays a page of machines between two statements of one transaction.
    Role.OPERATOR: Timeouts("10min", idle_in_transaction="10min"),
    Role.READER: Timeouts("10min", idle_in_transaction="10min"),
}
"""Of a login with several roles, those of the last of them here. A session may set others: they bound accidents, not attackers."""

_ALL_TABLES = (*sorted(table.name for table in build("fsm").tables.values()), "schema_version")
_LOOK = {name: Grant(select=True) for name in _ALL_TABLES}

# A unit: the machine's row, its event, its actions. Who it is, where it came from and what was asked of whom never change.
_MACHINE = ("version", "status", "state_name", "state", "seq", "rev", "inbox", "updated_at", "ended_at")
_PLACE = ("partition_key", "priority")
_END = ("status", "attempt", "finished_at", "outcome", "error", "note", "timer")
_SNAPSHOT = Grant(select=True, insert=True, update=("version", "state_name", "state"))
_DECIDE = {
    "machines": Grant(select=True, insert=True, update=_MACHINE + _PLACE),
    # Only to look for a call whose answer was lost. Nobody may update an event; deleting is for pruners.
    "events": Grant(select=("machine_id", "seq", "call_id"), insert=True),
    "actions": Grant(select=True, insert=True, update=_END),
    "inbox": Grant(select=True, insert=True, delete=True),
    "dedup": Grant(select=True, insert=True, update=("seq",)),
    "snapshots": _SNAPSHOT,
}
_CLAIM = ("token", "worker_id", "started_at", "run_at", "in_doubt")

MATRIX: Mapping[Role, Mapping[str, Grant]] = {
    Role.SUBMITTER: {
        **_DECIDE,
        "events": Grant(select=("machine_id", "seq", "call_id", "occurred_at"), insert=True),  # to count those of a span
    },
    Role.OPERATOR: {
        **_LOOK,
        **_DECIDE,
        "events": Grant(select=True, insert=True),
        "actions": Grant(select=True, insert=True, update=(*_END, "run_at", "budget_from")),
        "attempts": Grant(select=True, insert=True),
        "limits": Grant(select=True, insert=True, update=("max_running", "rate", "burst", "per"), delete=True),
        "buckets": Grant(select=True, delete=True),
    },
    Role.WORKER: {
        **_DECIDE,
        "actions": Grant(select=True, insert=True, update=_END + _CLAIM),
        "attempts": Grant(
            select=("machine_id", "seq", "idx", "token", "late"), insert=True, update=("late",)
        ),
        "workers": Grant(select=True, insert=True, update=("claimed", "alive_until", "dead_at")),
    },
    Role.RELAY: {
        # tableoid is what the sample of unread versions asks for its size.
        "machines": Grant(
            select=("id", "fsm", "version", "status", "rev", "inbox", "tableoid"),
            update=("rev", "inbox"),
            delete=True,  # what only waited to be born
        ),
        "actions": Grant(
            select=(
                *("machine_id", "seq", "idx", "name", "status", "queue", "priority", "lane", "limit_name", "limit_key"),
                *("created_at", "run_at", "attempt", "lost", "publishes", "token", "worker_id"),
                *("published_at", "started_at", "note"),
            ),
            update=("status", "token", "published_at", "publishes", "run_at", "lost", "in_doubt", "note"),
        ),
        "attempts": Grant(insert=True),
        "inbox": Grant(select=("machine_id", "expires_at"), delete=True),
        "workers": Grant(
            select=True, insert=True, update=("claimed", "alive_until", "dead_at"), delete=True
        ),
        "limits": Grant(select=True, update=("burst",)),  # which a lock asks for; it updates none
        "buckets": Grant(select=True, insert=True, update=("tokens", "refilled_at"), delete=True),
    },
    Role.PRUNER: {
        # The last state becomes the snapshot at which a replay of what is left begins.
        "machines": Grant(
            select=(
                *("id", "version", "status", "state_name", "state", "seq", "rev", "inbox", "parent"),
                *("updated_at", "ended_at", "pruned"),
            ),
            update=("rev", "inbox", "pruned"),
            delete=True,
        ),
        "events": Grant(select=("machine_id", "seq", "occurred_at"), delete=True),
        "actions": Grant(
            select=("machine_id", "seq", "idx", "name", "status", "finished_at"),
            update=("note",),  # which a lock asks for; it updates none
            delete=True,
        ),
        "attempts": Grant(select=("machine_id", "seq", "idx"), delete=True),
        "inbox": Grant(select=("machine_id", "expires_at"), delete=True),
        "snapshots": Grant(
            select=True, insert=True, update=("version", "state_name", "state"), delete=True
        ),
    },
    Role.READER: _LOOK,
}  # fmt: skip
"""What each role may do, by table. Readers see the views of the schema, too."""

# One name is created once, also by two at a time: roles belong to all databases of a server.
_CREATE: LiteralString = """\
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {literal}) THEN CREATE ROLE {name} {kind}; END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END"""

# The lock of `fsm migrate`: grants that cross break on the catalog's own rows.
_LOCK: LiteralString = "SELECT pg_advisory_xact_lock(hashtext('fsm.migrate'), hashtext({schema}))"


def statements(
    schema: str = "fsm", prefix: str = "fsm_", logins: Mapping[str, Sequence[Role]] | None = None
) -> list[str]:
    """The SQL that makes the roles, takes from them whatever they had in `schema`, and grants what `MATRIX` says.

    prefix: what the roles' names begin with, for several installations on one server. logins: users by name, with all their roles; who
    is missing is made, without a password. May be run again at any time; as one transaction. Raises ConfigurationError: a name is
    too long.
    """
    return [part.as_string(None) for part in _composed(schema, prefix, logins or {})]


def apply(
    database_url: str,
    schema: str = "fsm",
    prefix: str = "fsm_",
    logins: Mapping[str, Sequence[Role]] | None = None,
) -> None:
    """Run `statements` in one transaction. By the owner of the tables, who needs CREATEROLE if there are roles to be made.

    Raises ConfigurationError as `statements`, SchemaError (the tables are missing), StoreError; then nothing was changed.
    """
    made = _composed(schema, prefix, logins or {})
    engine = create_engine(engine_url(database_url))
    try:
        with Own(engine).connected("granting") as connection, connection.transaction():
            connection.execute(sql.SQL(_LOCK).format(schema=sql.Literal(schema)))
            for statement in made:
                connection.execute(statement)
    finally:
        engine.dispose()


def _composed(schema: str, prefix: str, logins: Mapping[str, Sequence[Role]]) -> list[sql.Composed]:
    for name in (*(f"{prefix}{role}" for role in Role), *logins):
        if not 0 < len(name.encode()) <= MAX_NAME or "\0" in name:
            raise ConfigurationError(f"no role can be called {name!r}: 1 to {MAX_NAME} bytes")
    groups = {role: sql.Identifier(f"{prefix}{role}") for role in Role}
    space = sql.Identifier(schema)
    everybody = sql.SQL(", ").join(groups.values())
    return [
        *(_created(f"{prefix}{role}", "NOLOGIN") for role in Role),
        sql.SQL("REVOKE ALL ON SCHEMA {} FROM PUBLIC").format(space),
        sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA {} FROM PUBLIC, {}").format(space, everybody),
        sql.SQL("REVOKE ALL ON SCHEMA {} FROM {}").format(space, everybody),
        sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(space, everybody),
        *(
            sql.SQL("GRANT {} ON {} TO {}").format(_verbs(grant), sql.Identifier(schema, table), groups[role])
            for role in Role
            for table, grant in MATRIX[role].items()
        ),
        sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}").format(space, groups[Role.READER]),
        *(part for name, roles in logins.items() for part in _login(name, roles, groups)),
    ]


def _created(name: str, kind: LiteralString) -> sql.Composed:
    body = sql.SQL(_CREATE).format(literal=sql.Literal(name), name=sql.Identifier(name), kind=sql.SQL(kind))
    return sql.SQL("DO {}").format(sql.Literal(body.as_string(None)))


def _verbs(grant: Grant) -> sql.Composed:
    parts: list[sql.Composable] = []
    for verb, given in (
        (sql.SQL("SELECT"), grant.select),
        (sql.SQL("INSERT"), grant.insert),
        (sql.SQL("UPDATE"), grant.update),
        (sql.SQL("DELETE"), grant.delete),
    ):
        if given is True:
            parts.append(verb)
        elif given:
            parts.append(sql.SQL("{} ({})").format(verb, sql.SQL(", ").join(map(sql.Identifier, given))))
    return sql.SQL(", ").join(parts)


def _login(name: str, roles: Sequence[Role], groups: Mapping[Role, sql.Identifier]) -> list[sql.Composed]:
    """A user and its memberships, and no others of these. Settings of a group are not its members': the timeouts are set on the login."""
    login = sql.Identifier(name)
    made = [_created(name, "LOGIN")]
    for role, group in groups.items():
        verb = sql.SQL("GRANT {} TO {}" if role in roles else "REVOKE {} FROM {}")
        made.append(verb.format(group, login))
    timeouts = next((TIMEOUTS[role] for role in reversed(TIMEOUTS) if role in roles), None)
    if timeouts is not None:
        settings = {
            "statement_timeout": timeouts.statement,
            "lock_timeout": timeouts.lock,
            "idle_in_transaction_session_timeout": timeouts.idle_in_transaction,
        }
        made += [
            sql.SQL("ALTER ROLE {} SET {} = {}").format(login, sql.Identifier(setting), sql.Literal(value))
            for setting, value in settings.items()
        ]
    return made
