"""Why is a machine not moving: the facts of one moment, and the reasons that they give."""

from fsm_core.explain.facts import Action, Facts, Limited
from fsm_core.explain.reasons import Reason, Weight, explain

__all__ = ["Action", "Facts", "Limited", "Reason", "Weight", "explain"]
