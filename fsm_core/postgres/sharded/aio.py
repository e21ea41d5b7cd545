"""The asynchronous store over several databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from fsm_core.errors import ActionNotFound, MachineNotFound, UnsupportedConnection
from fsm_core.postgres import joined
from fsm_core.postgres.sharded.placing import elsewhere, moved, one_of, places
from fsm_core.types import Key, key_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
    from datetime import datetime, timedelta

    from fsm_core.delivery.retention import Pruned, Retention
    from fsm_core.delivery.waiters import Span
    from fsm_core.errors import NotFound, Refused
    from fsm_core.explain import Facts
    from fsm_core.machine import Machine
    from fsm_core.postgres.aio.store import AsyncPostgresStore
    from fsm_core.postgres.sharded.placing import Server
    from fsm_core.records import ActionRecord, HistoryEntry, MachineRecord, Receipt, Snapshot
    from fsm_core.registry import AnyMachine
    from fsm_core.types import ActionId

S = TypeVar("S")
E = TypeVar("E")
A = TypeVar("A")
T = TypeVar("T")


class AsyncShardedStore:
    """As `ShardedStore`, over stores that are `AsyncPostgresStore`: every verb is awaited, and means the same."""

    def __init__(
        self, stores: Mapping[str, AsyncPostgresStore], *, former: Sequence[Collection[str]] = ()
    ) -> None:
        self.stores = dict(stores)
        self.places = places(self.stores, former)
        self._servers: dict[str, Server] = {}

    def home(self, key: Key) -> AsyncPostgresStore:
        """The store on which a machine of this key is born."""
        return self.stores[self.places.home(key_text(key))]

    # Deciding

    async def start(
        self,
        machine: Machine[S, E, A],
        key: Key | None = None,
        state: S | None = None,
        *,
        partition_key: str | None = None,
        priority: int | None = None,
        at: datetime | None = None,
        session: joined.AsyncTransaction | None = None,
    ) -> Snapshot[S]:
        """As `ShardedStore.start`; where an earlier set of shards had placed it, it is found and not started again.

        A lane (`partition_key`) is single on each shard, not over all of them.
        """
        name = str(uuid4()) if key is None else key_text(key)
        store = await self._settled(machine, name, session)
        return await store.start(
            machine, name, state, partition_key=partition_key, priority=priority, at=at, session=session
        )

    async def advance(
        self,
        machine: Machine[S, E, A],
        key: Key,
        event: E,
        *,
        dedup_key: str | None = None,
        expected_seq: int | None = None,
        session: joined.AsyncTransaction | None = None,
    ) -> Snapshot[S]:
        """As `ShardedStore.advance`. session: of the machine's own shard; raises UnsupportedConnection for another's."""
        return await self._there(
            key,
            lambda store: store.advance(
                machine, key, event, dedup_key=dedup_key, expected_seq=expected_seq, session=session
            ),
            session,
        )

    async def advance_many(
        self,
        machine: Machine[S, E, A],
        events: Sequence[tuple[Key, E]],
        *,
        session: joined.AsyncTransaction | None = None,
    ) -> list[Snapshot[S] | Refused | NotFound]:
        """As `ShardedStore.advance_many`, shard by shard; the answers come in the order of `events`.

        With `session` all machines must live on its shard: raises UnsupportedConnection otherwise, and nothing changed.
        """
        if session is not None:
            names = {await self._joined(key_text(key), session) for key, _ in events}
            return (
                await self.stores[names.pop()].advance_many(machine, events, session=session) if names else []
            )
        answers: dict[int, Snapshot[S] | Refused | NotFound] = {}
        for name, positions in self.places.split([key_text(key) for key, _ in events]).items():
            found = await self.stores[name].advance_many(machine, [events[at] for at in positions])
            answers.update(zip(positions, found, strict=True))
        for position in moved(self.places, [key_text(key) for key, _ in events], answers):
            answers[position] = await self._once_more(machine, *events[position])
        return [answers[position] for position in range(len(events))]

    async def signal(
        self,
        machine: Machine[S, E, A],
        key: Key,
        event: E,
        *,
        dedup_key: str | None = None,
        ttl: timedelta | None = None,
        session: joined.AsyncTransaction | None = None,
    ) -> Receipt:
        """As `ShardedStore.signal`."""
        store = await self._settled(machine, key_text(key), session)
        return await store.signal(machine, key, event, dedup_key=dedup_key, ttl=ttl, session=session)

    async def signal_or_start(
        self,
        machine: Machine[S, E, A],
        key: Key,
        event: E,
        state: S | None = None,
        *,
        dedup_key: str | None = None,
        session: joined.AsyncTransaction | None = None,
    ) -> Receipt:
        """As `ShardedStore.signal_or_start`."""
        store = await self._settled(machine, key_text(key), session)
        return await store.signal_or_start(machine, key, event, state, dedup_key=dedup_key, session=session)

    # Looking

    async def get(self, machine: Machine[S, E, A], key: Key) -> Snapshot[S]:
        """As `ShardedStore.get`."""
        return await self._there(key, lambda store: store.get(machine, key))

    async def wait(
        self,
        machine: Machine[S, E, A],
        key: Key,
        timeout: Span | None = None,  # noqa: ASYNC109 - the name that it has in every store
    ) -> Snapshot[S]:
        """As `ShardedStore.wait`."""
        return await self._there(key, lambda store: store.wait(machine, key, timeout))

    async def history(self, machine: AnyMachine | str, key: Key) -> list[HistoryEntry]:
        """As `ShardedStore.history`."""
        return await self._there(key, lambda store: store.history(machine, key))

    async def record(self, machine: AnyMachine | str, key: Key) -> MachineRecord:
        """As `ShardedStore.record`."""
        return await self._there(key, lambda store: store.record(machine, key))

    async def explain(self, machine: AnyMachine | str, key: Key) -> Facts:
        """As `ShardedStore.explain`."""
        return await self._there(key, lambda store: store.explain(machine, key))

    async def machines(
        self,
        name: str | None = None,
        *,
        status: str | None = None,
        state: str | None = None,
        limit: int = 100,
    ) -> list[MachineRecord]:
        """As `ShardedStore.machines`, of all shards: the last changed first, at most `limit`."""
        found = [
            each
            for store in self.stores.values()
            for each in await store.machines(name, status=status, state=state, limit=limit)
        ]
        return sorted(found, key=lambda each: each.updated_at, reverse=True)[:limit]

    async def actions(
        self,
        *,
        status: str | None = None,
        machine: str | None = None,
        key: Key | None = None,
        action: str | None = None,
        queue: str | None = None,
        limit: int = 100,
    ) -> list[ActionRecord]:
        """As `ShardedStore.actions`, of all shards: the oldest first, at most `limit`."""
        found = [
            each
            for store in self.stores.values()
            for each in await store.actions(
                status=status, machine=machine, key=key, action=action, queue=queue, limit=limit
            )
        ]
        return sorted(found, key=lambda each: (each.created_at, each.id))[:limit]

    async def action(self, action_id: ActionId) -> ActionRecord:
        """As `ShardedStore.action`; its id does not tell the shard, so each is asked."""
        return await (await self._owner(action_id)).action(action_id)

    # Operating

    async def retry(self, action_ids: Sequence[ActionId]) -> list[ActionId]:
        """As `ShardedStore.retry`, on every shard; with a single id it raises as that does."""
        if len(action_ids) == 1:
            return await (await self._owner(action_ids[0])).retry(action_ids)
        return [each for store in self.stores.values() for each in await store.retry(action_ids)]

    async def cancel(self, machine: AnyMachine | str, key: Key, note: str = "cancelled by hand") -> int:
        """As `ShardedStore.cancel`."""
        return await self._there(key, lambda store: store.cancel(machine, key, note))

    async def cancel_action(self, action_id: ActionId, note: str = "cancelled by hand") -> None:
        """As `ShardedStore.cancel_action`."""
        await (await self._owner(action_id)).cancel_action(action_id, note)

    async def prune(self, retention: Retention, *, live: bool = False, dry_run: bool = False) -> Pruned:
        """As `ShardedStore.prune`, on every shard; the sum of what they did."""
        first, *others = [
            await store.prune(retention, live=live, dry_run=dry_run) for store in self.stores.values()
        ]
        for each in others:
            first = first.plus(each)
        return first

    # Where

    async def _there(
        self,
        key: Key,
        call: Callable[[AsyncPostgresStore], Awaitable[T]],
        session: joined.AsyncTransaction | None = None,
    ) -> T:
        """The call on the shard on which the machine lives. Raises what it raises, of its home if it lives nowhere."""
        text = key_text(key)
        if session is not None:
            return await call(self.stores[await self._joined(text, session)])
        home, *former = self.places.candidates(text)
        try:
            return await call(self.stores[home])
        except MachineNotFound:
            for name in former:
                try:
                    return await call(self.stores[name])
                except MachineNotFound:
                    continue
            raise

    async def _settled(
        self, machine: AnyMachine, key: str, session: joined.AsyncTransaction | None
    ) -> AsyncPostgresStore:
        """Where it lives, if it does; else its home."""
        home, *former = self.places.candidates(key)
        found = home
        for name in former:
            if await self._has(name, machine, key):
                found = name
                break
        if session is not None:
            await self._checked(session, {found}, key)
        return self.stores[found]

    async def _joined(self, key: str, session: joined.AsyncTransaction) -> str:
        """The shard of the caller's transaction, if the key may live there. Raises UnsupportedConnection."""
        return await self._checked(session, set(self.places.candidates(key)), key)

    async def _checked(self, session: joined.AsyncTransaction, names: Collection[str], key: str) -> str:
        info = (await joined.async_connection(session)).info
        for name in sorted(names):
            if await self._server(name) == (info.host, info.port, info.dbname):
                return name
        raise UnsupportedConnection(elsewhere(key, names))

    async def _server(self, name: str) -> Server:
        if name not in self._servers:
            async with self.stores[name]._own.connected("look for the shard") as connection:  # noqa: SLF001 - ours
                info = connection.info
                self._servers[name] = (info.host, info.port, info.dbname)
        return self._servers[name]

    async def _has(self, name: str, machine: AnyMachine, key: str) -> bool:
        try:
            await self.stores[name].record(machine, key)
        except MachineNotFound:
            return False
        return True

    async def _once_more(
        self, machine: Machine[S, E, A], key: Key, event: E
    ) -> Snapshot[S] | Refused | NotFound:
        try:
            return await self._there(key, lambda store: self._one(store, machine, key, event))
        except MachineNotFound as nowhere:
            return nowhere

    @staticmethod
    async def _one(
        store: AsyncPostgresStore, machine: Machine[S, E, A], key: Key, event: E
    ) -> Snapshot[S] | Refused | NotFound:
        return one_of(await store.advance_many(machine, [(key, event)]))

    async def _owner(self, action_id: ActionId) -> AsyncPostgresStore:
        for store in self.stores.values():
            try:
                await store.action(action_id)
            except ActionNotFound:
                continue
            return store
        raise ActionNotFound(str(action_id))
