"""`python -m tests.scale`: what several databases bring, by the real placement of keys. A model: nothing is measured here.

Shards of the same make do as many cycles a second each. The work is full when the busiest shard is: so what
counts is the part of all events that falls on it. Keys that are all alike; keys of which few have much (Zipf); and one customer who
alone has a tenth.
"""

import sys
from collections import Counter
from collections.abc import Sequence

from fsm_core.postgres.sharded import Places

KEYS = 50_000
SHARDS = (1, 2, 3, 4, 8, 16)


def weights(kind: str) -> list[float]:
    """How much each key has of all events."""
    if kind == "alike":
        given = [1.0] * KEYS
    elif kind == "Zipf":
        given = [1 / (n + 1) for n in range(KEYS)]
    else:
        given = [KEYS / 9, *([1.0] * (KEYS - 1))]
    total = sum(given)
    return [each / total for each in given]


def busiest(shards: int, given: Sequence[float]) -> float:
    """The part of all events that falls on the shard that has most."""
    places = Places(tuple(f"shard-{n}" for n in range(shards)))
    load: Counter[str] = Counter()
    for key, weight in enumerate(given):
        load[places.home(str(key))] += weight  # type: ignore[assignment]
    return max(load.values())


def main() -> int:
    """Print the table."""
    kinds = ("alike", "Zipf", "one has a tenth")
    sys.stdout.write("| databases | " + " | ".join(f"{kind}: busiest | times one" for kind in kinds) + " |\n")
    sys.stdout.write("|---:|" + "---:|---:|" * len(kinds) + "\n")
    for shards in SHARDS:
        parts = [busiest(shards, weights(kind)) for kind in kinds]
        cells = " | ".join(f"{part:.1%} | {1 / part:.1f}" for part in parts)
        sys.stdout.write(f"| {shards} | {cells} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
