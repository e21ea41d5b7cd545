"""What the door does to the world. A web app that only advances doors never imports this."""

import os
import tempfile
from pathlib import Path

from examples.door import CallThePolice, NotifyIRC, door
from fsm_core import Attempt, Effects

effects = Effects(door)


def channel() -> Path:
    """The file that stands for the IRC channel; finito's own example writes to such a file too."""
    return Path(os.environ.get("DOOR_IRC_LOG", Path(tempfile.gettempdir()) / "door-irc.log"))


@effects.act
def notify_irc(action: NotifyIRC, attempt: Attempt[None]) -> None:
    with channel().open("a") as log:
        log.write(f"<doorbot> [{attempt.key}] {action.message} (process {os.getpid()})\n")


@effects.act
def call_the_police(_action: CallThePolice, attempt: Attempt[None]) -> None:
    with channel().open("a") as log:
        log.write(f"<doorbot> [{attempt.key}] The police was called! For real! (process {os.getpid()})\n")
