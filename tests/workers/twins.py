"""Two machines of one name and version."""

from dataclasses import dataclass

from fsm_core import Machine


@dataclass(frozen=True)
class Here:
    pass


@dataclass(frozen=True)
class Go:
    pass


one = Machine("twin", states=Here, events=Go)
two = Machine("twin", states=Here, events=Go)
