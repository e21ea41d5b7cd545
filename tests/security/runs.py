"""Which statements each role runs: what its grants are derived from."""

import importlib
import pkgutil
import re

from fsm_core.postgres import statements as package
from fsm_core.postgres.roles import Role
from fsm_core.postgres.statements import Statement


def _all() -> dict[str, Statement]:
    found = {}
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        names = vars(importlib.import_module(module.name))
        short = module.name.removeprefix(f"{package.__name__}.")
        found |= {f"{short}.{name}": each for name, each in names.items() if isinstance(each, Statement)}
    return found


STATEMENTS = _all()
"""Every statement there is, by module and name."""


def _of(*patterns: str) -> set[str]:
    return {name for name in STATEMENTS if any(re.fullmatch(pattern, name) for pattern in patterns)}


_DECIDE = (
    r"machines\..*",
    r"family\.(?!CHILDREN|LOCATE).*",
    r"signals\..*",
)
_LOOK = (r"reads\..*", r"explain\..*", r"doctor\..*", r"audit\.(?!RESTORE).*", r"limits\.ALL", r"upcast\.(OLDER|HELD|OPEN)")  # fmt: skip

RUNS: dict[Role, set[str]] = {
    Role.SUBMITTER: _of(*_DECIDE, r"load\..*", r"waiting\..*"),
    Role.OPERATOR: _of(
        *_DECIDE, *_LOOK, r"load\..*", r"waiting\..*", r"outbox\.(RETRY|CANCEL_ACTION)", r"audit\.RESTORE", r"limits\.(SET|REMOVE|RING)",
        r"upcast\.UPCAST",
    ),
    Role.WORKER: _of(
        *_DECIDE, r"family\..*", r"outbox\.(CLAIM|MOVE|LATE|MINE)", r"relay\.(REGISTER|BEAT|RUNNING|RETIRE)",
        r"upcast\.(UNREAD|LOOK_TIMEOUT)",
    ),
    Role.RELAY: _of(
        r"relay\.(?!RUNNING).*", r"limits\.(QUEUE|QUEUE_ROOM|SPEND|FORGET_BUCKETS)", r"prune\.(LOCK_EXPIRED|EXPIRE)",
        r"upcast\.(UNREAD|LOOK_TIMEOUT)",
    ),
    Role.PRUNER: _of(r"prune\..*"),
    Role.READER: _of(*_LOOK, r"machines\.READ.*", r"prune\.(PAGE|COUNT)", r"waiting\..*"),
}  # fmt: skip


OWNERS = _of(r"partitions\..*")
"""What only the owner of the tables runs."""


def explained(statement: Statement) -> str | None:
    """What asks the server for the statement's rights without running it; None: it touches no table."""
    text = statement.on("fsm")
    if re.match(r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE)\b", text) is None:
        return None
    numbers: dict[str, int] = {}

    def numbered(found: re.Match[str]) -> str:
        return f"${numbers.setdefault(found[1], len(numbers) + 1)}"

    return "EXPLAIN (GENERIC_PLAN) " + re.sub(r"%\((\w+)\)s", numbered, text).replace("%%", "%")
