"""`make demo`: a door and a hundred orders on a real PostgreSQL, Valkey, relay and Celery worker.

    python -m examples.demo [--orders N] [--seed S] [--kill]

With DATABASE_URL or BROKER_URL set, that server is used instead of an embedded one. Exit status: 0 if every order came
to its end, and no card was charged and no parcel sent twice; 1 if not, or if something broke; 130 after Ctrl-C.
"""

import argparse
import signal
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    options = parsed(arguments)
    print("Starting the servers, a relay and a worker ...", flush=True)
    try:
        from examples.demo_stage import play  # takes a moment, in which a Ctrl-C should be no traceback

        return play(options.orders, options.seed, kill=options.kill)
    except KeyboardInterrupt:
        print("\nThe demo was interrupted; all its processes have ended.")
        return 128 + signal.SIGINT


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo", description="A door and a hundred orders on real servers."
    )
    parser.add_argument("--orders", type=int, default=100, metavar="N", help="how many orders (100)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="another seed, other luck (1)")
    parser.add_argument(
        "--kill", action="store_true", help="kill the worker by SIGKILL when a third has ended"
    )
    options = parser.parse_args(arguments)
    if options.orders < 1:
        parser.error("--orders is 1 or more")
    return options


if __name__ == "__main__":
    sys.exit(main())
