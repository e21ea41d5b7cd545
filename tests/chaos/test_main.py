"""The command line of the harness."""

from pathlib import Path

import typer
from typer.testing import CliRunner

from chaos.__main__ import main

app = typer.Typer()
app.command()(main)


def test_a_folder_with_anything_in_it_is_not_taken_for_logs_and_is_left_alone(tmp_path: Path) -> None:
    kept = tmp_path / "mine"
    kept.write_text("dear to me")

    done = CliRunner().invoke(app, ["--keep", str(tmp_path)])

    assert done.exit_code == 2
    assert kept.read_text() == "dear to me"
