"""A lease that was taken away, and a relay whose database stays away."""

from datetime import timedelta
from uuid import UUID

import pytest
from celery import Celery

from fsm_core.errors import DatabaseUnavailable, StoreError
from workers import relay as module
from workers.lease import Lease
from workers.relay import RelayProcess
from workers.settings import Settings

NOWHERE = Settings("postgresql://nobody@127.0.0.1:1/nowhere", lease=timedelta(seconds=3))


class Taken:
    """A store that has taken the lease away, and refuses the first new row."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.ids_at_register: list[UUID] = []
        self.registered: list[UUID] = []

    def beat(self, *_: object) -> bool:
        return False

    def register(self, worker: UUID, **_: object) -> None:
        self.ids_at_register.append(self.lease.id)
        if len(self.ids_at_register) == 1:
            raise DatabaseUnavailable("away")
        self.registered.append(worker)


def test_a_new_id_is_used_once_its_row_is_there() -> None:
    """A claim under an id that no row knows would be taken for a dead worker's, and its effect would run twice."""
    lease = Lease(NOWHERE, kind="node", queues={}, known={})
    old, store = lease.id, Taken(lease)
    lease._store = store  # type: ignore[assignment]

    with pytest.raises(DatabaseUnavailable):
        lease._beat()
    assert lease.id == old
    lease._beat()

    assert store.ids_at_register == [old, old]
    assert store.registered == [lease.id]
    assert lease.id != old


def test_a_lease_that_was_given_back_is_not_taken_again() -> None:
    """A beat that was under way at the end finds no row: a new one would have the relays send messages to nobody."""
    lease = Lease(NOWHERE, kind="node", queues={}, known={})
    store = Taken(lease)
    lease._store = store  # type: ignore[assignment]
    lease._stop.set()

    lease._beat()

    assert store.ids_at_register == []


@pytest.mark.timeout(30)
def test_a_relay_gives_up_when_its_database_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends with the reason, for its supervisor to see, however long it had been there before."""
    monkeypatch.setattr(module, "LOST_PATIENCE", 0.3)
    monkeypatch.setattr(module, "EVERY", 0.0001)

    with pytest.raises(StoreError, match="does not answer"):
        RelayProcess(NOWHERE, Celery("t", broker="redis://127.0.0.1:1/0")).run()
