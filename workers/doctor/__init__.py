"""Is the installation well? Facts of the broker and the database, and pure checks that say what they mean."""

from workers.doctor.examine import examine
from workers.doctor.findings import Finding, Severity

__all__ = ["Finding", "Severity", "examine"]
