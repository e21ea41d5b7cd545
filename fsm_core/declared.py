"""Taking declarations: what a decorator was put on is read, checked against the machine's unions, and filed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, get_origin

from fsm_core.edges import Edge, Entry, StateTimeout, Tables, Upcaster, without_event
from fsm_core.errors import DefinitionError
from fsm_core.signature import Result, Signature, emitted, place, read, result
from fsm_core.types import BUILT_IN, Change, Route, Timeout
from fsm_core.unions import Member, members

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fsm_core.machine import Machine


class Declared:
    """The tables of one machine, and the way into them. Every method raises DefinitionError that names the places."""

    def __init__(self, machine: Machine[Any, Any, Any]) -> None:
        self.tables = Tables()
        self.state_types = {member.cls: member for member in machine.states.values()}
        self.event_keys = {member.key: member for member in machine.events.values()}
        self.action_types = {member.cls: member for member in machine.actions.values()}
        self._machine = machine

    def transition(self, function: Callable[..., Any], table: dict[tuple[type, object], Edge]) -> None:
        """`on` and `otherwise`: all pairs of the signature."""
        fallback = table is self.tables.fallbacks
        signature, where = self._read(function, "fallback" if fallback else "transition", takes=2)
        states = self._states(signature, where)
        events = _known(members(signature.hints[1], where), self.event_keys, "event", where)
        named = self._result(signature, where)
        results = frozenset(member.cls for member in named.states)
        edge = Edge(function, signature.context, results, signature, named, fallback)
        for state in states:
            if state.cls in self._machine.final and not fallback:
                raise DefinitionError(f"{where}: state {state.name} is final; only `otherwise` answers there")
            for event in events:
                if (other := table.get((state.cls, event.key))) is not None:
                    raise DefinitionError(
                        f"{where}: ({state.name}, {event.name}) is taken by {other.signature.place} already"
                    )
        table.update({(state.cls, event.key): edge for state in states for event in events})

    def emitter(self, function: Callable[..., Any], what: str, table: dict[type, Entry]) -> None:
        """`enter` and `restore`: `(state) -> list[A]`, one for each state."""
        signature, where = self._read(function, what, takes=1)
        named = emitted(signature.returns, where)
        _known([m for m in named if m.cls not in BUILT_IN], self.action_types, "action", where)
        if table is self.tables.restores:
            self._check_restore(signature, named, where)
        for state in self._states(signature, where):
            if (other := table.get(state.cls)) is not None:
                raise DefinitionError(
                    f"{where}: state {state.name} has an {what} function already: {other.signature.place}"
                )
        entry = Entry(function, signature.context, signature)
        table.update({state.cls: entry for state in self._states(signature, where)})

    def timeout(self, function: Callable[..., Any], after: Callable[[Any], Any]) -> None:
        """A state timeout: an edge that takes the built-in event."""
        signature, where = self._read(function, "timeout", takes=1)
        states, named = self._states(signature, where), self._result(signature, where)
        results = frozenset(member.cls for member in named.states)
        edge = Edge(partial(without_event, function), signature.context, results, signature, named)
        for state in states:
            if state.cls in self._machine.final:
                raise DefinitionError(f"{where}: state {state.name} is final, and lasts for ever")
            if (other := self.tables.timeouts.get(state.cls)) is not None:
                raise DefinitionError(
                    f"{where}: state {state.name} has a timeout already: {other.signature.place}"
                )
        member = Member(Timeout)
        self._machine.events.setdefault(member.name, member)
        self.event_keys[member.key] = member
        for state in states:
            self.tables.edges[state.cls, member.key] = edge
            self.tables.timeouts[state.cls] = StateTimeout(after, signature)

    def route(self, function: Callable[..., Any]) -> None:
        """Where actions go: one function for each action."""
        signature, where = self._read(function, "route", takes=1, extra=None)
        if signature.returns is not Route:
            raise DefinitionError(f"{where}: the result is Route")
        actions = _known(members(signature.hints[0], where), self.action_types, "action", where)
        for action in actions:
            if (other := self.tables.routes.get(action.cls)) is not None:
                raise DefinitionError(f"{where}: action {action.name} is routed by {place(other)} already")
        self.tables.routes.update({action.cls: function for action in actions})

    def invariant(self, function: Callable[..., Any]) -> None:
        """What holds of a state: any number of functions for each."""
        signature, where = self._read(function, "invariant", takes=1, extra=None)
        if signature.returns not in (None, type(None), bool):
            raise DefinitionError(f"{where}: the result is None (it asserts) or bool")
        for state in self._states(signature, where):
            self.tables.invariants.setdefault(state.cls, []).append(function)

    def projection(self, function: Callable[..., Any]) -> None:
        """What a change does to the application's own tables."""
        signature, where = self._read(function, "project", takes=1, extra=None)
        if signature.hints[0] is not Change and get_origin(signature.hints[0]) is not Change:
            raise DefinitionError(f"{where}: takes a Change[State, Event]")
        self.tables.projections.append(function)

    def upcaster(self, version: int, name: str, function: Callable[..., Any]) -> None:
        """From an old shape to the present one; the result's union says whether of a state, an event or an action."""
        signature, where = self._read(function, "upcast", takes=1, extra=None)
        if not 1 <= version < self._machine.version:
            raise DefinitionError(f"{where}: version {version} is none before {self._machine.version}")
        old = members(signature.hints[0], where)
        if len(old) != 1:
            raise DefinitionError(f"{where}: takes one class, the shape that version {version} wrote")
        role = self._role(members(signature.returns, where), where)
        address = version, role, name
        if (other := self.tables.upcasters.get(address)) is not None:
            raise DefinitionError(
                f"{where}: {role} {name} of version {version} is upcast by {other.signature.place} already"
            )
        self.tables.upcasters[address] = Upcaster(old[0].form or old[0].cls, function, signature)
        self._machine.since = min(self._machine.since, version)

    def _read(
        self, function: Callable[..., Any], what: str, *, takes: int, **extra: type | None
    ) -> tuple[Signature, str]:
        if self._machine.frozen:
            raise DefinitionError(
                f"machine {self._machine.name!r} is in use; declare {what} functions in its own module"
            )
        signature = read(function, what=what, takes=takes, **extra)  # type: ignore[arg-type] # only `extra` comes in it
        return signature, f"machine {self._machine.name!r}: {what} {signature.place}"

    def _states(self, signature: Signature, where: str) -> Sequence[Member]:
        return _known(members(signature.hints[0], where), self.state_types, "state", where)

    def _result(self, signature: Signature, where: str) -> Result:
        named = result(signature.returns, where)
        _known(named.states, self.state_types, "state", where)
        own = [member for member in named.actions or () if member.cls not in BUILT_IN]
        _known(own, self.action_types, "action", where)
        return named

    def _check_restore(self, signature: Signature, named: Sequence[Member], where: str) -> None:
        if signature.context:
            raise DefinitionError(f"{where}: restore is a function of the state alone")
        for member in named:
            if member.cls in BUILT_IN or not self.action_types[member.cls].tracked:
                raise DefinitionError(f"{where}: {member.name} is no tracked action; only these are restored")

    def _role(self, news: Sequence[Member], where: str) -> str:
        roles: dict[str, Mapping[Any, Member]] = {
            "state": self.state_types, "event": self.event_keys, "action": self.action_types
        }  # fmt: skip
        for role, known in roles.items():
            if news and all((member.key if role == "event" else member.cls) in known for member in news):
                return role
        raise DefinitionError(f"{where}: the result is a state, an event or an action of the machine")


def _known(found: Sequence[Member], known: Mapping[Any, Member], role: str, where: str) -> Sequence[Member]:
    for member in found:
        if (member.key if role == "event" else member.cls) not in known:
            raise DefinitionError(f"{where}: {member.name} is no declared {role} of the machine")
    return found
