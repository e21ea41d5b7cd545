"""What a check says, and what all of them say together."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Verdict:
    """What one check says. trials: how many things it looked at. failures: what it found, in words."""

    check: str
    guarantee: str
    says: str
    trials: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def bound(self) -> float | None:
        """The 95 % upper bound of the rate of failures, if none was found: 3 / n."""
        return 3 / self.trials if self.trials and not self.failures else None


@dataclass
class Judgement:
    """All of it. invalid: why the run proves nothing, green or not. numbers: what was counted."""

    verdicts: list[Verdict]
    invalid: list[str]
    numbers: dict[str, int]

    @property
    def green(self) -> bool:
        """Whether nothing was found."""
        return not self.red

    @property
    def red(self) -> list[str]:
        """The checks that found something."""
        return [verdict.check for verdict in self.verdicts if verdict.failures]
