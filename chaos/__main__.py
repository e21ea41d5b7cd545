"""`python -m chaos`: real processes under faults, and an oracle over what is left.

Exit status: 0 green, 1 red (a guarantee is broken), 3 invalid (too few faults hit work in flight: it proves nothing).
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from chaos import lives, report, tiers
from chaos import mutants as mutation
from chaos.oracle import judge
from chaos.run import Run
from chaos.servers import Postgres, Valkey
from workers.dev.directory import private_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaos.plan import Plan

console = Console(width=None if sys.stdout.isatty() else 150)


def main(
    tier: Annotated[str, typer.Option(help="How much: commit (5 minutes) or release (45).")] = "commit",
    *,
    seed: Annotated[int, typer.Option(help="Of the schedule of faults and of the mix of events.")] = 1,
    machines: Annotated[int | None, typer.Option(help="How many machines.")] = None,
    events: Annotated[int | None, typer.Option(help="How many events for each.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Over how long they are spread; faults grow along.")
    ] = None,
    mutant: Annotated[str, typer.Option(help="Break the code on purpose, by the name of a mutant.")] = "",
    mutants: Annotated[
        bool, typer.Option("--mutants", help="Every mutant (or the one of --mutant): each must be found.")
    ] = False,
    control: Annotated[
        bool, typer.Option(help="With --mutants: their runs without them, which must be green.")
    ] = False,
    pairs: Annotated[
        bool,
        typer.Option("--pairs", help="Two deaths in the life of one action, for each pair of crash points."),
    ] = False,
    keep: Annotated[Path | None, typer.Option(help="Where logs and journals stay: an empty folder.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write what was found.")] = None,
) -> None:
    """Kill everything, and look whether what was promised holds."""
    if tier not in tiers.TIERS or (mutant and mutant not in mutation.MUTANTS):
        names = tiers.TIERS if tier not in tiers.TIERS else tuple(mutation.MUTANTS)
        console.print(f"one of: {', '.join(names)}")
        raise typer.Exit(2)
    with _folder(keep) as folder, _servers() as (postgres, valkey):
        if mutants:
            raise typer.Exit(_mutants(postgres, valkey, folder, json_file, only=mutant, control=control))
        if pairs:
            raise typer.Exit(_pairs(postgres, valkey, folder, json_file))
        plan = tiers.plan(tier, seed=seed, machines=machines, events=events, minutes=minutes)
        if mutant:
            plan = replace(mutation.MUTANTS[mutant].plan, seed=seed)
        status, document = _one(plan, postgres, valkey, folder, mutant)
    if json_file is not None:
        json_file.write_text(json.dumps(document, indent=1) + "\n")
    raise typer.Exit(status)


def _one(
    plan: Plan, postgres: Postgres, valkey: Valkey, folder: Path, mutant: str = ""
) -> tuple[int, dict[str, object]]:
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(mutant or plan.name, total=1.0)
        run = Run(
            plan, folder / (mutant or plan.name), postgres, valkey, mutant=mutant,
            tell=lambda share, said: progress.update(task, completed=share, description=said),
        )  # fmt: skip
        evidence = run.go()
        judgement = judge(evidence)
    report.show(console, evidence, judgement)
    return report.status(judgement), report.document(evidence, judgement)


def _pairs(postgres: Postgres, valkey: Valkey, folder: Path, json_file: Path | None) -> int:
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("pairs", total=1.0)
        found = lives.live(
            folder, postgres, valkey,
            tell=lambda share, said: progress.update(task, completed=share, description=said),
        )  # fmt: skip
    lives.show(console, found)
    if json_file is not None:
        json_file.write_text(json.dumps(lives.document(found), indent=1) + "\n")
    return report.GREEN if found.green else report.RED


def _mutants(
    postgres: Postgres, valkey: Valkey, folder: Path, json_file: Path | None, *, only: str, control: bool
) -> int:
    """Each must be found; without them nothing. Returns 0 if that is so."""
    found: dict[str, object] = {}
    wrong = []
    for name, mutant in mutation.MUTANTS.items():
        if only not in ("", name):
            continue
        evidence = Run(mutant.plan, folder / name, postgres, valkey, mutant="" if control else name).go()
        red = judge(evidence).red
        found[name] = {"guarantee": mutant.guarantee, "red": red, "seconds": round(evidence.seconds, 1)}
        right = not red if control else mutant.caught_by in red
        wrong += [] if right else [name]
        said = ", ".join(red) or ("green without it" if control else "not found")
        console.print(
            f"[{'green' if right else 'red'}]{name}[/] {mutant.guarantee}: {said} ({evidence.seconds:.0f} s)"
        )
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=1) + "\n")
    return report.RED if wrong else report.GREEN


@contextlib.contextmanager
def _servers() -> Iterator[tuple[Postgres, Valkey]]:
    with private_directory() as directory, Postgres(directory) as postgres, Valkey(directory) as valkey:
        yield postgres, valkey


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()):
            console.print(
                f"{keep} is not empty: logs and journals of another run would be taken for this one's"
            )
            raise typer.Exit(2)
        yield keep.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        yield Path(folder)


if __name__ == "__main__":
    typer.run(main)
