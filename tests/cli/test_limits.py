"""`fsm limits`: list, set, remove; a wrong call is one line, and changes nothing."""

from datetime import timedelta

import pytest

from fsm_core.limits import Limit
from fsm_core.postgres import PostgresStore
from tests.cli.support import Fsm, Refuses


def test_a_limit_is_set_listed_and_removed(fsm: Fsm, store: PostgresStore) -> None:
    assert fsm("limits") == (0, "no limits\n", "")

    said = fsm("limits", "set", "stripe", "--max-running", "5", "--rate", "100/m", "--burst", "20")
    assert said == (0, "limit stripe: running at most 5, rate 100/m, burst 20\n", "")
    fsm("limits", "set", "queue:checkout", "--max-running", "0")
    assert store.limits() == [
        Limit("queue:checkout", max_running=0),
        Limit("stripe", 5, 100, timedelta(minutes=1), 20),
    ]
    assert fsm("limits", "--json").json == [
        {"limit": "queue:checkout", "max_running": 0, "rate": None, "per_seconds": None, "burst": None},
        {"limit": "stripe", "max_running": 5, "rate": 100.0, "per_seconds": 60.0, "burst": 20},
    ]
    assert "stripe" in fsm("limits").out

    assert fsm("limits", "remove", "stripe") == (0, "limit stripe is removed\n", "")
    assert [limit.name for limit in store.limits()] == ["queue:checkout"]


def test_setting_it_again_changes_it_as_a_whole(fsm: Fsm, store: PostgresStore) -> None:
    fsm("limits", "set", "stripe", "--max-running", "5")
    answer = fsm("limits", "set", "stripe", "--rate", "2.5/30s", "--json").json

    assert answer == {"limit": "stripe", "max_running": None, "rate": 2.5, "per_seconds": 30.0, "burst": 3}
    assert store.limits() == [Limit("stripe", None, 2.5, timedelta(seconds=30), 3)]
    fsm("limits", "set", "stripe", "--unlimited")
    assert store.limits() == [Limit("stripe")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", "stripe"), "what is the limit?"),
        (("set", "stripe", "--unlimited", "--max-running", "1"), "what is the limit?"),
        (("set", "stripe", "--rate", "often"), "10/s, 100/m or 5/30s"),
        (("set", "stripe", "--rate", "1/9999999999d"), "--rate"),
        (("set", "stripe", "--rate", "0/s"), "rate= is a number above 0"),
        (("set", "stripe", "--rate", "1/0s"), "per= is a timedelta above 0"),
        (("set", "stripe", "--max-running", "-1"), "max_running= is a whole number from 0"),
        (("set", "stripe", "--max-running", "99999999999"), "max_running= is a whole number from 0"),
        (("set", "stripe", "--max-running", "1", "--burst", "2"), "burst= needs a rate="),
        (("set", "", "--max-running", "1"), "a limit's name is"),
        (("remove", "stripe"), "there is no limit 'stripe'"),
    ],
)
def test_a_wrong_call_is_one_line(
    refuses: Refuses, store: PostgresStore, arguments: tuple[str, ...], said: str
) -> None:
    assert said in refuses("limits", *arguments)
    assert store.limits() == []
