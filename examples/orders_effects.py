"""What an order does to the world: HTTP calls to a payment provider and a carrier, both at ORDERS_API.

Either may refuse a call or never answer it. The provider knows idempotency keys, so charging again is safe. The carrier
knows none: whether a parcel was sent is asked by the probe, before another one is. `examples/flaky.py` plays them both.
"""

import logging
import os
from typing import Any

import httpx
from tenacity import wait_random_exponential

from examples.orders import Charge, Charged, Refund, Refused, Sent, Ship, Tell, orders
from fsm_core import Attempt, Effects, NotDone, Permanent, Retry

log = logging.getLogger(__name__)


def api() -> httpx.AsyncClient:
    """One client for each worker process. It waits as long as the effect may: the timeout is the effect's."""
    return httpx.AsyncClient(base_url=os.environ["ORDERS_API"], timeout=None)


effects = Effects(orders, resources=api)

# Short waits, for the demo. A real provider is given minutes: wait_random_exponential(max=300).
PATIENT = Retry(max_attempts=8, wait=wait_random_exponential(multiplier=0.2, max=1))
TIMEOUT = 1.0


@effects.act(retry=PATIENT, timeout=TIMEOUT)
async def charge(action: Charge, attempt: Attempt[httpx.AsyncClient]) -> Charged | Refused:
    body = {"order": attempt.key, "card": action.card, "total": action.total}
    answer = await attempt.resources.post("/charges", json=body, headers=key_of(attempt))
    if answer.status_code == httpx.codes.PAYMENT_REQUIRED:
        return Refused(answer.json()["reason"])  # an answer, not an error: the order goes on to Declined
    return Charged(good(answer)["receipt"])


@effects.act(retry=PATIENT, timeout=TIMEOUT)
async def ship(action: Ship, attempt: Attempt[httpx.AsyncClient]) -> Sent:
    body = {"order": attempt.key, "address": action.address}
    return Sent(good(await attempt.resources.post("/parcels", json=body))["parcel"])


@effects.probe
async def was_sent(_action: Ship, attempt: Attempt[httpx.AsyncClient]) -> Sent | NotDone:
    answer = await attempt.resources.get(f"/parcels/{attempt.key}")
    return NotDone() if answer.status_code == httpx.codes.NOT_FOUND else Sent(good(answer)["parcel"])


@effects.act(retry=PATIENT, timeout=TIMEOUT)
async def refund(_action: Refund, attempt: Attempt[httpx.AsyncClient]) -> None:
    good(await attempt.resources.post("/refunds", json={"order": attempt.key}, headers=key_of(attempt)))


@effects.act
def tell(action: Tell, attempt: Attempt[httpx.AsyncClient]) -> None:
    log.info("to the customer of %s: %s", attempt.key, action.message)


def key_of(attempt: Attempt[Any]) -> dict[str, str]:
    """The header by which the provider knows a call that it has had before."""
    return {"Idempotency-Key": attempt.idempotency_key}


def good(answer: httpx.Response) -> Any:
    """The body of a good answer. A 4xx is final, since the same call would get it again; a 5xx is tried again."""
    if answer.is_client_error:
        raise Permanent(f"{answer.status_code}: {answer.json()['reason']}")
    return answer.raise_for_status().json()
