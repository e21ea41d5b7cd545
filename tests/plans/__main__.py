"""`python -m tests.plans [--small]`: the page docs/plans.md, measured on a server of its own. A minute and 2 GB at full size."""

import argparse
import sys

import psycopg

from fsm_core.postgres.migrate import upgrade
from tests.plans.calls import EVERYTHING, Calls
from tests.plans.explaining import TINY, Recorder
from tests.plans.filling import FULL, SMALL, Size, analyze, fill, pile_up, prepare
from tests.plans.page import page
from tests.store.world import plain
from workers.dev.servers import embedded_servers


def measured(url: str, size: Size) -> str:
    """The page, of the database at `url`, which is empty."""
    upgrade(url)
    with psycopg.connect(plain(url), autocommit=True) as connection:
        prepare(connection)
        fill(connection, size)
        pile_up(connection, size)
        analyze(connection)
        version = connection.info.server_version // 10_000
    recorder = Recorder(url)
    engines = recorder.engine(own=False), recorder.engine(own=True)
    calls = Calls(url, *engines)
    with recorder.listening():
        for name in EVERYTHING:
            getattr(calls, name)()
    for engine in engines:
        engine.dispose()
    figures: dict[str, int | str] = {
        "machines": size.machines, "events": 5 * size.machines, "finished": size.machines, "timers": size.timers,
        "backlog": size.backlog, "version": str(version), "tiny": TINY,
    }  # fmt: skip
    return page(recorder.seen, figures)


def main() -> int:
    """Print the page."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.plans", description="Print the page docs/plans.md."
    )
    parser.add_argument("--small", action="store_true", help="of the size at which the tests run")
    size = SMALL if parser.parse_args().small else FULL
    with embedded_servers(broker_url="redis://nowhere") as servers:
        sys.stdout.write(measured(servers.database_url, size))
    return 0


if __name__ == "__main__":
    sys.exit(main())
