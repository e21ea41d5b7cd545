"""Chaos: real processes, faults on purpose, and an oracle over what is left. `python -m chaos --help`."""
