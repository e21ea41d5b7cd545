"""What a plan must keep to, however large the tables and whatever the planner knows of them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from fsm_core.postgres.statements import Statement, family, machines, outbox, prune, relay, signals, upcast
from tests.plans.explaining import Seen

A_SLICE = 1200
"""How many rows of a growing table one node may look at: what a batch names (500), and some that are locked or too young."""

SLICES = {
    "publish": 2200,  # a window: 2,000
    "entries": 5500,  # a page of logs: 5,000 events
    "cut": 5500,  # a slice of pruning: 5,000 events, and what finished with them
    "forget": 5500,
    "orphans": 5500,
}

INDEXES = {
    "read": {"machines_address"},
    "read_dedup": {"machines_address", "dedup_pkey"},
    "read_many": {"machines_pkey"},
    "read_keys": {"machines_address", "dedup_pkey"},
    "read_birth": {"machines_address"},
    "lock": {"machines_address"},
    "lock_id": {"machines_pkey"},
    "lock_keys": {"machines_address", "machines_pkey"},
    "write_one": {"machines_pkey"},
    "write_many": {"machines_pkey"},
    "sought": {"events_pkey", "inbox_pkey"},
    "claim": {"actions_pkey", "machines_pkey"},
    "move": {"actions_pkey"},
    "mine": {"actions_pkey"},
    "late": {"actions_pkey", "attempts_pkey"},
    "running": {"actions_running"},
    "window": {"actions_published"},
    "publish": {"actions_due"},
    "unpublish": {"actions_pkey"},
    "next_due": {"actions_due"},
    "blocked": {"actions_blocked"},
    "admit": {"actions_blocked", "actions_lane", "actions_limited", "actions_taken", "actions_pkey"},
    "requeue_dead": {"actions_running", "actions_pkey"},
    "overdue": {"actions_published", "machines_pkey"},
    "republish": {"actions_pkey"},
    "queue_room": {"actions_published", "actions_running"},
    "locate": {"machines_address"},
    "in_use": {"machines_address"},
    "children": {"machines_parent"},
    "ended": {"machines_pkey"},
    "older": {"machines_address"},
    "upcast": {"machines_pkey"},
    "lock_ended": {"machines_ended", "actions_pkey"},
    "lock_pruned": {"machines_ended", "machines_parent", "actions_pkey"},
    "lock_live": {"machines_pkey", "events_pkey"},
    "cut": {"events_pkey", "actions_pkey"},
    "forget": {"machines_pkey", "events_pkey", "actions_pkey"},
    "lock_expired": {"inbox_expires"},
}
"""By which indexes a statement must find what it looks for; those of the others are seen by how much they read."""

NOT_HOT = {
    "count": "fsck says first how many machines it will go through",
    "count_old": "a dry run of pruning counts all there is",
    "find_actions": "a list for people, by whatever they ask for; bounded by its limit",
    "machines": "a list for people, by whatever they ask for; bounded by its limit",
    "unread": "a sample of at most a thousand pages, within a second",
    "limited": "one count for a person who asks why a machine waits",
}
"""What reads more than its answer, and why it may."""


def broken(seen: Iterable[Seen]) -> Iterator[str]:
    """Which rules are broken, by which statement."""
    used: dict[str, set[str]] = defaultdict(set)
    for each in seen:
        name = each.statement.name
        used[name] |= each.indexes
        if name in NOT_HOT:
            continue
        if each.whole:
            yield f"{name} reads the whole of {', '.join(sorted(each.whole))}"
        if each.read > SLICES.get(name, A_SLICE):
            yield f"{name} looks at {each.read} rows"
        if each.sorted > SLICES.get(name, A_SLICE):
            yield f"{name} sorts {each.sorted} rows"
    for name, wanted in INDEXES.items():
        if name in used and (missing := wanted - used[name]):
            yield f"{name} does not use {', '.join(sorted(missing))}"


HOT = (machines, outbox, relay, family, signals, upcast, prune)
"""The modules whose every statement is called here, or named below."""

WITHOUT_TABLES = {
    "lock_timeout", "constraints_now", "savepoint", "release", "back", "call", "call_done", "call_back", "admission", "take_bell",
    "drop_bell", "peer_on_duty", "look_timeout", "rebase", "became",
}  # fmt: skip
"""What looks at no table that grows, or writes one row by its key."""


def hot_statements() -> set[str]:
    """The names of all that must have been seen."""
    found = {value.name for module in HOT for value in vars(module).values() if isinstance(value, Statement)}
    return found - set(NOT_HOT) - WITHOUT_TABLES
