"""`fsm doctor` on real rows: each fault is made, and the command names it; its exit status says whether it is an error."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fsm_core.postgres.migrate import downgrade
from tests.cli.machines import New, old
from tests.cli.patient import Patient, patient
from tests.cli.support import Fsm
from tests.delivery.calls import Make
from tests.store.machines import desk
from tests.waiting import eventually

__all__ = ["patient"]  # the fixture

ROOT = Path(__file__).parents[2]


def test_an_installation_that_is_well(patient: Patient) -> None:
    """Every check says so, by a line of its own; an action that is under way is no finding."""
    patient.emit()
    patient.publish()
    patient.run()

    answer = patient.fsm("doctor")

    assert (answer.status, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert {line.split()[0] for line in lines} == {"ok"}
    assert "ok       fsync: fsync is on" in lines
    assert "ok       relay: 1 relay alive" in lines
    assert patient.fsm("doctor", "--strict").status == 0


def test_every_code_is_in_the_manual(patient: Patient) -> None:
    """A well installation names all that is looked at; what is only for information, or only told if it cannot be, apart."""
    codes = {each["code"] for each in patient.fsm("doctor", "--json").json}
    manual = (
        (ROOT / "docs" / "operations.md").read_text().partition("## Is it well?")[2].partition("\n## ")[0]
    )
    rows = [line.split("|")[1] for line in manual.splitlines() if line.startswith("| `")]

    assert set(re.findall(r"`([a-z-]+)`", " ".join(rows))) == codes - {"broker-persistence"} | {"not-checked"}


# Faults that rows show


def no_relay(patient: Patient) -> None:
    patient.outbox.retire(patient.relay)


def overdue_lease(patient: Patient) -> None:
    patient.sql("UPDATE fsm.workers SET alive_until = now() - interval '2 min' WHERE id = %s", patient.worker)


def nobody_serves(patient: Patient) -> None:
    patient.emit(Make(3, limit=None, queue="slow"))


def deaf_workers(patient: Patient) -> None:
    patient.emit()
    patient.publish()
    patient.long_ago("published_at")


def busy_workers(patient: Patient) -> None:
    patient.emit(Make(2, limit=None))
    patient.publish()
    patient.run()
    patient.publish()
    patient.long_ago("published_at")


def not_sent(patient: Patient) -> None:
    patient.emit()
    patient.long_ago("run_at")


def not_sent_under_a_limit(patient: Patient) -> None:
    patient.store.limit("queue:default", max_running=0)
    not_sent(patient)


def backlog(patient: Patient) -> None:
    patient.emit(Make(2, limit=None))
    patient.publish()
    patient.long_ago("run_at")


def dead_worker(patient: Patient) -> None:
    patient.emit()
    patient.publish()
    patient.run()
    patient.sql("UPDATE fsm.workers SET dead_at = now() - interval '2 min' WHERE id = %s", patient.worker)


def unknown_worker(patient: Patient) -> None:
    patient.emit()
    patient.publish()
    patient.run()
    patient.sql("DELETE FROM fsm.workers WHERE id = %s", patient.worker)


def head_that_runs(patient: Patient) -> None:
    patient.emit(Make(3, limit=None, lane="x"))
    patient.admit()
    patient.publish()
    patient.run()
    patient.long_ago("started_at")


def head_that_waits(patient: Patient) -> None:
    """A retry that is due tomorrow."""
    head_that_runs(patient)
    patient.sql(
        "UPDATE fsm.actions SET status = 'pending', run_at = now() + interval '1 day' WHERE status = 'running'"
    )


def unset_limit(patient: Patient) -> None:
    patient.emit(Make(2, limit="nobody"))


def unset_limit_in_a_lane(patient: Patient) -> None:
    patient.emit(Make(2, limit="nobody", lane="x"))


def failed(patient: Patient) -> None:
    patient.emit()
    patient.sql("UPDATE fsm.actions SET status = 'failed', finished_at = now() - interval '2 h'")


def full_inbox(patient: Patient) -> None:
    made = patient.store.start(desk, 1)
    patient.sql(
        "INSERT INTO fsm.inbox (machine_id, name, payload, version, source, received_at)"
        " SELECT %s, 'Serve', '{\"name\": \"x\"}', 1, 'call', now() FROM generate_series(1, 800)",
        made.id,
    )
    patient.sql("UPDATE fsm.machines SET inbox = 800")


def unread_version(patient: Patient) -> None:
    patient.store.start(old, "a", New())


def older_schema(patient: Patient) -> None:
    downgrade(patient.url, "0004", "fsm")


def newer_schema(patient: Patient) -> None:
    patient.sql("UPDATE fsm.schema_version SET version_num = '9999'")


def dead_rows(patient: Patient) -> None:
    patient.sql("ALTER TABLE fsm.events SET (autovacuum_enabled = off)")
    patient.sql("INSERT INTO fsm.events (machine_id, seq, name, payload, version, outcome, source, occurred_at)"
                " SELECT gen_random_uuid(), 0, 'x', '{}', 1, 'applied', 'call', now() FROM generate_series(1, 10001)")  # fmt: skip
    patient.sql("DELETE FROM fsm.events")


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (no_relay, "relay", "error: no relay is alive"),
        (overdue_lease, "leases", "error: the lease of node b (pid 2) ran out 2 min ago"),
        (nobody_serves, "no-consumer", "error: queue 'slow' has 3 rows that are due"),
        (deaf_workers, "not-started", "error: queue 'default': 1 row sent and not started, the oldest for 10 min"),
        (busy_workers, "not-started", "warning: queue 'default': 1 row sent and not started"),
        (not_sent, "not-sent", "error: queue 'default': 1 row due and not sent, the oldest for 10 min"),
        (not_sent_under_a_limit, "not-sent", "warning: queue 'default': 1 row due and not sent"),
        (backlog, "not-sent", "warning: queue 'default': 1 row due and not sent"),
        (dead_worker, "lost-worker", "error: 1 action run under b (pid 2), which is dead"),
        (unknown_worker, "lost-worker", "error: 1 action run under a worker that no row knows"),
        (head_that_runs, "lane", "warning: lane 'key:x': 2 actions wait behind one of calls/m, which runs since 10 min"),
        (head_that_waits, "lane", "warning: lane 'key:x': 2 actions wait behind one of calls/m, which waits for its next attempt"),
        (unset_limit, "unset-limit", "error: actions wait for the limit 'nobody'"),
        (unset_limit_in_a_lane, "unset-limit", "error: actions wait for the limit 'nobody'"),
        (failed, "failed", "warning: 1 action failed for good, 0 of them in the last hour; the last one 2 h ago"),
        (full_inbox, "inbox", "warning: desk/1 holds 800 of at most 1,000 events"),
        (unread_version, "unread-version", "error: there are live machines aging of version 1"),
        (older_schema, "schema", "error: the schema is at 0004, this code needs"),
        (newer_schema, "schema", "warning: the schema is at 9999, which is newer"),
        (dead_rows, "dead-tuples", "warning: table events has 10,001 dead rows for 0 live ones"),
        (dead_rows, "table-autovacuum", "warning: autovacuum is off for events"),
    ],
)  # fmt: skip
def test_a_fault_is_named(patient: Patient, fault: Callable[[Patient], None], code: str, said: str) -> None:
    """Exit status 1 for an error; for a warning only if it is asked for."""
    fault(patient)

    answer, found = eventually(
        lambda: seen if code in (seen := patient.examined())[1] else None, what=f"{code} is found"
    )

    assert found[code][0].startswith(said)
    errors = [each for every in found.values() for each in every if each.startswith("error")]
    assert answer.status == bool(errors)
    assert patient.fsm("doctor", "--strict").status == 1


def test_what_needs_hands_comes_first_with_its_advice(patient: Patient) -> None:
    failed(patient)
    no_relay(patient)

    lines = patient.fsm("doctor").out.splitlines()

    assert lines[0] == (
        "error    relay: no relay is alive: nothing is published, no timer rings -> start one: fsm relay"
    )
    assert lines[1].startswith("warning  failed: ")
    assert {line.split()[0] for line in lines[2:]} == {"ok"}


def test_a_database_without_our_tables_is_one_error(
    fsm: Fsm, empty_database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    monkeypatch.setenv("BROKER_URL", broker_url)

    answer = fsm("doctor")

    assert (answer.status, answer.err) == (1, "")
    first, second, *_ = answer.out.splitlines()
    assert first == "error    schema: the tables are not there -> fsm migrate"
    assert second.startswith("ok ")
