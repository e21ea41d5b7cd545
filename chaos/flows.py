"""A flow of durable steps under test: it begins, waits to be paid, and ships."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from chaos.truth import Effects
from fsm_core.steps import Await, Done, Next, StepContext, Steps


@dataclass(frozen=True)
class Basket:
    id: str


@dataclass(frozen=True)
class Paid:
    id: str


flow = Steps("flow", state=Basket, signals=Paid, queue="others")


@flow.step
def begin(state: Basket, ctx: StepContext) -> Next[Basket]:
    with Effects("begin", ctx.idempotency_key, ctx.attempt + 1):
        return Next(pay, state)


@flow.step
def pay(state: Basket, ctx: StepContext) -> Await[Basket] | Next[Basket]:
    return Await(Paid, state) if ctx.signal(Paid) is None else Next(ship, state)


@flow.step(timeout=60)
async def ship(state: Basket, ctx: StepContext) -> Done:
    with Effects("ship", ctx.idempotency_key, ctx.attempt + 1):
        await asyncio.sleep(0.1)
    return Done({"id": state.id})
