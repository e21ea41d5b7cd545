"""The tables of a run, for the docs."""

import pytest

from benchmarks.figures import markdown, read
from benchmarks.frame import Row, Target
from benchmarks.report import described, document

ROW = Row("cycles", 2_000, "/s", 2_100.0, "pgqueuer", 500, Target(least=3, ratio=True), "warm")


@pytest.mark.parametrize("row", [ROW, Row("cost", 12.5, "us"), Row("share", 1, "%", target=Target(most=2))])
def test_a_row_is_read_as_it_was_written(row: Row) -> None:
    assert read(described(row)) == row


def test_a_run_becomes_one_table_for_each_benchmark() -> None:
    text = markdown(document({"concurrent": [ROW], "drain": []}, smoke=False))

    assert "| cycles | 2,000/s | pgqueuer | 500/s | 4.00 | >= 3 x | met; warm |" in text.splitlines()
    assert [line for line in text.splitlines() if line.startswith("###")] == ["### concurrent", "### drain"]


def test_a_smoke_run_has_no_figures() -> None:
    with pytest.raises(ValueError, match="a smoke run has no figures"):
        markdown(document({"concurrent": [ROW]}, smoke=True))
