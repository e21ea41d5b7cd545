"""The log, replayed: what was the state, what has changed, does the record agree with itself and with the code of today?

A `Log` is one machine as a store read it, all at one moment. Everything here is a pure function of it and of the machines
that a `Registry` knows, whose transitions are run again with the recorded contexts: time, id, key and seq.
"""

from fsm_core.audit.compare import Diff, FieldChange, changes, diff
from fsm_core.audit.dry import preview
from fsm_core.audit.known import Beginning, beginning
from fsm_core.audit.log import Base, Entry, Log, Orphan, Row
from fsm_core.audit.records import Code, Finding, Report, fsck
from fsm_core.audit.replaying import Step, nearest, state_at, steps
from fsm_core.audit.restoring import Lost, lost
from fsm_core.audit.upgrades import Checked, Difference, Emission, upgraded

__all__ = [
    "Base",
    "Beginning",
    "Checked",
    "Code",
    "Diff",
    "Difference",
    "Emission",
    "Entry",
    "FieldChange",
    "Finding",
    "Log",
    "Lost",
    "Orphan",
    "Report",
    "Row",
    "Step",
    "beginning",
    "changes",
    "diff",
    "fsck",
    "lost",
    "nearest",
    "preview",
    "state_at",
    "steps",
    "upgraded",
]
