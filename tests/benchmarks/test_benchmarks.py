"""Every benchmark runs: a smoke run of each, so that none rots between two measurements. Its figures say nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import found, main, names
from benchmarks.frame import Options, Row, Target, interleaved
from benchmarks.world import World

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)  # some start whole fleets
@pytest.mark.parametrize("name", names())
def test_a_benchmark_runs_and_gives_rows(name: str, world: World) -> None:
    about, run = found(name)

    rows = list(run(Options(smoke=True, peers=False, world=world)))

    assert about
    assert rows
    assert len({(row.what, row.against) for row in rows}) == len(rows)


def test_no_payload_of_the_fuzz_ends_in_an_untyped_error() -> None:
    """The one figure of a smoke run that means something."""
    _, run = found("fuzz")

    (row,) = (row for row in run(Options(smoke=True)) if row.what == "untyped errors")

    assert (row.figure, row.met) == (0, True)


def test_a_run_prints_tables_and_writes_a_document(tmp_path: Path) -> None:
    document = tmp_path / "figures.json"
    command = [sys.executable, "-W", "error", "-m", "benchmarks", "codec", "--smoke", "--json", str(document)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=60, check=False
    )
    written = json.loads(document.read_text())

    assert (done.returncode, done.stderr) == (0, "")
    assert "round trip, dataclass" in done.stdout
    assert written["smoke"] is True
    assert list(written["benchmarks"]) == ["codec"]
    first = written["benchmarks"]["codec"][0]
    assert (first["what"], first["unit"], first["against"]) == ("round trip, dataclass", "us", "msgspec")
    assert first["ratio"] == pytest.approx(first["figure"] / first["limit"])


def test_an_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["nothing"])

    assert caught.value.code == 2
    assert "there is no benchmark 'nothing'; there are advance, bulk, codec" in capsys.readouterr().err


@pytest.mark.parametrize(("limit", "status"), [(100.0, 0), (9.0, 1)])
def test_a_missed_target_is_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], limit: float, status: int
) -> None:
    def run(options: Options) -> list[Row]:
        return [Row("something", 10, "us", target=Target(most=limit)), Row("something else", 1, "us")]

    monkeypatch.setattr("benchmarks.cases.codec.run", run)

    assert main(["codec"]) == status
    assert ("MISSED" in capsys.readouterr().out) is bool(status)


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (Target(least=10), True),
        (Target(least=11), False),
        (Target(most=10), True),
        (Target(most=9), False),
        (Target(least=2, ratio=True), True),
        (Target(least=2.1, ratio=True), False),
    ],
)
def test_a_target_is_of_the_figure_or_of_its_ratio(target: Target, met: bool) -> None:
    assert Row("x", 10, "/s", against="peer", limit=5, target=target).met is met


def test_a_ratio_to_nothing_is_no_ratio_and_meets_nothing() -> None:
    row = Row("x", 10, "/s", target=Target(least=0, ratio=True))

    assert (row.ratio, row.met, Row("x", 10, "/s").met) == (None, False, None)


def test_rivals_take_turns_and_nobody_always_runs_behind_the_same() -> None:
    turns: list[str] = []

    took = interleaved(
        {name: lambda times, name=name: turns.append(f"{name}{times}") for name in "abc"}, times=20, rounds=4
    )

    assert turns[:3] == ["a2", "b2", "c2"]  # the warm-up
    assert turns[3:] == [f"{name}20" for name in "abccbaabccba"]
    assert {name: len(rounds.seconds) for name, rounds in took.items()} == {"a": 4, "b": 4, "c": 4}
    assert all(rounds.best <= rounds.median for rounds in took.values())
