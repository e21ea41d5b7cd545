"""Encrypted rows: nothing in clear, keys that change, rows from before, and rows that no key here opens."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.dialects.postgresql import JSONB, insert

from fsm_core import After, Change, Failed, Machine, To
from fsm_core.audit import Code, fsck
from fsm_core.codec import encode
from fsm_core.errors import DedupMismatch, InvalidPayload, PayloadTooLarge, ReplayFailed, Sealed
from fsm_core.explain import explain
from fsm_core.payload import DEFAULT_LIMITS, SEALED
from fsm_core.postgres import Cipher
from fsm_core.records import Snapshot
from fsm_core.registry import Registry
from tests.store.conftest import MakeWorld
from tests.store.machines import Close, Closed, Manned, Open, Serve, desk
from tests.store.world import TABLES, PostgresWorld

CANARY = "canary4711"
OLD = Cipher({"old": bytes(32)})
BOTH = Cipher({"new": bytes([1] * 32), "old": bytes(32)})
NEW = Cipher({"new": bytes([1] * 32)})
WRONG = Cipher({"old": bytes([2] * 32)})


@dataclass(frozen=True)
class Sum:
    """Any JSON object reads as one: a state that is not opened must not become it."""

    n: int = 0


@dataclass(frozen=True)
class Bump:
    by: int = 1


counter = Machine("counter", states=Sum, events=Bump, initial=Sum())


@counter.on
def bump(state: Sum, event: Bump) -> Sum:
    return Sum(state.n + event.by)


def as_they_stand(world: PostgresWorld) -> dict[str, list[str]]:
    """Every row of every table as text."""
    with psycopg.connect(world.url) as connection:
        read = sql.SQL("SELECT t::text FROM fsm.{} t ORDER BY 1")
        return {
            table: [row[0] for row in connection.execute(read.format(sql.Identifier(table)))]
            for table in TABLES
        }


def served(world: PostgresWorld) -> None:
    """A desk that has served one, with a second event held and a dedup key."""
    world.store.start(desk, "front")
    world.store.advance(desk, "front", Open())
    world.store.advance(desk, "front", Serve(CANARY), dedup_key="evt")
    world.store.advance(desk, "front", Close())
    world.store.signal(desk, "front", Serve(f"{CANARY} too"))


def test_no_row_shows_what_users_wrote(make_world: MakeWorld) -> None:
    clear, world = make_world(), make_world(cipher=BOTH)
    served(world)

    assert CANARY not in str(as_they_stand(world))
    assert world.store.get(desk, "front").state == Closed((CANARY,))
    assert [each.payload for each in world.store.history(desk, "front")][2] == {"name": CANARY}
    assert [each.payload for each in world.store.actions()] == [{"text": CANARY}]
    clear.store.start(desk, "back")
    clear.store.signal(desk, "back", Serve(CANARY))
    assert CANARY in str(as_they_stand(world)["inbox"])


def test_rows_from_before_the_cipher_are_read_and_written_on(make_world: MakeWorld) -> None:
    served(make_world())
    world = make_world(cipher=BOTH)

    assert world.store.advance(desk, "front", Serve(CANARY), dedup_key="evt").duplicate
    world.store.advance(desk, "front", Open())
    assert world.store.get(desk, "front").state == Manned((CANARY, f"{CANARY} too"))
    assert not fsck(world.store.log(desk, "front"), Registry([desk])).findings
    assert CANARY not in world.sql("SELECT state::text FROM fsm.machines")[0][0]


def test_after_a_rotation_old_rows_are_read_and_new_ones_have_the_new_key(make_world: MakeWorld) -> None:
    served(make_world(cipher=OLD))
    world = make_world(cipher=BOTH)

    world.store.advance(desk, "front", Open())
    assert world.store.get(desk, "front").state == Manned((CANARY, f"{CANARY} too"))
    assert not fsck(world.store.log(desk, "front"), Registry([desk])).findings
    assert make_world(cipher=NEW).store.get(desk, "front").state == Manned((CANARY, f"{CANARY} too"))
    keys = {row[0].partition(".")[0] for row in world.sql("SELECT payload ->> '$sealed' FROM fsm.events")}
    assert keys == {"old", "new"}


def refuses(call: Callable[[], object], world: PostgresWorld, reason: str) -> None:
    """It raises Sealed, and changes nothing."""
    before = as_they_stand(world)
    with pytest.raises(Sealed, match=reason):
        call()
    assert as_they_stand(world) == before


@pytest.mark.parametrize(
    ("cipher", "reason"),
    [(None, 'no key "old" here'), (NEW, 'no key "old" here'), (WRONG, 'key "old" does not open it')],
    ids=["no cipher", "another key", "wrong key"],
)
def test_without_its_key_a_machine_is_not_touched(
    make_world: MakeWorld, cipher: Cipher | None, reason: str
) -> None:
    made = make_world(cipher=OLD)
    made.store.start(counter, "a", Sum(41))
    made.store.start(counter, "c", Sum(1))
    served(made)
    world = make_world(cipher=cipher)

    calls: list[Callable[[], object]] = [
        lambda: world.store.get(counter, "a"),
        lambda: world.store.start(counter, "a"),
        lambda: world.store.advance(counter, "a", Bump()),
        lambda: world.store.signal(counter, "a", Bump()),
        lambda: world.store.signal_or_start(counter, "a", Bump()),
        lambda: world.store.advance(desk, "front", Serve(CANARY), dedup_key="evt"),
    ]
    for call in calls:
        refuses(call, world, reason)
    with pytest.raises(ReplayFailed, match=reason):
        world.store.state_at(counter, "a", 0)
    assert made.store.advance(counter, "a", Bump()).state == Sum(42)


def test_without_its_key_a_dedup_key_is_no_mismatch(make_world: MakeWorld) -> None:
    """Whether it was the same event cannot be told; the state, which was written since, can be read."""
    make_world(cipher=OLD).store.start(counter, "a")
    make_world(cipher=OLD).store.advance(counter, "a", Bump(5), dedup_key="evt")
    world = make_world(cipher=BOTH)
    world.store.advance(counter, "a", Bump())
    later = make_world(cipher=NEW)

    assert later.store.get(counter, "a").state == Sum(6)
    refuses(lambda: later.store.advance(counter, "a", Bump(5), dedup_key="evt"), world, "the dedup key")
    assert world.store.advance(counter, "a", Bump(5), dedup_key="evt").duplicate
    with pytest.raises(DedupMismatch):
        world.store.advance(counter, "a", Bump(6), dedup_key="evt")


def test_what_is_remembered_of_an_event_cannot_be_guessed(make_world: MakeWorld) -> None:
    """The plain digest of a small event is as good as the event."""
    world = make_world(cipher=BOTH)
    for key in "ab":
        world.store.start(counter, key)
        world.store.advance(counter, key, Bump(5), dedup_key="evt")

    one, other = (bytes(row[0]) for row in world.sql("SELECT digest FROM fsm.dedup"))
    assert one != other
    assert one.startswith(SEALED.encode())


def test_a_machine_without_its_key_does_not_hinder_others(make_world: MakeWorld) -> None:
    make_world(cipher=OLD).store.start(counter, "a")
    world = make_world(cipher=NEW)
    world.store.start(counter, "b")

    refused, done = world.store.advance_many(counter, [("a", Bump()), ("b", Bump())])

    assert isinstance(refused, Sealed)
    assert isinstance(done, Snapshot)
    assert {record.key: record.state for record in world.store.machines("counter")} == {
        "a": {"$sealed": 'no key "old" here'},
        "b": {"n": 1},
    }


def test_what_is_looked_at_says_why_it_cannot_be_read(make_world: MakeWorld) -> None:
    served(make_world(cipher=OLD))
    world = make_world()
    hidden = {"$sealed": 'no key "old" here'}

    assert world.store.record(desk, "front").state == hidden
    assert [each.payload for each in world.store.history(desk, "front")] == [hidden] * 4
    assert [each.payload for each in world.store.actions()] == [hidden]
    assert explain(world.store.explain(desk, "front"))
    (found,) = fsck(world.store.log(desk, "front"), Registry([desk])).findings
    assert (found.code, 'sealed: no key "old" here' in found.message) == (Code.REPLAY, True)


def swap(world: PostgresWorld, table: str, column: str, where: str) -> None:
    """Let the rows of that table exchange what stands in that column."""
    world.sql(
        f"UPDATE fsm.{table} t SET {column} = (SELECT o.{column} FROM fsm.{table} o WHERE {where} LIMIT 1)"
    )


def test_what_is_moved_to_another_machine_does_not_open(make_world: MakeWorld) -> None:
    world = make_world(cipher=BOTH)
    for key, value in (("a", 1), ("b", 2)):
        world.store.start(counter, key, Sum(value))
        world.store.advance(counter, key, Bump(), dedup_key="evt")
    swap(world, "machines", "state", "o.id <> t.id")

    for key in "ab":
        refuses(lambda key=key: world.store.advance(counter, key, Bump()), world, "is another machine's")  # type: ignore[misc]

    swap(world, "machines", "state", "o.id <> t.id")
    swap(world, "dedup", "digest", "o.machine_id <> t.machine_id")
    refuses(lambda: world.store.advance(counter, "a", Bump(), dedup_key="evt"), world, "the dedup key")


@pytest.mark.parametrize(
    "damage",
    [
        "left(value, 40) || CASE substr(value, 41, 1) WHEN 'A' THEN 'B' ELSE 'A' END || substr(value, 42)",
        "left(value, -4)",
        "'new.'",
        "'new'",
        "'new.!!!!'",
        "'old' || substr(value, 4)",
    ],
)
def test_a_changed_value_is_refused(make_world: MakeWorld, damage: str) -> None:
    world = make_world(cipher=BOTH)
    world.store.start(counter, "a", Sum(41))
    world.sql(
        f"UPDATE fsm.machines SET state = (SELECT jsonb_build_object('$sealed', {damage})"
        " FROM (SELECT state ->> '$sealed') AS v(value))"
    )

    refuses(lambda: world.store.advance(counter, "a", Bump()), world, "sealed: ")


@dataclass(frozen=True)
class Page:
    text: str = ""


@dataclass(frozen=True)
class Write:
    text: str


@dataclass(frozen=True)
class Print:
    text: str


page = Machine(
    "page", states=Page, events=Write | Failed[Print], actions=Print, initial=Page(), unhandled="defer"
)


@page.on
def write(state: Page, event: Write) -> To[Page, Print | After[Write]]:
    return Page(event.text), [Print(event.text), After(timedelta(days=1), event)]


@pytest.mark.parametrize("letter", ["x", "é", "☃", "\x01"])
def test_the_largest_payload_that_is_accepted_is_stored(make_world: MakeWorld, letter: str) -> None:
    """Sealed it is a third longer, and what jsonb would compress it cannot."""
    world = make_world(cipher=BOTH)
    world.store.start(page, 1)
    frame, one = (len(encode(Write(text), "event").encode()) for text in ("", letter))
    longest = letter * ((DEFAULT_LIMITS.size - frame) // (one - frame))

    assert world.store.advance(page, 1, Write(longest)).state == Page(longest)
    assert world.store.get(page, 1).state == Page(longest)
    with pytest.raises(PayloadTooLarge):
        world.store.advance(page, 1, Write(longest + letter))


class Odd(msgspec.Struct, frozen=True, rename={"sealed": "$sealed"}):
    sealed: str = ""
    deep: dict[str, Any] = {}


def test_the_name_of_a_sealed_value_is_reserved() -> None:
    """At the top only, where it would be taken for one."""
    with pytest.raises(InvalidPayload, match=r"a field is called \$sealed"):
        encode(Odd("x"), "state")
    assert encode(Print('{"$sealed": "x"}'), "action")


def test_a_key_that_looks_sealed_is_a_key(make_world: MakeWorld) -> None:
    world, key = make_world(cipher=BOTH), f'{SEALED}new.AAAA"}}'
    world.store.start(counter, key, Sum(3))

    assert world.store.advance(counter, key, Bump(), dedup_key=key).state == Sum(4)
    assert [record.key for record in world.store.machines()] == [key]


mirror = sa.Table(
    "mirror",
    sa.MetaData(),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("state", sa.Text),
    sa.Column("payload", JSONB),
)
mirrored = Machine("mirrored", states=Sum, events=Bump, initial=Sum())


@mirrored.on
def bump_mirrored(state: Sum, event: Bump) -> Sum:
    return Sum(state.n + event.by)


@mirrored.project
def to_mirror(change: Change[Sum, Bump]) -> list[sa.Executable]:
    values = {"state": str(change.after.n), "payload": {"n": change.after.n}}
    made = insert(mirror).values(id=change.key, **values)
    return [made.on_conflict_do_update(index_elements=["id"], set_=values)]


def test_what_a_projection_writes_is_its_own(make_world: MakeWorld) -> None:
    """Whatever its columns are called: the application's tables are not encrypted."""
    world = make_world(cipher=BOTH)
    world.sql("CREATE TABLE mirror (id text PRIMARY KEY, state text, payload jsonb)")
    world.store.start(mirrored, "a")
    world.store.advance(mirrored, "a", Bump())

    assert world.sql("SELECT * FROM mirror") == [("a", "1", {"n": 1})]
    assert world.store.get(mirrored, "a").state == Sum(1)
