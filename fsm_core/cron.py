"""Recurring starts: a machine that waits for its next tick and bears another one at each. No schedule beside the machines.

What a tick does is one event of the schedule's log, so each tick starts exactly one machine, whoever delivers its timer,
and `fsm history` shows them all. Downtime is made up for by the timer that was due meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import dropwhile
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fsm_core.context import Context  # noqa: TC001 - the transitions below are read at run time
from fsm_core.errors import DefinitionError
from fsm_core.machine import Machine
from fsm_core.types import At, Cancel, Failed, Internal, Spawn, To

if TYPE_CHECKING:
    from collections.abc import Iterator

S = TypeVar("S")

Missed = Literal["last", "all"]

MOST_MISSED = 500
"""How many missed ticks one event makes up for; the rest follow in the next."""

TICK = "tick"
"""The name of the schedule's timer."""


@dataclass(frozen=True)
class Scheduled:
    """Waits for its tick at `next`; None: the expression has no more."""

    cron: str
    zone: str
    next: datetime | None


@dataclass(frozen=True)
class Paused:
    """Starts nothing until `Resume`."""

    cron: str
    zone: str


@dataclass(frozen=True)
class Tick(Internal):
    """The timer's."""


@dataclass(frozen=True)
class Pause:
    """Start nothing from now on."""


@dataclass(frozen=True)
class Resume:
    """Go on, from the next tick; what was missed meanwhile stays missed."""


@dataclass(frozen=True)
class Reschedule:
    """Another expression, from now on. A worker sends it when the schedule in its code has changed."""

    cron: str
    zone: str


class Cron(Machine[Scheduled | Paused, Tick | Pause | Resume | Reschedule | Failed[Spawn], Any]):
    """A schedule as a machine: at each tick of `cron` (five fields, as Debian's cron reads them) it starts `machine`.

    name: the schedule's, and the key of its one instance. state: what to start with (None: the machine's `initial`); keys are
    `<name>/<tick in UTC>`. zone: in which the expression is read. missed: what becomes of ticks while nothing ran: the last one
    is started, or all are. It is registered as any machine; a worker that starts sees to it that the instance is there.

    Raises DefinitionError: no expression, no time zone, no initial state, no cronsim (`fsm-core[cron]`).
    """

    def __init__(
        self,
        name: str,
        cron: str,
        machine: Machine[S, Any, Any],
        state: S | None = None,
        *,
        zone: str = "UTC",
        missed: Missed = "last",
        queue: str = "default",
    ) -> None:
        if state is None and machine.initial is None:
            raise DefinitionError(f"cron {name!r}: machine {machine.name!r} has no initial=; give a state")
        try:
            first = next(ticks(cron, zone, datetime.min.replace(year=2000, tzinfo=UTC)), None)
        except ModuleNotFoundError as error:
            raise DefinitionError(
                f"cron {name!r} needs {error.name}: pip install 'fsm-core[cron]'"
            ) from error
        except ValueError as error:
            raise DefinitionError(f"cron {name!r}: {error}") from error
        if first is None:
            raise DefinitionError(f"cron {name!r}: {cron!r} never comes")
        self.cron, self.zone = cron, zone
        super().__init__(
            name,
            states=Scheduled | Paused,
            events=Tick | Pause | Resume | Reschedule | Failed[Spawn],
            initial=Scheduled(cron, zone, None),
            queue=queue,
            unhandled="ignore",
            accept={"waits-for-ever": "a pause lasts until it is ended by hand"},
        )
        self._declare(machine, machine.initial if state is None else state, missed)

    def scheduled(self, after: datetime) -> Scheduled:
        """The state to start with after that time (aware): it knows its first tick, and so which ones were missed."""
        return Scheduled(self.cron, self.zone, next(ticks(self.cron, self.zone, after), None))

    def _declare(self, machine: Machine[Any, Any, Any], state: object, missed: Missed) -> None:
        name = self.name

        def armed(cron: str, zone: str, after: datetime) -> tuple[Scheduled, list[At[Tick]]]:
            coming = next(ticks(cron, zone, after), None)
            timers = [] if coming is None else [At(coming, Tick(), TICK)]
            return Scheduled(cron, zone, coming), timers

        @self.enter
        def begin(state: Scheduled, ctx: Context) -> list[At[Tick]]:
            if state.next is not None:
                return [At(state.next, Tick(), TICK)]
            return armed(state.cron, state.zone, ctx.now)[1]

        @self.on
        def tick(before: Scheduled, _event: Tick, ctx: Context) -> To[Scheduled, Spawn | At[Tick]]:
            due = list(_due(before, ctx.now))
            chosen = due if missed == "all" else due[-1:]
            upto = due[-1] if missed == "all" else max(ctx.now, due[-1])
            after, timers = armed(before.cron, before.zone, upto)
            born = [
                Spawn(machine, f"{name}/{at.astimezone(UTC):%Y-%m-%dT%H:%MZ}", state, detached=True)
                for at in chosen
            ]
            return after, [*born, *timers]

        @self.on
        def there_already(before: Scheduled | Paused, _event: Failed[Spawn]) -> Scheduled | Paused:
            return before  # somebody started that one by hand; the tick's own row says so

        @self.on
        def pause(before: Scheduled, _event: Pause) -> To[Paused, Cancel]:
            return Paused(before.cron, before.zone), [Cancel(TICK)]

        @self.on
        def resume(before: Paused, _event: Resume, ctx: Context) -> Scheduled:
            return armed(before.cron, before.zone, ctx.now)[0]

        @self.on
        def reschedule(_before: Scheduled, event: Reschedule, ctx: Context) -> To[Scheduled, At[Tick]]:
            return armed(event.cron, event.zone, ctx.now)

        @self.on
        def reschedule_later(_before: Paused, event: Reschedule) -> Paused:
            return Paused(event.cron, event.zone)


def ticks(cron: str, zone: str, after: datetime) -> Iterator[datetime]:
    """The ticks of an expression after a time, in its zone, aware. Raises ValueError: no expression, no time zone."""
    from cronsim import CronSim, CronSimError

    try:
        found = CronSim(cron, after.astimezone(ZoneInfo(zone)))
    except CronSimError as error:
        raise ValueError(f"{cron!r} is no cron expression: {error}") from error
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"{zone!r} is no time zone") from error
    # In an hour that comes twice cronsim begins anew from the first one: its tick may lie before `after`, and would be due for ever.
    past = after.astimezone(UTC)
    return dropwhile(lambda tick: tick.astimezone(UTC) <= past, found)


def _latest(cron: str, zone: str, now: datetime) -> datetime:
    """The tick that has just come, where nobody has written down which one is waited for: at the birth."""
    from cronsim import CronSim

    return next(CronSim(cron, (now + timedelta(seconds=1)).astimezone(ZoneInfo(zone)), reverse=True))


def _due(state: Scheduled, now: datetime) -> Iterator[datetime]:
    """The ticks from the one that was waited for up to now, at most so many; always one, if the clock lags behind it."""
    first = state.next or _latest(state.cron, state.zone, now)
    yield first
    for count, tick in enumerate(ticks(state.cron, state.zone, first)):
        if tick > now or count + 2 > MOST_MISSED:
            return
        yield tick
