"""The guard: for as long as its block lasts, a machine's tables hold watched functions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from fsm_core.errors import Impure
from fsm_core.purity.told import ROLES, circumstances, given, raised, told
from fsm_core.purity.watch import Watch, watching
from fsm_core.signature import place

if TYPE_CHECKING:
    from fsm_core.edges import Tables
    from fsm_core.purity.twin import Twin
    from fsm_core.registry import AnyMachine


@contextmanager
def guarded(*machines: AnyMachine, twin: Twin | None = None) -> Iterator[None]:
    """Within the block, every function that these machines declare is watched, whoever calls it, in every thread.

    machines: those to watch; those of `twin` are watched too, and each of their decisions is made again in its process.

    What is forbidden raises Impure at its line, before it happens where that is possible. Whatever became of this error
    (a store puts a bug in the transition of a result on record and goes on), the block ends with the first one: raises
    Impure. Also for a function that changes what it was given. Raises ConfigurationError if the second process fails.

    An import passes, also inside a function, with all that the module does as it is loaded. Unseen: C code that calls C
    code (`map(time.time, ...)`, a generator of numpy's), attributes (`sys.argv`), the module's own variables.
    The machine is in use from here on: nothing more can be declared. Of several blocks for one machine the newest judges.
    """
    block = _Block(twin, [])
    with ExitStack() as stack:
        for machine in {*machines, *(() if twin is None else twin.machines)}:
            _begin(machine, block)
            stack.callback(_end, machine, block)
        try:
            yield
        except Exception as error:
            if block.found and error not in block.found:
                raise block.found[0] from error
            raise
    if block.found:
        raise block.found[0]


@dataclass(frozen=True, eq=False)
class _Block:
    """One `with guarded(...)`, and what was found in it."""

    twin: Twin | None
    found: list[Impure]


_lock = threading.Lock()
_guarded: dict[AnyMachine, tuple[dict[str, Any], list[_Block]]] = {}
"""The machines under guard: their own tables, and the blocks that guard them. Blocks of threads may overlap in any order."""


def _begin(machine: AnyMachine, block: _Block) -> None:
    _ = machine.edges  # asking freezes the machine: from here on its tables stay as they are
    with _lock:
        if machine not in _guarded:
            tables = _tables(machine)
            _guarded[machine] = {field.name: getattr(tables, field.name) for field in fields(tables)}, []
        own, blocks = _guarded[machine]
        blocks.append(block)
        _put(machine, own, block)


def _end(machine: AnyMachine, block: _Block) -> None:
    with _lock:
        own, blocks = _guarded[machine]
        blocks.remove(block)
        _put(machine, own, blocks[-1] if blocks else None)
        if not blocks:
            del _guarded[machine]


def _put(machine: AnyMachine, own: dict[str, Any], block: _Block | None) -> None:
    """Give the machine its own tables, watched by a block if there is one."""
    for name, table in own.items():
        watched = table if block is None else _watched(table, _Guard(machine, name, block))
        setattr(_tables(machine), name, watched)


def _tables(machine: AnyMachine) -> Tables:
    return machine._tables  # noqa: SLF001 - `advance` pays nothing for guards: nothing in the core knows of them


def _watched(entry: Any, guard: _Guard) -> Any:
    """A table, or what stands in one, with watched functions in place of its own."""
    if isinstance(entry, dict):
        return {key: _watched(value, guard) for key, value in entry.items()}
    if isinstance(entry, list):
        return [_watched(value, guard) for value in entry]
    if is_dataclass(entry) and not isinstance(entry, type):
        name = "after" if hasattr(entry, "after") else "function"
        where = entry.signature.place  # type: ignore[attr-defined]
        return replace(entry, **{name: _Watched(getattr(entry, name), where, guard)})
    return _Watched(entry, place(entry), guard)


@dataclass(frozen=True)
class _Guard:
    """What the functions of one table are watched with: their machine, and where what is found goes."""

    machine: AnyMachine
    table: str
    block: _Block


class _Watched:
    """A function of the machine, watched. Messages call it by the function's own place."""

    def __init__(self, function: Callable[..., Any], where: str, guard: _Guard) -> None:
        self.__qualname__ = where
        self._function = function
        self._guard = guard

    def __call__(self, *args: Any) -> Any:
        if watching():  # called by a function that is watched already
            return self._function(*args)
        try:
            return self._judged(args)
        except Impure as impure:
            self._guard.block.found.append(impure)
            raise

    def _judged(self, args: tuple[Any, ...]) -> Any:
        where, guard = self.__qualname__, self._guard
        machine, table, twin = guard.machine, guard.table, guard.block.twin
        before, ctx = given(machine, table, args), circumstances(args)
        answer: Any = None
        refusal: Exception | None = None
        try:
            answer = _answer(self._function, where, args)
        except Impure:
            raise
        except Exception as error:  # noqa: BLE001 - it is raised below
            refusal = error
        if given(machine, table, args) != before:
            raise Impure(where, "changes what it was given")
        if twin is not None and table in ROLES:
            here = told(answer) if refusal is None else raised(refusal)
            for again in twin.decide(machine, table, before, ctx):
                if again != here:
                    raise Impure(where, "decides otherwise elsewhere", detail=f"{here} here, {again} there")
        if refusal is not None:
            raise refusal
        return answer


def _answer(function: Callable[..., Any], where: str, args: tuple[Any, ...]) -> Any:
    watch = Watch(where)
    answer = watch.run(function, *args)
    if type(answer) is tuple and len(answer) == 2 and isinstance(answer[1], Iterator):  # noqa: PLR2004 - state, actions
        return answer[0], watch.run(list, answer[1])  # a generator decides while it is read
    return answer
