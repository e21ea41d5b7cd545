"""A guard for tests: a machine's own functions must answer from what they are given, and do nothing else.

`guarded(machine)` watches them and names what is forbidden; with a `Twin`, each decision is also made again in a second
process, with other hashes. For tests and development: what it costs is paid by guarded machines only.
Source: FASM and PHASM, "What You Must Not Do" in a state transition function.
"""

from fsm_core.errors import Impure
from fsm_core.purity.guard import guarded
from fsm_core.purity.twin import Twin

__all__ = ["Impure", "Twin", "guarded"]
