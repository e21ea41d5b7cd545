"""The machine of the audit's tests, as the next release has it: with a tax."""

from tests.audit.fetching import build

fetching = build(tax=0.5)
