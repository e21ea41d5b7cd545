"""The code in the documents on projections and versions does what they say."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from fsm_core import Effects, Machine
from fsm_core.delivery.upcasting import Upcast
from fsm_core.errors import ConstraintViolated
from fsm_core.memory import MemoryStore
from fsm_core.postgres import PostgresStore
from tests.docs.test_readme import ROOT, named_modules, written


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The documents' modules, importable as `shop`."""
    for name in ("database-state", "versions"):
        written(ROOT / "docs" / f"{name}.md", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name == "shop" or name.startswith("shop.")]:
        del sys.modules[name]


def test_every_module_says_which_file_it_is() -> None:
    assert list(named_modules(ROOT / "docs" / "database-state.md")) == [
        "shop/tickets.py",
        "shop/box_office.py",
    ]
    assert list(named_modules(ROOT / "docs" / "versions.md")) == ["shop/billing.py"]


def test_seats_are_held_until_there_are_none(shop: None, engine: Engine) -> None:
    """The rows follow the machines, in the transaction of the caller, and a constraint of theirs refuses an event."""
    tickets, office = (importlib.import_module(f"shop.{name}") for name in ("tickets", "box_office"))
    tickets.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(tickets.shows.insert().values(name="opera", price=40, free=1))
    store = PostgresStore(engine)
    for key in ("t1", "t2"):
        store.start(tickets.ticket, key, tickets.Wanted("opera"))

    assert office.hold(engine, store, "t1", "opera") == "Held"
    assert office.hold(engine, store, "t2", "opera") == "refused: seats_left"
    with pytest.raises(ConstraintViolated, match="seats_left"):
        store.advance(tickets.ticket, "t2", tickets.Hold(40))
    assert rows(engine) == [("t1", "Held", 40), ("t2", "Wanted", None)]
    assert store.get(tickets.ticket, "t2").seq == 0

    store.advance(tickets.ticket, "t1", tickets.Return())
    assert office.hold(engine, store, "t2", "opera") == "Held"
    assert rows(engine) == [("t1", "Returned", None), ("t2", "Held", 40)]


def test_without_tables_the_statements_can_be_looked_at(shop: None) -> None:
    tickets = importlib.import_module("shop.tickets")
    store = MemoryStore()
    store.start(tickets.ticket, "t1", tickets.Wanted("opera"))
    store.advance(tickets.ticket, "t1", tickets.Hold(40))

    said = [str(statement).split(" ", 2)[:2] for statement in store.projected]
    assert said == [["INSERT", "INTO"], ["INSERT", "INTO"], ["UPDATE", "shows"]]


def rows(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        found = connection.execute(text("SELECT id, status, price FROM tickets ORDER BY id"))
        return [tuple(row) for row in found]


@dataclass(frozen=True)
class Charging:
    cents: int


@dataclass(frozen=True)
class Charge:
    cents: int


def test_the_second_version_reads_what_the_first_one_wrote(shop: None) -> None:
    billing = importlib.import_module("shop.billing")
    first = Machine("billing", states=Charging, events=billing.Charged, actions=Charge)

    @first.enter
    def charge(state: Charging) -> list[Charge]:
        return [Charge(state.cents)]

    store, seen = MemoryStore(), list[object]()
    store.start(first, "a", Charging(5))
    effects = Effects(billing.billing)

    def provider(action: Any) -> Any:
        seen.append(action)
        return billing.Charged("r1")

    provider.__annotations__ = {"action": billing.Charge, "return": billing.Charged}
    effects.act(provider)
    now = store.reopen(effects)

    assert now.get(billing.billing, "a").state == billing.Billing(5, "EUR")
    assert now.upcast(billing.billing) == Upcast(looked=1, older=1, written=1)
    now.drain()
    assert seen == [billing.Charge(5, "EUR")]
    assert now.get(billing.billing, "a").state == billing.Done("r1")
