"""The matrix of role x table x verb as the database has it, in the form in which docs/security.md shows it."""

from typing import Any

import psycopg

from fsm_core.postgres.roles import Role
from fsm_core.postgres.tables import build

TABLES = (*sorted(table.name for table in build("fsm").tables.values()), "schema_version")

# Of each role, table and verb: whether it holds for the whole table, and else for which columns. TRUNCATE and the like have no columns.
_ASK = """
SELECT r.role, t.name, v.verb, has_table_privilege(%(prefix)s || r.role, 'fsm.' || t.name, v.verb),
       CASE WHEN v.verb IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') THEN (
         SELECT array_agg(a.attname ORDER BY a.attname) FROM pg_attribute a
          WHERE a.attrelid = ('fsm.' || t.name)::regclass AND a.attnum > 0 AND NOT a.attisdropped
            AND has_column_privilege(%(prefix)s || r.role, a.attrelid, a.attnum, v.verb)) END
  FROM unnest(%(roles)s::text[]) AS r(role), unnest(%(tables)s::text[]) AS t(name),
       unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN']) AS v(verb)
"""
_OTHERS = ("TRUNCATE", "REFERENCES", "references", "TRIGGER", "MAINTAIN")
_LETTERS = {"SELECT": "S", "INSERT": "I", "UPDATE": "U", "DELETE": "D"}


def documented(connection: psycopg.Connection[Any], prefix: str) -> str:
    """Two Markdown tables: what each role may do, and to which columns where it is only some."""
    parameters = {"prefix": prefix, "roles": [role.value for role in Role], "tables": list(TABLES)}
    cells: dict[tuple[str, str], list[str]] = {}
    columns: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for role, table, verb, whole, some in connection.execute(_ASK, parameters):
        if whole or some:
            letter = _LETTERS.get(verb, verb)
            cells.setdefault((role, table), []).append(letter if whole else letter.lower())
        if some and not whole:
            columns.setdefault((table, verb.lower(), tuple(some)), []).append(role)
    order = [*"SsIiUuD", *_OTHERS]
    lines = [f"| table | {' | '.join(Role)} |", f"| --- |{' --- |' * len(Role)}"]
    for table in TABLES:
        shown = (sorted(cells.get((role.value, table), []), key=order.index) for role in Role)
        lines.append(f"| `{table}` | {' | '.join(''.join(cell) or '-' for cell in shown)} |")
    lines += ["", "| table | verb | role | columns |", "| --- | --- | --- | --- |"]
    for (table, verb, names), roles in sorted(columns.items()):
        by_rank = sorted(roles, key=[role.value for role in Role].index)
        lines.append(f"| `{table}` | {verb} | {', '.join(by_rank)} | `{', '.join(names)}` |")
    return "\n".join(lines)
