"""The asynchronous store over several databases."""

from __future__ import annotations

from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from fsm_core.postgres import joined
from fsm_core.postgres.aio.store import AsyncPostgresStore
from fsm_core.postgres.sharded.routing import Asked, Router, Shards

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence

    from fsm_core.postgres.sharded.placing import Server
    from fsm_core.registry import AnyMachine

P = ParamSpec("P")
T = TypeVar("T")


class _Router(Router[AsyncPostgresStore]):
    """Looks, in this world, where a call may go."""

    async def _record(self, store: AsyncPostgresStore, machine: AnyMachine | str, key: str) -> object:
        return await store.record(machine, key)

    async def _server_of(self, store: AsyncPostgresStore) -> Server:
        async with store._own.connected("look for the shard") as connection:  # noqa: SLF001 - ours
            return connection.info.host, connection.info.port, connection.info.dbname

    async def _server_under(self, session: joined.AsyncTransaction) -> Server:
        info = (await joined.async_connection(session)).info
        return info.host, info.port, info.dbname


def _verb(
    verb: Callable[Concatenate[AsyncPostgresStore, P], Coroutine[Any, Any, T]],
    way: Callable[[_Router, Asked[Any]], Awaitable[Any]] = Router.there,
) -> Callable[Concatenate[AsyncShardedStore, P], Coroutine[Any, Any, T]]:
    """A verb of one store as one of several: the same signature, the same answer."""
    takes = signature(verb)

    @wraps(verb)
    async def routed(self: AsyncShardedStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        answer: T = await way(self._router, Asked(verb, takes.bind(self, *args, **kwargs)))
        return answer

    return routed


class AsyncShardedStore(Shards[AsyncPostgresStore]):
    """As `ShardedStore`, over stores that are `AsyncPostgresStore`: every verb is awaited, and means the same."""

    def __init__(
        self, stores: Mapping[str, AsyncPostgresStore], *, former: Sequence[Collection[str]] = ()
    ) -> None:
        super().__init__(stores, former=former)
        self._router = _Router(self.stores, self.places)

    start = _verb(AsyncPostgresStore.start, Router.settled)
    advance = _verb(AsyncPostgresStore.advance)
    advance_many = _verb(AsyncPostgresStore.advance_many, Router.split)
    signal = _verb(AsyncPostgresStore.signal, Router.settled)
    signal_or_start = _verb(AsyncPostgresStore.signal_or_start, Router.settled)

    preview = _verb(AsyncPostgresStore.preview)
    get = _verb(AsyncPostgresStore.get)
    wait = _verb(AsyncPostgresStore.wait)
    state_at = _verb(AsyncPostgresStore.state_at)
    diff = _verb(AsyncPostgresStore.diff)
    history = _verb(AsyncPostgresStore.history)
    record = _verb(AsyncPostgresStore.record)
    explain = _verb(AsyncPostgresStore.explain)
    log = _verb(AsyncPostgresStore.log)
    machines = _verb(AsyncPostgresStore.machines, Router.machines_of_all)
    actions = _verb(AsyncPostgresStore.actions, Router.actions_of_all)
    action = _verb(AsyncPostgresStore.action, Router.owner)

    retry = _verb(AsyncPostgresStore.retry, Router.owners)
    restore = _verb(AsyncPostgresStore.restore)
    cancel = _verb(AsyncPostgresStore.cancel)
    cancel_action = _verb(AsyncPostgresStore.cancel_action, Router.owner)
    prune = _verb(AsyncPostgresStore.prune, Router.sum_of_all)
