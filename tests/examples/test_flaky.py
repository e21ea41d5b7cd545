"""The flaky shop: its luck is bad and always the same, and its books tell what was done twice."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from examples.flaky import MOST_BAD_LUCK, Server, Shop, flaky

ROOT = Path(__file__).parents[2]
CHARGE = {"order": "7", "card": "4242", "total": 42}
LUCKY, REFUSED, HUNG, HUNG_BUT_DONE = 0.9, 0.0, 0.18, 0.22


class Fated(Shop):
    """A shop whose luck a test decides: in this order, and then good."""

    def __init__(self, *fate: float) -> None:
        super().__init__()
        self.fate = list(fate)

    def luck(self, *what: object) -> float:
        return self.fate.pop(0) if self.fate and len(what) == 3 else LUCKY


@pytest.fixture
def server() -> Iterator[Server]:
    with flaky(Fated()) as server:
        yield server


def outcomes(seed: int) -> list[object]:
    shop = Shop(seed)
    return [
        shop.post("/charges", {**CHARGE, "order": str(n % 20), "card": str(n)}, f"key-{n}")
        for n in range(100)
    ]


def test_the_same_seed_brings_the_same_luck() -> None:
    assert outcomes(1) == outcomes(1)
    assert outcomes(1) != outcomes(2)


def test_luck_is_bad_at_times() -> None:
    statuses = {answer[0] if isinstance(answer, tuple) else answer for answer in outcomes(1)}

    assert statuses == {201, 402, 503, None}


def test_nobody_has_bad_luck_for_ever() -> None:
    shop = Fated(*[REFUSED] * 100)

    statuses = [shop.post("/charges", CHARGE, "key") for _ in range(MOST_BAD_LUCK + 1)]

    assert [answer and answer[0] for answer in statuses] == [503] * MOST_BAD_LUCK + [201]


def test_a_key_charges_once_and_gets_the_same_answer() -> None:
    shop = Fated()

    assert (
        shop.post("/charges", CHARGE, "key")
        == shop.post("/charges", CHARGE, "key")
        == (201, {"receipt": "receipt-7"})
    )
    assert (shop.stats()["charged"], shop.stats()["charged_twice"]) == (1, 0)


def test_another_key_charges_again_and_is_found_out() -> None:
    shop = Fated()
    for key in ("key", "another key"):
        shop.post("/charges", CHARGE, key)

    assert (shop.stats()["charged"], shop.stats()["charged_twice"]) == (1, 1)


def test_a_hung_call_is_done_or_not() -> None:
    shop = Fated(HUNG, HUNG_BUT_DONE)

    assert shop.post("/charges", CHARGE, "key") is None
    assert shop.stats()["charged"] == 0
    assert shop.post("/charges", CHARGE, "key") is None
    assert shop.stats()["charged"] == 1


def test_a_second_parcel_is_found_out() -> None:
    shop = Fated()
    for _ in range(2):
        shop.post("/parcels", {"order": "7", "address": "1 Main St"}, "key")

    assert (shop.stats()["sent"], shop.stats()["sent_twice"]) == (1, 1)


def test_only_what_was_charged_is_refunded() -> None:
    shop = Fated()
    shop.post("/charges", CHARGE, "key")
    for order in ("7", "8"):
        shop.post("/refunds", {"order": order}, "key")

    assert shop.stats()["refunded"] == 1


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("/nowhere", '{"order": "7"}', "key"),
        ("/charges", "no JSON", "key"),
        ("/charges", "[]", "key"),
        ("/charges", '{"order": "7"}', "key"),
        ("/charges", '{"order": "7", "card": "4242"}', ""),
    ],
)
def test_a_wrong_call_is_refused(server: Server, path: str, body: str, key: str) -> None:
    answer = httpx.post(server.url + path, content=body, headers={"Idempotency-Key": key})

    assert answer.status_code == 400
    assert server.shop.stats()["charged"] == 0


def test_a_caller_who_goes_away_does_no_harm() -> None:
    with flaky(Fated(HUNG)) as server:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.url}/charges", json=CHARGE, timeout=0.05)

        assert httpx.get(f"{server.url}/stats").json()["hung"] == 1


def test_by_hand_it_prints_its_url() -> None:
    command = [sys.executable, "-m", "examples.flaky", "--seed", "2"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()

        assert httpx.get(f"{url}/stats").json()["charged"] == 0
        assert httpx.get(f"{url}/parcels/7").status_code == 404

        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
