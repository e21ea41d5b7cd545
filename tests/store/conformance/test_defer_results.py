"""Under unhandled="defer": what effects bring waits, too, and is taken by a change of state that came with it."""

import pytest

from fsm_core.audit import fsck
from fsm_core.delivery.finish import finish, finish_alone
from fsm_core.delivery.outcome import Completed, Result
from fsm_core.registry import Registry
from tests.store.conformance.test_results import worker_of
from tests.store.machines import Close, Manned, Open, Serve, desk
from tests.store.world import World

REGISTRY = Registry([desk])

BROUGHT = {
    "by one effect": ([Serve("cid"), Open()], []),
    "by one effect, in between": ([Serve("cid"), Open(), Close(), Open()], []),
    "by two effects in one group": ([Serve("cid")], [Open()]),
}


@pytest.mark.parametrize("brought", BROUGHT.values(), ids=BROUGHT)
def test_what_is_held_is_taken_by_what_comes_with_it(
    world: World, brought: tuple[list[object], list[object]]
) -> None:
    world.store.start(desk, 1)
    for event in (Open(), Serve("ann"), Serve("bob"), Close()):
        world.store.advance(desk, 1, event)

    with worker_of(world, REGISTRY) as worker:
        claims = worker.claims(by="text")
        results = [
            Result(claims[who], Completed(tuple(events)))
            for who, events in zip(("ann", "bob"), brought, strict=True)
        ]
        finished = finish(worker.outbox, REGISTRY, results)
        for result in finished.alone:
            assert finish_alone(worker.outbox, REGISTRY, result).done == [result]

    now = world.store.get(desk, 1)
    assert now.state == Manned(("ann", "bob", "cid"))
    assert world.contents()["inbox"] == []
    assert world.store.record(desk, 1).held == 0
    assert {action.status.value for action in world.store.actions() if action.payload["text"] != "cid"} == {
        "completed"
    }
    assert fsck(world.store.log(desk, 1), REGISTRY).findings == []
