"""One world for all smoke runs: the tests' own servers, and one relay and worker that stay up."""

from collections.abc import Iterator

import pytest
from sqlalchemy.engine import make_url

from benchmarks.world import World, world_on
from workers.dev.servers import Servers


@pytest.fixture(scope="module")
def world(servers: Servers, worker_id: str) -> Iterator[World]:
    number = 1 + int(worker_id.removeprefix("gw")) % 7 if worker_id != "master" else 1
    broker_url = make_url(servers.broker_url).set(database=str(number)).render_as_string(hide_password=False)
    with world_on(servers.database_url, broker_url, keep=True) as world:
        yield world
