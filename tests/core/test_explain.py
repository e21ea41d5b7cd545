"""Why a machine is not moving: the reasons that the facts of one moment give, the most telling first."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from examples.door import door
from fsm_core import ActionId, ActionStatus, MachineStatus
from fsm_core.explain import Action, Facts, Limited, Weight, explain
from fsm_core.records import MachineRecord

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ID = UUID(int=7)
RECORD = MachineRecord(
    "door", "front", ID, 1, MachineStatus.LIVE, "Closed", {}, 3, 0, NOW - timedelta(days=2), NOW - timedelta(days=1), None
)  # fmt: skip
ACTION = Action(ActionId(ID, 3, 0), "NotifyIRC", 1, ActionStatus.PENDING, "default", NOW, 0, 0)
FACTS = Facts(NOW, RECORD, (), 1, frozenset({"default"}), {"door": frozenset({1})}, {"default": 0}, {})


def why(
    *, machine: Any = None, record: dict[str, Any] | None = None, **changes: Any
) -> list[tuple[str, str, str | None]]:
    """Code, message and advice of each reason, with these changes to the facts or to the one action of them."""
    ours = {name: changes.pop(name) for name in list(changes) if name in Facts.__slots__}
    actions = (replace(ACTION, **changes),) if changes or ours.pop("acting", False) else ()
    facts = replace(FACTS, record=replace(RECORD, **(record or {})), actions=actions, **ours)
    return [(r.code, r.message, r.advice) for r in explain(facts, machine)]


def only(**changes: Any) -> tuple[str, str, str | None]:
    (reason,) = why(**changes)
    return reason


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


def test_nothing_under_way_means_that_it_waits_for_somebody() -> None:
    assert only()[:2] == ("waits-for-event", "nothing of it is under way; it waits for an event")
    code, message, _ = only(machine=door, record={"held": 2})
    assert code == "waits-for-event"
    assert "it waits for an event: Open, Lock; 2 events in its inbox" in message


@pytest.mark.parametrize(
    ("timer", "says"), [("ring", "timer 'ring' rings in 3 h"), ("state:Closed", "its state times out in 3 h")]
)
def test_it_waits_for_somebody_until_its_timer_rings(timer: str, says: str) -> None:
    """One of the two will come: no hand is needed. A timer that is due is under way."""
    event, until = why(machine=door, run_at=NOW + timedelta(hours=3), timer=timer)
    assert event[:2] == (
        "waits-for-event",
        "nothing but time is under way; it waits for an event: Open, Lock",
    )
    assert until == ("timer", says, None)
    assert only(run_at=NOW, timer=timer)[0] == "due"


def test_what_has_ended_or_was_never_born() -> None:
    ended = {"status": MachineStatus.CANCELLED, "ended_at": ago(hours=3)}
    assert only(record=ended)[:2] == ("ended", "it has ended: cancelled, 3 h")
    unborn = {"status": MachineStatus.UNBORN, "held": 1}
    assert only(record=unborn) == (
        "unborn",
        "it does not exist yet; 1 signal held for its start",
        "fsm start door/front",
    )


def test_a_version_that_nobody_reads_comes_first() -> None:
    reasons = why(
        versions={"door": frozenset({1, 2})},
        record={"version": 3},
        run_at=NOW + timedelta(hours=2),
        timer="t",
    )
    assert [code for code, *_ in reasons] == ["unread-version", "waits-for-event", "timer"]
    assert "they read 1, 2" in reasons[0][1]
    assert "none of them lists it" in why(versions={})[0][1]


@pytest.mark.parametrize(
    ("given", "code", "says", "advice"),
    [
        ({"run_at": NOW}, "due", "about to be sent", None),
        ({"run_at": ago(minutes=10), "published": {"default": 9}}, "backlog", "due since 10 min: 9 rows of queue 'default'", None),
        ({"run_at": ago(minutes=10)}, "backlog", "is the broker there?", None),
        ({"run_at": NOW, "relays": 0}, "no-relay", "no relay is alive", "fsm relay"),
        ({"run_at": NOW, "queue": "slow"}, "no-consumer", "queue 'slow', which no live worker serves", "fsm worker -- -Q slow"),
        ({"run_at": NOW + timedelta(seconds=90), "attempt": 2, "error": "TimeoutError"}, "retry", "attempt 3 in 90 s, after TimeoutError", None),
        ({"run_at": NOW + timedelta(seconds=30), "note": "no worker here"}, "handed-back", "no worker here; tried again in 30 s", None),
        ({"run_at": NOW + timedelta(seconds=30)}, "later", "begins in 30 s", None),
        ({"status": ActionStatus.FAILED, "error": "Permanent: no"}, "failed", "failed: Permanent: no", f"fsm retry {ACTION.id}"),
        ({"status": ActionStatus.PUBLISHED, "published_at": ago(minutes=5), "published": {"default": 4}, "publishes": 1},
         "published", "5 min ago and not started; 3 others wait there; its message was sent again 1 time", None),
        ({"status": ActionStatus.PUBLISHED, "published_at": ago(minutes=5), "relays": 0}, "published", "not started", "fsm relay"),
        ({"status": ActionStatus.PUBLISHED, "published_at": NOW, "queue": "slow"}, "no-consumer", "no live worker serves", "-Q slow"),
        ({"status": ActionStatus.RUNNING, "worker": "here (pid 7)", "attempt": 2, "started_at": ago(minutes=3), "lease": NOW + timedelta(seconds=9)},
         "running", "runs on here (pid 7), attempt 2, since 3 min", None),
        ({"status": ActionStatus.RUNNING, "worker": "here (pid 7)", "lease": ago(seconds=1)}, "lost-worker", "a relay puts it back", None),
        ({"status": ActionStatus.RUNNING, "relays": 0}, "lost-worker", "a worker that is gone", "fsm relay"),
        ({"status": ActionStatus.BLOCKED, "lane": "key:7", "holder": "orders/9"}, "lane", "orders/9 has key:7", None),
        ({"status": ActionStatus.BLOCKED, "limit": "stripe"}, "unknown-limit", "'stripe', which nobody has set", "fsm limits set stripe"),
        ({"status": ActionStatus.BLOCKED, "limit": "stripe", "limits": {("stripe", ""): Limited(5, None, None, 5)}}, "limit", "5 run, 5 may", None),
        ({"status": ActionStatus.BLOCKED, "limit": "stripe", "limit_key": "a", "limits": {("stripe", "a"): Limited(None, 100, timedelta(minutes=2), 7)}},
         "limit", "'stripe' of 'a': 7 run, any number may, 100 begin in 2 min", None),
        ({"status": ActionStatus.BLOCKED, "limit": "stripe", "limits": {("stripe", ""): Limited(0, None, None, 0)}}, "limit", "0 run, 0 may", "fsm limits"),
        ({"run_at": ago(minutes=10), "limits": {("queue:default", ""): Limited(0, None, None, 0)}},
         "limit", "due since 10 min; its queue 'default' is under a limit: 0 may", "fsm limits"),
        ({"status": ActionStatus.BLOCKED, "lane": "key:7", "relays": 0}, "no-relay", "no relay", "fsm relay"),
        ({"status": ActionStatus.BLOCKED, "lane": "key:7"}, "admission", "about to be admitted", None),
        ({"status": ActionStatus.BLOCKED, "lane": "key:7", "run_at": NOW + timedelta(minutes=4)}, "later", "begins in 4 min", None),
    ],
)  # fmt: skip
def test_an_action_says_where_it_stands(
    given: dict[str, Any], code: str, says: str, advice: str | None
) -> None:
    found, message, todo = only(**given)

    assert found == code
    assert says in message
    assert (advice or "") in (todo or "")


def test_a_failure_that_the_machine_has_heard_of_needs_no_hand() -> None:
    """To run a charge again whose order has been cancelled for it would take the money after all."""
    told = {"status": ActionStatus.FAILED, "error": "no", "told": True}
    assert [(code, advice) for code, _, advice in why(**told)] == [
        ("waits-for-event", None),
        ("failed-told", None),
    ]
    ended = {"status": MachineStatus.DONE, "ended_at": NOW}
    assert [code for code, *_ in why(record=ended, **told)] == ["ended", "failed-told"]


def test_what_needs_a_hand_stands_before_what_does_not() -> None:
    later = replace(ACTION, id=ActionId(ID, 3, 1), run_at=NOW + timedelta(hours=1))
    failed = replace(ACTION, status=ActionStatus.FAILED, error="no")
    reasons = explain(replace(FACTS, actions=(later, failed)))
    assert [r.weight for r in reasons] == [Weight.BROKEN, Weight.WAITS]
