"""The machines (and their effects) that one process knows, by name and version. Rows are looked up here, never imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from fsm_core.codec import prepare
from fsm_core.effects import Effects
from fsm_core.errors import DefinitionError, DuplicateMachine, UnknownMachine
from fsm_core.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterable

AnyMachine: TypeAlias = Machine[Any, Any, Any]
AnyEffects: TypeAlias = Effects[Any]


class Registry:
    """What a process loads: machines, or effects, which bring their machine.

    Raises DuplicateMachine: two machines of one name and version. DefinitionError: two sets of effects for one machine.
    """

    def __init__(self, entries: Iterable[AnyMachine | AnyEffects] = ()) -> None:
        self._machines: dict[tuple[str, int], AnyMachine] = {}
        self._effects: dict[tuple[str, int], AnyEffects] = {}
        for entry in entries:
            self.add(entry)

    def add(self, entry: AnyMachine | AnyEffects) -> None:
        """Know one more. The same value twice is no error."""
        machine = entry.machine if isinstance(entry, Effects) else entry
        bundled: object = getattr(machine, "bundled", None)
        if entry is machine and isinstance(bundled, Effects):
            entry = bundled  # durable steps bring the effects that run them
        address = machine.name, machine.version
        known = self._machines.get(address)
        if known is not None and known is not machine:
            raise DuplicateMachine(*address)
        if known is None:
            prepare(machine)
            self._machines[address] = machine
        if isinstance(entry, Effects):
            other = self._effects.setdefault(address, entry)
            if other is not entry:
                raise DefinitionError(
                    f"machine {machine.name!r} version {machine.version} has two sets of effects"
                )

    def machine(self, name: str, version: int) -> AnyMachine:
        """The machine of that name and version. Raises UnknownMachine."""
        try:
            return self._machines[name, version]
        except KeyError:
            raise UnknownMachine(name, version, self.names()) from None

    def reader(self, name: str, version: int) -> AnyMachine:
        """The machine that reads rows of `version`: that very version, else the newest whose `since` reaches back to it.

        Raises UnknownMachine: nobody here reads them.
        """
        known = self._machines.get((name, version))
        if known is not None:
            return known
        later = [m for (other, _), m in self._machines.items() if other == name and m.reads(version)]
        if not later:
            raise UnknownMachine(name, version, self.names())
        return max(later, key=lambda machine: machine.version)

    def newest(self, name: str) -> AnyMachine:
        """The newest machine of that name. Raises UnknownMachine."""
        versions = [version for known, version in self._machines if known == name]
        if not versions:
            raise UnknownMachine(name, None, self.names())
        return self._machines[name, max(versions)]

    def effects(self, name: str, version: int) -> AnyEffects | None:
        """The effects of the machine that reads rows of `version`, if this process runs them."""
        try:
            return self._effects.get((name, self.reader(name, version).version))
        except UnknownMachine:
            return None

    def names(self) -> tuple[str, ...]:
        """`name` or `name v2`, sorted, for messages."""
        return tuple(n if v == 1 else f"{n} v{v}" for n, v in sorted(self._machines))

    def known(self) -> dict[str, list[int]]:
        """Name -> the versions whose rows are read here."""
        found: dict[str, set[int]] = {}
        for (name, version), machine in sorted(self._machines.items(), key=lambda item: item[0]):
            found.setdefault(name, set()).update(range(machine.since, version + 1))
        return {name: sorted(versions) for name, versions in found.items()}

    def machines(self) -> tuple[AnyMachine, ...]:
        """All of them, by name and version."""
        return tuple(self._machines[address] for address in sorted(self._machines))

    def all_effects(self) -> tuple[AnyEffects, ...]:
        """Every set of effects."""
        return tuple(self._effects.values())
