"""Servers of these tests' own: they are killed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaos.evidence import Evidence
from chaos.oracle import judge
from chaos.plan import Plan
from chaos.run import Run
from chaos.servers import Postgres, Valkey
from chaos.verdict import Judgement
from workers.dev.directory import private_directory


@pytest.fixture(scope="session")
def breakable() -> Iterator[tuple[Postgres, Valkey]]:
    """A PostgreSQL and a Valkey that may be killed."""
    with private_directory() as folder, Postgres(folder) as postgres, Valkey(folder) as valkey:
        yield postgres, valkey


class Rig:
    """Runs plans, and asks the oracle."""

    def __init__(self, servers: tuple[Postgres, Valkey], folder: Path) -> None:
        self._servers, self._folder = servers, folder

    def run(self, plan: Plan, mutant: str = "", **changes: Any) -> tuple[Evidence, Judgement]:
        evidence = Run(replace(plan, **changes), self._folder / plan.name, *self._servers, mutant=mutant).go()
        return evidence, judge(evidence)


@pytest.fixture
def rig(breakable: tuple[Postgres, Valkey], tmp_path: Path) -> Rig:
    return Rig(breakable, tmp_path)


def said(judgement: Judgement) -> dict[str, list[str]]:
    """What was found, by check: empty, if all is well."""
    return {verdict.check: verdict.failures[:5] for verdict in judgement.verdicts if verdict.failures}
