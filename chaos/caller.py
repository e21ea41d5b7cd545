"""A caller that brings what it is asked to bring, again and again until it knows that it is there, as a webhook would.

    python -m chaos.entry caller

What it is asked for stands in a file, one line each; it looks there for as long as it lives. Its journal is that of a submitter.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from sqlalchemy import create_engine

from chaos.machines import ALL, Do, twice
from chaos.submitter import AWAY
from chaos.truth import FOLDER, JOURNALS, append, lines
from fsm_core.postgres import PostgresStore

ASKS, NAME = "asks", "caller"
PAUSE = 0.02


def main(_arguments: list[str]) -> int:
    """Run it until it is killed. Returns never."""
    folder = Path(os.environ[FOLDER])
    store = PostgresStore(create_engine(os.environ["DATABASE_URL"], pool_size=1), machines=ALL)
    known = {rest[0] for kind, *rest in lines(folder / f"{JOURNALS}{NAME}") if kind in ("ok", "bug")}
    while True:
        for id_, key, kind, _ in lines(folder / ASKS):
            if id_ not in known:
                _bring(store, folder / f"{JOURNALS}{NAME}", id_, key, kind)
                known.add(id_)
        time.sleep(PAUSE)


def _bring(store: PostgresStore, journal: Path, id_: str, key: str, kind: str) -> None:
    while True:
        append(journal, "try", id_, key, "dedup", kind)
        try:
            store.start(twice, key)
            answer = store.advance(twice, key, Do(id_, kind), dedup_key=id_)
        except AWAY:
            time.sleep(PAUSE)
        except Exception as error:  # noqa: BLE001 - whatever nobody has promised is what is looked for
            append(journal, "bug", id_, type(error).__name__, " ".join(str(error).split()))
            return
        else:
            append(journal, "ok", id_, answer.seq)
            return
