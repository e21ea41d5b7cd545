"""What the checks of `fsm doctor` say of facts that no server of a test can show, and of several facts at once."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from fsm_core.postgres.flows.doctor import MOST, Depth, Failed, Holder, Process, Server, Session, Table
from workers.doctor import broker, delivery, server
from workers.doctor.broker import Broker
from workers.doctor.delivery import Delivery
from workers.doctor.findings import Finding, Severity, counted, span
from workers.doctor.server import Skew

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
WELL = Server(
    180_006, "18.6", fsync=True, full_page_writes=True, synchronous_commit="on", autovacuum=True, connections=10,
    most_connections=100, sees_all=True,
)  # fmt: skip
RELAY = Process("relay", "a (pid 1)", {}, -MINUTE)
NODE = Process("node", "b (pid 2)", {"default": 4}, -MINUTE)


def severity(found: Iterable[Finding]) -> Severity:
    """Of a check that says one thing."""
    (finding,) = found
    return finding.severity


def bad(found: Iterable[Finding]) -> list[str]:
    return [finding.code for finding in found if finding.severity is not Severity.OK]


def depth(queue: str = "default", **given: Any) -> Depth:
    nothing = {
        "due": 0,
        "due_for": None,
        "published": 0,
        "published_for": None,
        "running": 0,
        "limited": False,
    }
    return Depth(queue, **{**nothing, **given})


@pytest.mark.parametrize(
    ("version", "expected"),
    [(149_999, Severity.ERROR), (150_000, Severity.WARNING), (159_999, Severity.WARNING), (160_000, Severity.OK)],
)  # fmt: skip
def test_a_server_that_is_too_old(version: int, expected: Severity) -> None:
    assert severity(server.version(WELL._replace(version=version))) is expected


@pytest.mark.parametrize("mode", ["on", "local", "remote_write", "remote_apply"])
def test_commits_that_wait_for_this_disk_are_durable(mode: str) -> None:
    assert bad(server.durability(WELL._replace(synchronous_commit=mode))) == []


@pytest.mark.parametrize(("used", "expected"), [(79, Severity.OK), (80, Severity.WARNING), (100, Severity.WARNING)])  # fmt: skip
def test_connections_that_run_out(used: int, expected: Severity) -> None:
    assert severity(server.connections(WELL._replace(connections=used))) is expected


@pytest.mark.parametrize(
    ("ahead", "by", "way"),
    [
        (timedelta(seconds=5), timedelta(0), None),
        (timedelta(seconds=-5), timedelta(0), None),
        (timedelta(seconds=8), timedelta(seconds=4), None),
        (timedelta(seconds=6), timedelta(0), "is 6 s ahead of the database's"),
        (timedelta(minutes=-10), timedelta(seconds=4), "is 10 min behind the database's"),
    ],
)
def test_a_clock_that_is_off_by_more_than_the_question_took(
    ahead: timedelta, by: timedelta, way: str | None
) -> None:
    (finding,) = server.clock(Skew(ahead, by))

    assert finding.severity is (Severity.OK if way is None else Severity.WARNING)
    assert way is None or way in finding.message


def test_who_holds_dead_rows() -> None:
    """A session by its age, a slot by its transactions; a prepared transaction is told by itself."""
    session = Holder("session", "7", "reports", 100, HOUR)
    prepared = Holder("prepared", "batch", "app", 50, HOUR)
    slot = Holder("slot", "standby", "nobody uses it", 1_000_001, None)

    def said(*held: Holder) -> list[str]:
        return [f"{f.code}: {f.message}" for f in server.holders(held, MINUTE) if f.severity is Severity.WARNING]  # fmt: skip

    assert said() == said(session._replace(since=MINUTE), slot._replace(transactions=1_000_000)) == []
    assert [each.partition(":")[0] for each in said(prepared, session)] == [
        "prepared-transaction",
        "old-snapshot",
    ]
    assert "'batch' of app is prepared since 60 min" in said(prepared)[0]
    assert "session 7 (reports) keeps all rows that died since 60 min" in said(session)[0]
    assert "replication slot 'standby' (nobody uses it) keeps" in said(slot)[0]


def test_an_aborted_transaction_that_stays_open_is_idle_too() -> None:
    aborted = Session(7, "app", "idle in transaction (aborted)", HOUR, HOUR)

    assert bad(server.sessions([aborted])) == ["idle-in-transaction"]


@pytest.mark.parametrize(
    ("live", "dead", "found"),
    [(0, 10_000, []), (0, 10_001, ["dead-tuples"]), (100_000, 20_000, []), (100_000, 20_001, ["dead-tuples"])],
)  # fmt: skip
def test_dead_rows_are_many_next_to_the_live_ones(live: int, dead: int, found: list[str]) -> None:
    assert bad(server.tables([Table("actions", live, dead, None, autovacuum=True)])) == found


def test_what_nobody_serves_is_told_once() -> None:
    """Rows of a queue without a worker are neither slow to be sent nor slow to be started: nobody is there."""
    deserted = depth("slow", due=3, due_for=HOUR, published=2, published_for=HOUR)
    now = Delivery((RELAY, NODE), (deserted,), MINUTE)
    checks = (delivery.relay, delivery.leases, delivery.consumers, delivery.published, delivery.due)

    found = [finding for check in checks for finding in check(now)]

    assert bad(found) == ["no-consumer"]
    assert "5 rows" in next(finding.message for finding in found if finding.code == "no-consumer")


def test_a_worker_whose_lease_ran_out_serves_nothing() -> None:
    late = NODE._replace(late=timedelta(seconds=1))

    assert bad(delivery.consumers(Delivery((RELAY, late), (depth(due=1, due_for=MINUTE),), MINUTE))) == [
        "no-consumer"
    ]
    assert bad(delivery.leases(Delivery((RELAY, late), (), MINUTE))) == []  # it is about to be buried


def test_what_only_lies_ahead_needs_no_worker() -> None:
    assert bad(delivery.consumers(Delivery((RELAY,), (depth("later"),), MINUTE))) == []


@pytest.mark.parametrize("check", [delivery.published, delivery.due])
def test_patience_ends_after_its_span(check: Any) -> None:
    for age, found in ((MINUTE, 0), (MINUTE * 1.01, 1)):
        slow = depth(due=1, due_for=age, published=1, published_for=age)
        assert len(bad(check(Delivery((RELAY, NODE), (slow,), MINUTE)))) == found


@pytest.mark.parametrize(
    ("host", "has_password", "expected"),
    [
        ("127.0.0.1", False, Severity.OK),
        ("::1", False, Severity.OK),
        ("localhost", False, Severity.OK),
        ("socket:///run/valkey.sock", False, Severity.OK),
        (None, False, Severity.OK),
        ("10.0.0.3", True, Severity.OK),
        ("10.0.0.3", False, Severity.WARNING),
        ("redis", False, Severity.WARNING),
    ],
)
def test_a_broker_that_anybody_may_reach(host: str | None, has_password: bool, expected: Severity) -> None:
    assert severity(broker.password(Broker("redis://...", host, has_password))) is expected


def test_a_broker_that_is_no_redis_is_not_asked_for_what_it_has_not() -> None:
    other = Broker("amqp://...", "127.0.0.1", has_password=True)

    assert [f.severity for check in broker.CHECKS for f in check(other)] == [Severity.OK] * 3


def test_what_was_not_counted_to_its_end_says_so() -> None:
    assert [counted(number, "row") for number in (0, 1, 2, MOST - 1, MOST)] == [
        "0 rows", "1 row", "2 rows", "10,000 rows", ">10,000 rows",
    ]  # fmt: skip
    assert [span(timedelta(seconds=seconds)) for seconds in (0, 119, 120, 7200, 172_800)] == [
        "0 s", "119 s", "2 min", "2 h", "2 d",
    ]  # fmt: skip
    (finding,) = delivery.failed(Failed(MOST, 3, HOUR))
    assert (
        finding.message
        == ">10,000 actions failed for good, 3 of them in the last hour; the last one 60 min ago"
    )
