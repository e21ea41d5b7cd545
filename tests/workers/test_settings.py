"""What the environment says, and what it cannot mean."""

from datetime import timedelta
from pathlib import Path

import pytest

from fsm_core.errors import ConfigurationError
from workers.settings import Settings, read
from workers.watchdog import Sign, Watchdog


@pytest.mark.parametrize("value", ["soon", "inf", "nan", "0", "-1"])
@pytest.mark.parametrize("name", ["FSM_LEASE", "FSM_PATIENCE", "FSM_STUCK", "FSM_HUNG"])
def test_what_is_no_span_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        read({}, {"DATABASE_URL": "postgresql://h/d", name: value})


def test_a_liveness_file_that_cannot_be_written_does_not_end_the_watch(tmp_path: Path) -> None:
    """Whoever looks at the file sees that it is old; a process that hangs is ended all the same."""
    asked: list[None] = []

    def age() -> float:
        asked.append(None)
        if len(asked) == 3:
            watchdog.stop()
        return 0.0

    settings = Settings("", stuck=timedelta(seconds=0.1), liveness=tmp_path / "nowhere" / "alive")
    watchdog = Watchdog(settings, [Sign("it", age)])

    watchdog._loop()

    assert len(asked) == 3
