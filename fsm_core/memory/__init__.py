"""Machines in memory, for tests and examples: the verbs of the Postgres store, and `drain`, which runs their effects inline.

Decided by the same code, kept as the same JSON, judged by the same protocol; only the tables are dicts and time stands
still. Nothing survives the process.
"""

from fsm_core.memory.aio import AsyncMemoryStore
from fsm_core.memory.clock import Clock
from fsm_core.memory.drain import Drained
from fsm_core.memory.store import MemoryStore

__all__ = ["AsyncMemoryStore", "Clock", "Drained", "MemoryStore"]
