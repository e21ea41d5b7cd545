"""Durable steps: a flow written as functions that each end with what is to happen next. On top of the core, not beside it.

`Steps` declares a flow; `Next`, `Replay`, `Await`, `Gather`, `Done`, `Stop` are the outcomes of its steps. docs/steps.md is
the normative text. Source: gen_durable.
"""

from fsm_core.steps.context import StepContext
from fsm_core.steps.outcomes import Await, Child, Done, Gather, Next, Replay, Stop
from fsm_core.steps.steps import Steps

__all__ = ["Await", "Child", "Done", "Gather", "Next", "Replay", "StepContext", "Steps", "Stop"]
