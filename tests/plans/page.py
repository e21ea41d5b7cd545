"""What the plans say, as a page: a table of all statements, and the plan of each."""

from collections.abc import Iterable, Iterator, Sequence

from tests.plans.explaining import Node, Seen
from tests.plans.rules import INDEXES, NOT_HOT

HEAD = """# Plans

Every hot statement on a database of {machines:,} machines, {events:,} events, {finished:,} finished actions, {timers:,} timers that are
not due, and a backlog of {backlog:,} due actions: as `python -m tests.plans` printed it, on PostgreSQL {version} with its defaults
(`shared_buffers` 128 MB), each statement as it came. What is shown is not an estimate but what PostgreSQL did when
the store, a relay and a worker called it (`auto_explain`): relay and worker plan once for all values, as they do in production.

- *rows*: the most rows of a growing table that one node of the plan looked at, those that it threw away included. It must depend on the
  batch and never on the table: `tests/plans` fails where it does not, also with statistics of a moment at which the queue was empty,
  and with none at all.
- *pages*: buffers touched, in the cache or not, by the whole statement with its writes.
- *ms*: one execution, on a machine that was busy with other things; to be compared with each other only.

No statement reads a table that grows from its beginning. A sequential scan of a table of up to {tiny:,} rows (some ten pages) does not
count: it is right. These read more than their answer, and may:

{exempt}

After `pg_restore` or `pg_upgrade` (before 18) there are no statistics: run `ANALYZE`, for the sake of what else the database does. These
statements keep their plans without: relays and workers go by keys whatever the planner expects, and so do `fsm fsck`, `upcast` and `prune`,
which name hundreds of machines at once.

## Statements

| statement | indexes | rows | pages | ms |
|---|---|---:|---:|---:|
{table}

## Plans of the hot ones

"""


def page(seen: Sequence[Seen], figures: dict[str, int | str]) -> str:
    """The page, of all executions; each statement by the one that did most."""
    most = {}
    for each in sorted(seen, key=lambda one: one.buffers):
        most[each.statement.name] = each
    exempt = "\n".join(f"- `{name}`: {why};" for name, why in sorted(NOT_HOT.items()))
    shown = {name: most[name] for name in sorted(most) if most[name].indexes}
    table = "\n".join(_line(each) for each in shown.values())
    head = HEAD.format(**figures, exempt=exempt.removesuffix(";") + ".", table=table)
    return head + "\n".join(_section(shown[name]) for name in sorted(INDEXES) if name in shown)


def _line(seen: Seen) -> str:
    indexes = ", ".join(f"`{name}`" for name in sorted(seen.indexes))
    return f"| `{seen.statement.name}` | {indexes} | {seen.read:,} | {seen.buffers:,} | {seen.milliseconds:.2f} |"


def _section(seen: Seen) -> str:
    return f"### {seen.statement.name}\n\n```text\n" + "\n".join(_lines(seen.plan)) + "\n```\n"


def _lines(node: Node, depth: int = 0) -> Iterator[str]:
    within = f"{node['Subplan Name']}: " if "Subplan Name" in node else ""
    yield f"{'  ' * depth}{within}{_title(node)}  ({_counts(node)})"
    for what in ("Index Cond", "Filter", "Sort Key"):
        if what in node:
            yield f"{'  ' * depth}    {what}: {_short(node[what])}"
    for below in node.get("Plans", []):
        yield from _lines(below, depth + 1)


def _title(node: Node) -> str:
    what = str(node.get("Operation", node["Node Type"]))
    index = f" using {node['Index Name']}" if "Index Name" in node else ""
    on = node.get("Relation Name") or node.get("CTE Name") or node.get("Function Name")
    return f"{what}{index}{f' on {on}' if on else ''}"


def _counts(node: Node) -> str:
    if not node["Actual Loops"]:
        return "never executed"
    loops = f" x {node['Actual Loops']}" if node["Actual Loops"] > 1 else ""
    pages = sum(node.get(f"Shared {how} Blocks", 0) for how in ("Hit", "Read"))
    return f"rows={node['Actual Rows']:g}{loops}, pages={pages}"


def _short(said: str | Iterable[str]) -> str:
    text = said if isinstance(said, str) else ", ".join(said)
    return text if len(text) <= 140 else f"{text[:137]}..."
