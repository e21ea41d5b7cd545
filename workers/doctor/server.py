"""What the settings, sessions and tables of PostgreSQL mean for us. Pure: each check is a function of facts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from workers.doctor.findings import Finding, counted, error, fine, span, warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fsm_core.postgres.flows.doctor import Holder, Server, Session, Table

OLDEST = 150_000
"""Older ones are repaired by nobody, or soon."""

VIEWS_FROM = 160_000
"""What `fsm view` needs."""

NEARLY = 0.8
"""Of max_connections: those who start next may be refused."""

SKEW = timedelta(seconds=5)
"""More than that, and times in a process's log do not fit to those in the tables."""

MANY_DEAD = 10_000
DEAD_PART = 0.2
"""Of the live ones: autovacuum begins far below that (docs/protocol.md, plans)."""

OLD_SLOT = 1_000_000
"""Transactions for which a slot that nobody uses may hold dead rows, before it is worth a word."""


class Skew(NamedTuple):
    """How far this host's clock is ahead of the server's, give or take `by`: the time that the question took."""

    ahead: timedelta
    by: timedelta


def version(server: Server) -> Iterator[Finding]:
    """Is the server new enough?"""
    name = f"PostgreSQL {server.version_name}"
    if server.version < OLDEST:
        yield error("server-version", f"{name} is older than what this was tried on", "upgrade PostgreSQL")
    elif server.version < VIEWS_FROM:
        yield warning("server-version", f"{name} has no `fsm view`, which needs 16", "upgrade PostgreSQL")
    else:
        yield fine("server-version", name)


def durability(server: Server) -> Iterator[Finding]:
    """Does the server keep what it has committed?"""
    for code, on, harm in (
        ("fsync", server.fsync, "a crash of the host may lose or break the whole database"),
        ("full-page-writes", server.full_page_writes, "a crash of the host may leave torn pages"),
    ):
        name = code.replace("-", "_")
        if on:
            yield fine(code, f"{name} is on")
        else:
            yield error(code, f"{name} is off: {harm}", f"ALTER SYSTEM SET {name} = on, and reload")
    if server.synchronous_commit == "off":
        said = "synchronous_commit is off for this role: what was answered as committed may be lost in a crash, claims too"
        yield error("synchronous-commit", said, "set it to on, for the server, the database and the roles")
    else:
        yield fine("synchronous-commit", f"synchronous_commit is {server.synchronous_commit}")


def connections(server: Server) -> Iterator[Finding]:
    """Is there room for more processes?"""
    used = f"{server.connections} of {server.most_connections} connections are in use"
    if server.connections >= NEARLY * server.most_connections:
        yield warning("connections", used, "raise max_connections, or put web apps behind a pooler")
    else:
        yield fine("connections", used)


def visibility(server: Server) -> Iterator[Finding]:
    """Are the sessions of other roles shown to us?"""
    if not server.sees_all:
        said = "sessions of other roles are not shown to this one: open transactions and long queries may be missed"
        yield warning("not-checked", said, "GRANT pg_read_all_stats TO the role that runs fsm doctor")


def clock(skew: Skew) -> Iterator[Finding]:
    """Does this host's clock agree with the server's? Leases and due times are judged by the server's alone."""
    beyond = abs(skew.ahead) - skew.by
    if beyond > SKEW:
        way = "ahead of" if skew.ahead > timedelta(0) else "behind"
        said = f"this host's clock is {span(skew.ahead)} {way} the database's: nothing depends on it but the times in logs"
        yield warning("clock", said, "let both hosts keep time by NTP")
    else:
        yield fine("clock", "this host's clock agrees with the database's")


def sessions(found: Sequence[Session]) -> Iterator[Finding]:
    """Transactions that have been open for long."""
    idle = [session for session in found if session.state.startswith("idle in transaction")]
    busy = [session for session in found if session.state == "active"]
    for session in idle:
        yield warning(
            "idle-in-transaction",
            f"session {session.pid} ({session.name}) is idle in a transaction of {span(session.open_for)}: its locks stand, "
            "and dead rows behind its snapshot",
            f"end it in its application, or SELECT pg_terminate_backend({session.pid}); set idle_in_transaction_session_timeout",
        )
    for session in busy:
        yield warning(
            "long-query",
            f"session {session.pid} ({session.name}) runs a query in a transaction of {span(session.open_for)}",
            f"if nobody waits for it: SELECT pg_cancel_backend({session.pid})",
        )
    if not idle:
        yield fine("idle-in-transaction", "no session is idle in a transaction for long")
    if not busy:
        yield fine("long-query", "no query runs for long")


def holders(found: Sequence[Holder], patience: timedelta) -> Iterator[Finding]:
    """Who keeps dead rows from being cleaned up."""
    prepared = [each for each in found if each.kind == "prepared" and _old(each, patience)]
    for each in prepared:
        yield warning(
            "prepared-transaction",
            f"transaction {each.name!r} of {each.by} is prepared since {_since(each)}: its locks stand, also through a restart",
            "COMMIT PREPARED or ROLLBACK PREPARED it",
        )
    if not prepared:
        yield fine("prepared-transaction", "no transaction is prepared for long")
    oldest = next((each for each in found if each.kind != "prepared" and _old(each, patience)), None)
    if oldest is None:
        yield fine("old-snapshot", "nobody keeps dead rows for long")
        return
    session = oldest.kind == "session"
    who = f"session {oldest.name}" if session else f"replication slot {oldest.name!r}"
    yield warning(
        "old-snapshot",
        f"{who} ({oldest.by}) keeps all rows that died since {_since(oldest)}: claims and publishing slow down as they grow",
        f"SELECT pg_terminate_backend({oldest.name}), if nobody waits for it" if session else "drop the slot, if nobody uses it",
    )  # fmt: skip


def tables(found: Sequence[Table]) -> Iterator[Finding]:
    """Is autovacuum at work on our tables, and does it keep up?"""
    bloated = [table for table in found if table.dead > max(MANY_DEAD, DEAD_PART * table.live)]
    for table in bloated:
        last = "never" if table.vacuumed is None else f"{span(table.vacuumed)} ago"
        yield warning(
            "dead-tuples",
            f"table {table.name} has {table.dead:,} dead rows for {table.live:,} live ones; it was vacuumed {last}",
            "see old-snapshot; else VACUUM it, and give autovacuum more (autovacuum_vacuum_cost_limit, workers)",
        )
    if not bloated:
        yield fine("dead-tuples", f"{sum(table.dead for table in found):,} dead rows in our tables")
    off = [table.name for table in found if not table.autovacuum]
    if off:
        names = ", ".join(off)
        advice = "ALTER TABLE ... RESET (autovacuum_enabled)"
        yield warning("table-autovacuum", f"autovacuum is off for {names}: dead rows stay", advice)
    else:
        yield fine("table-autovacuum", "autovacuum is off for none of our tables")


def autovacuum(server: Server) -> Iterator[Finding]:
    """Is it on at all?"""
    if server.autovacuum:
        yield fine("autovacuum", "autovacuum is on")
    else:
        said = "autovacuum is off: dead rows stay, and claims get slower and slower"
        yield warning("autovacuum", said, "ALTER SYSTEM SET autovacuum = on, and reload")


def _old(holder: Holder, patience: timedelta) -> bool:
    if holder.since is None:
        return holder.transactions > OLD_SLOT
    return holder.since > patience


def _since(holder: Holder) -> str:
    ago = counted(holder.transactions, "transaction")
    return f"{ago} ago" if holder.since is None else f"{span(holder.since)} ({ago})"
