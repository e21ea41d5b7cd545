"""A process whose clock is wrong, and jumps at each look by up to a day: `python -m tests.faults.skewed relay`, or `celery -A tests.faults.skewed`.

Shifted is what Python asks: `time.time` everywhere (Celery, kombu, logging), `datetime.now` where worker and relay ask it. libfaketime,
which shifts what the C library answers, is not everywhere; `time.monotonic` is no clock on the wall.
"""

import random
import sys
import time
from datetime import datetime, tzinfo
from typing import Any

DAY = 86_400.0
_true, _offset = time.time, random.Random(20)
time.time = lambda: _true() + _offset.uniform(-DAY, DAY)


class Skewed(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        return datetime.fromtimestamp(time.time(), tz)


from workers import effect, schedules  # noqa: E402 - with the clock that is wrong
from workers.celery import app  # noqa: E402

__all__ = ["app"]

for module in (effect, schedules):
    assert vars(module)["datetime"] is datetime, "it asks another clock now: shift that one"
    vars(module)["datetime"] = Skewed

if __name__ == "__main__":
    from workers.cli.main import main

    sys.exit(main())
