"""A fault that is done while nothing is in flight is no hit, whatever it broke: a run of such faults must be invalid."""

from pathlib import Path

import pytest

from chaos.faults import Faults, World
from chaos.mutants import small
from chaos.plan import Fault

NAMES = ("kill_broker", "stop_postgres", "postgres_away", "black_hole", "reset", "stop_relay", "kill_relay")


class Servers:
    """Postgres, broker, processes and proxy at once, with so much in flight. broken: what was done to them."""

    def __init__(self, in_flight: int) -> None:
        self.in_flight, self.open, self.swallowed = in_flight, 3, 0
        self.broken = 0

    def connect(self, _database: str = "") -> "Servers":
        return self

    def execute(self, _query: bytes) -> "Servers":
        return self

    def fetchall(self) -> list[tuple[int]]:
        return [(self.in_flight,)]

    def victims(self, _kind: str) -> list[str]:
        return ["somebody"]

    def stop(self, _child: str, _seconds: float) -> None:
        self.broken += 1

    def kill(self, *_child: str) -> None:
        self.broken += 1

    immediate = black_hole = cut = kill

    def tend(self) -> None:
        pass

    start = heal = close = tend


def faults(in_flight: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Faults, Servers]:
    servers = Servers(in_flight)
    monkeypatch.setattr(Faults, "_wait", lambda *_: None)
    plan = small("faults", 1, 1, 1.0, {name: Fault(1, 1) for name in NAMES})
    world = World(plan, Path(), "x", servers, servers, servers, [servers])  # type: ignore[arg-type]
    return Faults(world), servers


@pytest.mark.parametrize("name", NAMES)
def test_what_is_done_with_nothing_in_flight_hits_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done, servers = faults(0, monkeypatch)

    assert getattr(done, f"_{name}")(last=True) is False
    assert servers.broken > 0


@pytest.mark.parametrize("name", NAMES)
def test_what_is_done_with_something_in_flight_hits_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done, _ = faults(2, monkeypatch)

    assert getattr(done, f"_{name}")(last=False) is True


def test_a_black_hole_into_which_nothing_fell_has_hit_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    done, _ = faults(2, monkeypatch)
    done.hits["black_hole"] += done._black_hole(last=False) or 0
    ((_, heal),) = done._later

    heal()

    assert done.hits["black_hole"] == 0
    assert not done.over, "another one is to come"
