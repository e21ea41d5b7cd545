"""The synchronous store over several databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from fsm_core.errors import ActionNotFound, MachineNotFound, UnsupportedConnection
from fsm_core.postgres import joined
from fsm_core.postgres.sharded.placing import elsewhere, moved, one_of, places
from fsm_core.types import Key, key_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime, timedelta

    from fsm_core.delivery.retention import Pruned, Retention
    from fsm_core.delivery.waiters import Span
    from fsm_core.errors import NotFound, Refused
    from fsm_core.explain import Facts
    from fsm_core.machine import Machine
    from fsm_core.postgres.sharded.placing import Server
    from fsm_core.postgres.sync.store import PostgresStore
    from fsm_core.records import ActionRecord, HistoryEntry, MachineRecord, Receipt, Snapshot
    from fsm_core.registry import AnyMachine
    from fsm_core.types import ActionId

S = TypeVar("S")
E = TypeVar("E")
A = TypeVar("A")
T = TypeVar("T")


class ShardedStore:
    """The verbs of `PostgresStore`, over several of them; each machine lives whole on one, which its key tells (`Places`).

    stores: by the name of their shard, which is never changed: it is what places keys. former: the sets of names that there were
    before, the latest first, for as long as machines live that were placed by them. What concerns no single machine (limits, upcast,
    fsck, partitions) is asked of each of `stores`. One relay and its workers serve one database.

    Raises ConfigurationError: no shard, or a former one that is not among them.
    """

    def __init__(
        self, stores: Mapping[str, PostgresStore], *, former: Sequence[Collection[str]] = ()
    ) -> None:
        self.stores = dict(stores)
        self.places = places(self.stores, former)
        self._servers: dict[str, Server] = {}

    def home(self, key: Key) -> PostgresStore:
        """The store on which a machine of this key is born."""
        return self.stores[self.places.home(key_text(key))]

    # Deciding

    def start(
        self,
        machine: Machine[S, E, A],
        key: Key | None = None,
        state: S | None = None,
        *,
        partition_key: str | None = None,
        priority: int | None = None,
        at: datetime | None = None,
        session: joined.SyncTransaction | None = None,
    ) -> Snapshot[S]:
        """As `PostgresStore.start`; where an earlier set of shards had placed it, it is found and not started again.

        A lane (`partition_key`) is single on each shard, not over all of them.
        """
        name = str(uuid4()) if key is None else key_text(key)
        store = self._settled(machine, name, session)
        return store.start(
            machine, name, state, partition_key=partition_key, priority=priority, at=at, session=session
        )

    def advance(
        self,
        machine: Machine[S, E, A],
        key: Key,
        event: E,
        *,
        dedup_key: str | None = None,
        expected_seq: int | None = None,
        session: joined.SyncTransaction | None = None,
    ) -> Snapshot[S]:
        """As `PostgresStore.advance`. session: of the machine's own shard; raises UnsupportedConnection for another's."""
        return self._there(
            key,
            lambda store: store.advance(
                machine, key, event, dedup_key=dedup_key, expected_seq=expected_seq, session=session
            ),
            session,
        )

    def advance_many(
        self,
        machine: Machine[S, E, A],
        events: Sequence[tuple[Key, E]],
        *,
        session: joined.SyncTransaction | None = None,
    ) -> list[Snapshot[S] | Refused | NotFound]:
        """As `PostgresStore.advance_many`, shard by shard; the answers come in the order of `events`.

        With `session` all machines must live on its shard: raises UnsupportedConnection otherwise, and nothing changed.
        """
        if session is not None:
            names = {self._joined(key_text(key), session) for key, _ in events}
            return self.stores[names.pop()].advance_many(machine, events, session=session) if names else []
        answers: dict[int, Snapshot[S] | Refused | NotFound] = {}
        for name, positions in self.places.split([key_text(key) for key, _ in events]).items():
            found = self.stores[name].advance_many(machine, [events[at] for at in positions])
            answers.update(zip(positions, found, strict=True))
        for position in moved(self.places, [key_text(key) for key, _ in events], answers):
            answers[position] = self._once_more(machine, *events[position])
        return [answers[position] for position in range(len(events))]

    def signal(
        self,
        machine: Machine[S, E, A],
        key: Key,
        event: E,
        *,
        dedup_key: str | None = None,
        ttl: timedelta | None = None,
        session: joined.SyncTransaction | None = None,
    ) -> Receipt:
        """As `PostgresStore.signal`."""
        store = self._settled(machine, key_text(key), session)
        return store.signal(machine, key, event, dedup_key=dedup_key, ttl=ttl, session=session)

    def signal_or_start(
        self,
        machine: Machine[S, E, A],
        key: Key,
        event: E,
        state: S | None = None,
        *,
        dedup_key: str | None = None,
        session: joined.SyncTransaction | None = None,
    ) -> Receipt:
        """As `PostgresStore.signal_or_start`."""
        store = self._settled(machine, key_text(key), session)
        return store.signal_or_start(machine, key, event, state, dedup_key=dedup_key, session=session)

    # Looking

    def get(self, machine: Machine[S, E, A], key: Key) -> Snapshot[S]:
        """As `PostgresStore.get`."""
        return self._there(key, lambda store: store.get(machine, key))

    def wait(self, machine: Machine[S, E, A], key: Key, timeout: Span | None = None) -> Snapshot[S]:
        """As `PostgresStore.wait`."""
        return self._there(key, lambda store: store.wait(machine, key, timeout))

    def history(self, machine: AnyMachine | str, key: Key) -> list[HistoryEntry]:
        """As `PostgresStore.history`."""
        return self._there(key, lambda store: store.history(machine, key))

    def record(self, machine: AnyMachine | str, key: Key) -> MachineRecord:
        """As `PostgresStore.record`."""
        return self._there(key, lambda store: store.record(machine, key))

    def explain(self, machine: AnyMachine | str, key: Key) -> Facts:
        """As `PostgresStore.explain`."""
        return self._there(key, lambda store: store.explain(machine, key))

    def machines(
        self,
        name: str | None = None,
        *,
        status: str | None = None,
        state: str | None = None,
        limit: int = 100,
    ) -> list[MachineRecord]:
        """As `PostgresStore.machines`, of all shards: the last changed first, at most `limit`."""
        found = [
            each
            for store in self.stores.values()
            for each in store.machines(name, status=status, state=state, limit=limit)
        ]
        return sorted(found, key=lambda each: each.updated_at, reverse=True)[:limit]

    def actions(
        self,
        *,
        status: str | None = None,
        machine: str | None = None,
        key: Key | None = None,
        action: str | None = None,
        queue: str | None = None,
        limit: int = 100,
    ) -> list[ActionRecord]:
        """As `PostgresStore.actions`, of all shards: the oldest first, at most `limit`."""
        found = [
            each
            for store in self.stores.values()
            for each in store.actions(
                status=status, machine=machine, key=key, action=action, queue=queue, limit=limit
            )
        ]
        return sorted(found, key=lambda each: (each.created_at, each.id))[:limit]

    def action(self, action_id: ActionId) -> ActionRecord:
        """As `PostgresStore.action`; its id does not tell the shard, so each is asked."""
        return self._owner(action_id).action(action_id)

    # Operating

    def retry(self, action_ids: Sequence[ActionId]) -> list[ActionId]:
        """As `PostgresStore.retry`, on every shard; with a single id it raises as that does."""
        if len(action_ids) == 1:
            return self._owner(action_ids[0]).retry(action_ids)
        return [each for store in self.stores.values() for each in store.retry(action_ids)]

    def cancel(self, machine: AnyMachine | str, key: Key, note: str = "cancelled by hand") -> int:
        """As `PostgresStore.cancel`."""
        return self._there(key, lambda store: store.cancel(machine, key, note))

    def cancel_action(self, action_id: ActionId, note: str = "cancelled by hand") -> None:
        """As `PostgresStore.cancel_action`."""
        self._owner(action_id).cancel_action(action_id, note)

    def prune(self, retention: Retention, *, live: bool = False, dry_run: bool = False) -> Pruned:
        """As `PostgresStore.prune`, on every shard; the sum of what they did."""
        first, *others = (
            store.prune(retention, live=live, dry_run=dry_run) for store in self.stores.values()
        )
        for each in others:
            first = first.plus(each)
        return first

    # Where

    def _there(
        self, key: Key, call: Callable[[PostgresStore], T], session: joined.SyncTransaction | None = None
    ) -> T:
        """The call on the shard on which the machine lives. Raises what it raises, of its home if it lives nowhere."""
        text = key_text(key)
        if session is not None:
            return call(self.stores[self._joined(text, session)])
        home, *former = self.places.candidates(text)
        try:
            return call(self.stores[home])
        except MachineNotFound:
            for name in former:
                try:
                    return call(self.stores[name])
                except MachineNotFound:
                    continue
            raise

    def _settled(
        self, machine: AnyMachine, key: str, session: joined.SyncTransaction | None
    ) -> PostgresStore:
        """Where it lives, if it does; else its home."""
        home, *former = self.places.candidates(key)
        found = next((name for name in former if self._has(name, machine, key)), home)
        if session is not None:
            self._checked(session, {found}, key)
        return self.stores[found]

    def _joined(self, key: str, session: joined.SyncTransaction) -> str:
        """The shard of the caller's transaction, if the key may live there. Raises UnsupportedConnection."""
        return self._checked(session, set(self.places.candidates(key)), key)

    def _checked(self, session: joined.SyncTransaction, names: Collection[str], key: str) -> str:
        info = joined.connection(session).info
        for name in sorted(names):
            if self._server(name) == (info.host, info.port, info.dbname):
                return name
        raise UnsupportedConnection(elsewhere(key, names))

    def _server(self, name: str) -> Server:
        if name not in self._servers:
            with self.stores[name]._own.connected("look for the shard") as connection:  # noqa: SLF001 - ours
                info = connection.info
                self._servers[name] = (info.host, info.port, info.dbname)
        return self._servers[name]

    def _has(self, name: str, machine: AnyMachine, key: str) -> bool:
        try:
            self.stores[name].record(machine, key)
        except MachineNotFound:
            return False
        return True

    def _once_more(self, machine: Machine[S, E, A], key: Key, event: E) -> Snapshot[S] | Refused | NotFound:
        try:
            return self._there(key, lambda store: one_of(store.advance_many(machine, [(key, event)])))
        except MachineNotFound as nowhere:
            return nowhere

    def _owner(self, action_id: ActionId) -> PostgresStore:
        for store in self.stores.values():
            try:
                store.action(action_id)
            except ActionNotFound:
                continue
            return store
        raise ActionNotFound(str(action_id))
