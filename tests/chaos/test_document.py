"""The figures of docs/reliability.md are those of the records."""

from chaos.document import PAGE, RECORDS, figures, read, written


def test_the_page_has_the_figures_of_the_records_and_no_others() -> None:
    """If this fails: python -m chaos.document."""
    page = PAGE.read_text()
    assert written(page, read(RECORDS)) == page


def test_trials_of_runs_add_up_and_so_do_their_bounds() -> None:
    verdict = {"check": "once", "guarantee": "G3", "trials": 150, "failures": [], "bound": None}
    run = {
        "seed": 1, "status": 0, "machines": 10, "events": 2, "kills": 3, "seconds": 9.0, "healed_after": None, "verdicts": [verdict],
        "faults": {"flush": [2, 1]}, "messages": {"doubled": 4}, "crash points": {"migrate.mid": 1},
        "numbers": {"starts of effects": 5, "effects run again": 1, "retries by hand": 0},
    }  # fmt: skip

    said = figures({"a": run, "b": run, "mutants": {"dedup_off": {"red": ["once"], "seconds": 3.2}}})

    assert "| `once` | G3 | 300 | 0 | 1.0e-02 |" in said
    assert "| flush | 4 | 2 |" in said
    assert "| killed at `migrate.mid` | 2 |  |" in said
    assert "| `dedup_off` | `once` | 3 |" in said
