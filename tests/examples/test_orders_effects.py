"""The order's effects, against the flaky shop over real HTTP."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from examples import orders_effects
from examples.flaky import Server, Shop, flaky
from examples.orders import Charge, Charged, Refund, Refused, Sent, Ship, Tell
from examples.orders_effects import charge, effects, refund, ship, tell, was_sent
from fsm_core import ActionId, Attempt, NotDone, Permanent

Api = Attempt[httpx.AsyncClient]
BAD_CARD, BAD_ADDRESS = "0002", "nowhere"
REFUSED, HUNG_BUT_DONE = 0.0, 0.22


class Fated(Shop):
    """Bad luck as the test says, for one card and one address always."""

    fate: tuple[float, ...] = ()

    def luck(self, *what: object) -> float:
        if len(what) == 1:
            return 0.0 if what[0] in (BAD_CARD, BAD_ADDRESS) else 1.0
        first, *rest = *self.fate, 1.0
        self.fate = tuple(rest[:-1])
        return first


@pytest.fixture
async def shop(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    with flaky(Fated()) as server:
        monkeypatch.setenv("ORDERS_API", server.url)
        yield server


@pytest.fixture
async def attempt(shop: Server) -> AsyncIterator[Api]:
    assert effects.resources is orders_effects.api
    async with orders_effects.api() as client:
        deadline = datetime.now(UTC) + timedelta(seconds=1)
        yield Attempt(ActionId(uuid.uuid4(), 1, 0), 1, deadline, client, "orders", "7")


def fated(shop: Server, *fate: float) -> None:
    assert isinstance(shop.shop, Fated)
    shop.shop.fate = fate


async def test_a_card_is_charged_once_however_often_the_effect_runs(shop: Server, attempt: Api) -> None:
    first, again = [await charge(Charge("4242", 42), attempt) for _ in range(2)]

    assert first == again == Charged("receipt-7")
    assert shop.shop.stats()["charged_twice"] == 0


async def test_a_declined_card_is_an_answer(attempt: Api) -> None:
    assert await charge(Charge(BAD_CARD, 42), attempt) == Refused("the card was declined")


async def test_a_refused_call_raises_what_is_tried_again(shop: Server, attempt: Api) -> None:
    fated(shop, REFUSED)

    with pytest.raises(httpx.HTTPStatusError) as caught:
        await charge(Charge("4242", 42), attempt)

    assert not orders_effects.PATIENT.gives_up(caught.value, attempt=7)
    assert orders_effects.PATIENT.gives_up(caught.value, attempt=8)


async def test_a_charge_whose_answer_was_lost_is_not_repeated(shop: Server, attempt: Api) -> None:
    fated(shop, HUNG_BUT_DONE)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await charge(Charge("4242", 42), attempt)

    assert await charge(Charge("4242", 42), attempt) == Charged("receipt-7")
    assert (shop.shop.stats()["charged"], shop.shop.stats()["charged_twice"]) == (1, 0)


async def test_a_parcel_that_may_be_on_its_way_is_asked_for(shop: Server, attempt: Api) -> None:
    assert isinstance(await was_sent(Ship("1 Main St"), attempt), NotDone)
    fated(shop, HUNG_BUT_DONE)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await ship(Ship("1 Main St"), attempt)

    assert await was_sent(Ship("1 Main St"), attempt) == Sent("parcel-7")
    assert shop.shop.stats()["sent_twice"] == 0


async def test_a_parcel_is_sent(attempt: Api) -> None:
    assert await ship(Ship("1 Main St"), attempt) == Sent("parcel-7")


async def test_an_unknown_address_is_not_tried_again(attempt: Api) -> None:
    with pytest.raises(Permanent, match="422: no such address"):
        await ship(Ship(BAD_ADDRESS), attempt)


async def test_a_refund_gives_back_the_charge(shop: Server, attempt: Api) -> None:
    await charge(Charge("4242", 42), attempt)
    await refund(Refund(), attempt)

    assert shop.shop.stats()["refunded"] == 1


async def test_the_customer_is_told(attempt: Api, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "examples.orders_effects"):
        tell(Tell("your order is shipped"), attempt)

    assert "to the customer of 7: your order is shipped" in caplog.text


def test_every_action_has_an_effect() -> None:
    assert effects.missing() == ()
