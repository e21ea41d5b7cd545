"""By which of several stores a verb is done: flows that are written once, for two worlds.

A flow awaits what its stores answer, and nothing else; synchronous ones have answered when they return, so that their flows never wait.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4

from fsm_core.delivery.retention import Pruned
from fsm_core.errors import ActionNotFound, MachineNotFound, NotFound, UnsupportedConnection
from fsm_core.postgres.sharded.placing import elsewhere, places
from fsm_core.types import Key, key_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
    from inspect import BoundArguments

    from fsm_core.postgres.sharded.placing import Places, Server
    from fsm_core.records import ActionRecord, MachineRecord
    from fsm_core.registry import AnyMachine

D = TypeVar("D")
T = TypeVar("T")


class Shards(Generic[D]):
    """What both worlds' stores over several databases have besides their verbs."""

    def __init__(self, stores: Mapping[str, D], *, former: Sequence[Collection[str]] = ()) -> None:
        self.stores = dict(stores)
        self.places = places(self.stores, former)

    def home(self, key: Key) -> D:
        """The store on which a machine of this key is born."""
        return self.stores[self.places.home(key_text(key))]


class Asked(Generic[T]):
    """A call, of which it is not known yet by which store it is done: the verb, and its arguments by name."""

    def __init__(self, verb: Callable[..., Awaitable[T]], given: BoundArguments) -> None:
        given.apply_defaults()
        self._verb, self._given = verb, given
        self.named = given.arguments

    def of(self, store: object, **instead: object) -> Awaitable[T]:
        """What `store` answers; `instead` of what the caller gave."""
        self.named.update(self=store, **instead)
        return self._verb(*self._given.args, **self._given.kwargs)


class Router(ABC, Generic[D]):
    """The ways of a call to one of `stores`, or to each."""

    def __init__(self, stores: Mapping[str, D], places: Places) -> None:
        self.stores = stores
        self.places = places
        self._servers: dict[str, Server] = {}

    @abstractmethod
    async def _record(self, store: D, machine: AnyMachine | str, key: str) -> object:
        """What the store says of a machine. Raises MachineNotFound."""

    @abstractmethod
    async def _server_of(self, store: D) -> Server:
        """The database of a store."""

    @abstractmethod
    async def _server_under(self, session: Any) -> Server:
        """The database of the caller's transaction. Raises UnsupportedConnection: it is none."""

    async def there(self, asked: Asked[T]) -> T:
        """On the shard on which the machine lives. Raises what that raises, or its home if it lives nowhere."""
        key, session = key_text(asked.named["key"]), asked.named.get("session")
        may = self.places.candidates(key)
        if session is None:
            return await self._first(may, asked, MachineNotFound)
        here = await self._joined(may, key, session)
        try:
            return await self._first(here, asked, MachineNotFound)
        except MachineNotFound:
            await self._sought(asked.named["machine"], key, here)
            raise

    async def settled(self, asked: Asked[T]) -> T:
        """Where it lives already, if it does; else at its home, also if it has no name yet."""
        named = asked.named
        key = str(uuid4()) if named["key"] is None else key_text(named["key"])
        home, *former = self.places.candidates(key)
        found = await self._having(former, named["machine"], key) or home
        if named["session"] is not None:
            await self._joined([found], key, named["session"])
        return await asked.of(self.stores[found], key=key)

    async def split(self, asked: Asked[list[T]]) -> list[T]:
        """Each at its place, in as few calls as there are shards; the answers come in the order given."""
        events: list[tuple[Key, object]] = list(asked.named["events"])
        keys = [key_text(key) for key, _ in events]
        may = [self.places.candidates(key) for key in keys]
        if (session := asked.named["session"]) is not None:
            each = [await self._joined(names, key, session) for names, key in zip(may, keys, strict=True)]
            try:
                return await asked.of(self.stores[each[0][0]]) if each else []
            except MachineNotFound as missing:
                await self._sought(asked.named["machine"], missing.key, each[0])
                raise
        answers: dict[int, T] = {}
        left = list(range(len(events)))
        for nth in range(max(map(len, may), default=0)):
            groups: dict[str, list[int]] = {}
            for at in left:
                if nth < len(may[at]):
                    groups.setdefault(may[at][nth], []).append(at)
            for name, ats in groups.items():
                found = await asked.of(self.stores[name], events=[events[at] for at in ats])
                # Where the last place does not have it either, what its home said stands.
                answers |= {at: a for at, a in zip(ats, found, strict=True) if not nth or not _missing(a)}
            left = [at for at in left if _missing(answers[at])]
        return [answers[at] for at in range(len(events))]

    async def owner(self, asked: Asked[T]) -> T:
        """On the shard that has the action: an id does not tell which, so each is asked."""
        return await self._first(self.stores, asked, ActionNotFound)

    async def owners(self, asked: Asked[list[T]]) -> list[T]:
        """The same for several ids; a single one's refusal is raised."""
        if len(asked.named["action_ids"]) == 1:
            return await self.owner(asked)
        return [each for answer in await self._all(asked) for each in answer]

    async def machines_of_all(self, asked: Asked[list[MachineRecord]]) -> list[MachineRecord]:
        """Of all shards: the last changed first, at most `limit`."""
        found = [each for answer in await self._all(asked) for each in answer]
        return sorted(found, key=lambda each: each.updated_at, reverse=True)[: asked.named["limit"]]

    async def actions_of_all(self, asked: Asked[list[ActionRecord]]) -> list[ActionRecord]:
        """Of all shards: the oldest first, at most `limit`."""
        found = [each for answer in await self._all(asked) for each in answer]
        return sorted(found, key=lambda each: (each.created_at, each.id))[: asked.named["limit"]]

    async def sum_of_all(self, asked: Asked[Pruned]) -> Pruned:
        """On every shard, one after another; what they did together."""
        done = Pruned()
        for each in await self._all(asked):
            done = done.plus(each)
        return done

    async def _all(self, asked: Asked[T]) -> list[T]:
        return [await asked.of(store) for store in self.stores.values()]

    async def _first(self, names: Iterable[str], asked: Asked[T], missing: type[NotFound]) -> T:
        """What the first one answers that has it. Raises what the very first one raised."""
        nowhere: NotFound | None = None
        for name in names:
            try:
                return await asked.of(self.stores[name])
            except missing as here:
                nowhere = nowhere or here
        assert nowhere is not None  # noqa: S101 - there is a shard at least
        raise nowhere

    async def _having(self, names: Iterable[str], machine: AnyMachine | str, key: str) -> str | None:
        """The first that has the machine, be it unborn."""
        for name in names:
            try:
                await self._record(self.stores[name], machine, key)
            except MachineNotFound:
                continue
            return name
        return None

    async def _sought(self, machine: AnyMachine | str, key: str, here: Collection[str]) -> None:
        """Of a machine that is not on `here`. Raises UnsupportedConnection: it lives on another shard."""
        others = [name for name in self.places.candidates(key) if name not in here]
        if found := await self._having(others, machine, key):
            raise UnsupportedConnection(elsewhere(key, [found])) from None

    async def _joined(self, names: Sequence[str], key: str, session: object) -> list[str]:
        """Those of the shards that the caller's transaction is of. Raises UnsupportedConnection: of none."""
        server = await self._server_under(session)
        here = [name for name in names if await self._server(name) == server]
        if not here:
            # A server of the same name may have moved since it was asked.
            self._servers.clear()
            here = [name for name in names if await self._server(name) == server]
        if not here:
            raise UnsupportedConnection(elsewhere(key, names))
        return here

    async def _server(self, name: str) -> Server:
        if name not in self._servers:
            self._servers[name] = await self._server_of(self.stores[name])
        return self._servers[name]


def _missing(answer: object) -> bool:
    return isinstance(answer, MachineNotFound)
