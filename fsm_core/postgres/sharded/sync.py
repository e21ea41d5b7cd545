"""The synchronous store over several databases."""

from __future__ import annotations

from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from fsm_core.postgres import joined
from fsm_core.postgres.sharded.routing import Asked, Router, Shards
from fsm_core.postgres.sync.store import PostgresStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from fsm_core.postgres.sharded.placing import Server
    from fsm_core.registry import AnyMachine

P = ParamSpec("P")
T = TypeVar("T")


class _Router(Router[PostgresStore]):
    """Looks, in this world, where a call may go."""

    async def _record(self, store: PostgresStore, machine: AnyMachine | str, key: str) -> object:
        return store.record(machine, key)

    async def _server_of(self, store: PostgresStore) -> Server:
        with store._own.connected("look for the shard") as connection:  # noqa: SLF001 - ours
            return connection.info.host, connection.info.port, connection.info.dbname

    async def _server_under(self, session: joined.SyncTransaction) -> Server:
        info = joined.connection(session).info
        return info.host, info.port, info.dbname


def _verb(
    verb: Callable[Concatenate[PostgresStore, P], T],
    way: Callable[[_Router, Asked[Any]], Awaitable[Any]] = Router.there,
) -> Callable[Concatenate[ShardedStore, P], T]:
    """A verb of one store as one of several: the same signature, the same answer."""
    takes = signature(verb)

    async def answered(*args: Any, **kwargs: Any) -> T:
        return verb(*args, **kwargs)

    @wraps(verb)
    def routed(self: ShardedStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        flow = way(self._router, Asked(answered, takes.bind(self, *args, **kwargs))).__await__()
        try:
            next(flow)
        except StopIteration as done:
            answer: T = done.value
            return answer
        raise AssertionError  # pragma: no cover - it awaits nothing but `answered`

    return routed


class ShardedStore(Shards[PostgresStore]):
    """The verbs of `PostgresStore`, over several of them; each machine lives whole on one, which its key tells (`Places`).

    stores: by the name of their shard, which is never changed: it is what places keys. former: the sets of names that there were
    before, the latest first, for as long as machines live that were placed by them. What concerns no single machine (limits, upcast,
    fsck, partitions) is asked of each of `stores`. A lane (`partition_key`) is single on each shard, not over all of them. One relay
    and its workers serve one database.

    Verbs with `session` raise UnsupportedConnection besides, where the machine lives on another shard than the caller's
    transaction; of `advance_many`, where one of them does. Then nothing changed.
    Raises ConfigurationError: no shard, or a former one that is not among them.
    """

    def __init__(
        self, stores: Mapping[str, PostgresStore], *, former: Sequence[Collection[str]] = ()
    ) -> None:
        super().__init__(stores, former=former)
        self._router = _Router(self.stores, self.places)

    start = _verb(PostgresStore.start, Router.settled)
    advance = _verb(PostgresStore.advance)
    advance_many = _verb(PostgresStore.advance_many, Router.split)
    signal = _verb(PostgresStore.signal, Router.settled)
    signal_or_start = _verb(PostgresStore.signal_or_start, Router.settled)

    preview = _verb(PostgresStore.preview)
    get = _verb(PostgresStore.get)
    wait = _verb(PostgresStore.wait)
    state_at = _verb(PostgresStore.state_at)
    diff = _verb(PostgresStore.diff)
    history = _verb(PostgresStore.history)
    record = _verb(PostgresStore.record)
    explain = _verb(PostgresStore.explain)
    log = _verb(PostgresStore.log)
    machines = _verb(PostgresStore.machines, Router.machines_of_all)
    actions = _verb(PostgresStore.actions, Router.actions_of_all)
    action = _verb(PostgresStore.action, Router.owner)

    retry = _verb(PostgresStore.retry, Router.owners)
    restore = _verb(PostgresStore.restore)
    cancel = _verb(PostgresStore.cancel)
    cancel_action = _verb(PostgresStore.cancel_action, Router.owner)
    prune = _verb(PostgresStore.prune, Router.sum_of_all)
