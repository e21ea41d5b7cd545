"""What PostgreSQL really does for a statement: the plan of each execution, as `auto_explain` tells it."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine, event

from fsm_core.postgres.ask import Ask
from fsm_core.postgres.engine import own_engine
from fsm_core.postgres.statements import Plain, Statement
from tests.plans.filling import TABLES

Node = dict[str, Any]

TINY = 1000
"""A table of so many rows fits in some ten pages: whatever is planned for it is quick."""

_SETTINGS = {
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_format": "json",
    "auto_explain.log_parameter_max_length": "0",
    "client_min_messages": "log",
}


@dataclass(frozen=True)
class Seen:
    """One execution of a statement: its plan with what it did, and how long it took."""

    statement: Statement | Plain
    milliseconds: float
    plan: Node

    @property
    def nodes(self) -> Iterator[Node]:
        """Every node of the plan."""
        return _walk(self.plan)

    @property
    def buffers(self) -> int:
        """How many pages it touched, in the cache or not."""
        return sum(self.plan.get(f"Shared {how} Blocks", 0) for how in ("Hit", "Read"))

    @property
    def indexes(self) -> set[str]:
        """The indexes that it searched; those that it only would have are not in it."""
        return {
            node["Index Name"] for node in self.nodes if "Index Name" in node and node.get("Actual Loops")
        }

    @property
    def whole(self) -> set[str]:
        """Tables that it read from their beginning, or thought it would; of a tiny one that is right."""
        found = [node for node in self.nodes if node["Node Type"] == "Seq Scan" and _grows(node)]
        return {each["Relation Name"] for each in found if max(_looked_at(each), each["Plan Rows"]) > TINY}

    @property
    def sorted(self) -> int:
        """The most rows that one of its sorts was given in all its loops."""
        return max((_handed(node) for node in self.nodes if "Sort" in node["Node Type"]), default=0)

    @property
    def read(self) -> int:
        """The most rows of a growing table that one of its nodes looked at, those that it threw away included."""
        return max((_looked_at(node) for node in self.nodes), default=0)


@dataclass
class Recorder:
    """The plans of what runs on its engines, in the order in which it ran."""

    url: str
    seen: list[Seen] = field(default_factory=list)
    _asked: dict[str, Statement | Plain] = field(default_factory=dict)

    def engine(self, *, own: bool) -> Engine:
        """An engine that is listened to. own: as relays and workers have it, planned once for all values; else the application's."""
        engine = own_engine(self.url) if own else create_engine(self.url)

        @event.listens_for(engine, "connect")
        def _listen(connection: psycopg.Connection[Any], _record: object) -> None:
            connection.execute("LOAD 'auto_explain'")
            for name, value in _SETTINGS.items():
                connection.execute("SELECT set_config(%s, %s, false)", (name, value))
            connection.commit()
            if own:
                connection.prepare_threshold = 0  # else it is planned for its values four times before
            connection.add_notice_handler(self._hear)

        return engine

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Know which statements run: a plan is told when the server closes it, which may be in the next one's turn."""
        on = Ask.on

        def told(ask: Ask[Any], connection: psycopg.Connection[Any], schema: str) -> Any:
            self._asked[_bare(ask.statement.on(schema))] = ask.statement
            return on(ask, connection, schema)

        Ask.on = told  # type: ignore[method-assign]
        try:
            yield
        finally:
            Ask.on = on  # type: ignore[method-assign]

    def of(self, name: str) -> list[Seen]:
        """The executions of the statement of that name."""
        return [each for each in self.seen if each.statement.name == name]

    def _hear(self, notice: psycopg.errors.Diagnostic) -> None:
        said = notice.message_primary or ""
        head, found, document = said.partition("plan:\n")
        if not found:
            return
        told = json.loads(document)
        if (statement := self._asked.get(_bare(told["Query Text"]))) is not None:
            took = float(head.removeprefix("duration: ").partition(" ")[0])
            self.seen.append(Seen(statement, took, told["Plan"]))


def _bare(query: str) -> str:
    """A statement without the names or numbers of its parameters."""
    return re.sub(r"%\(\w+\)s|%s|\$\d+", "$", query).strip()


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for below in node.get("Plans", []):
        yield from _walk(below)


def _handed(node: Node) -> int:
    return sum(_rows(below) for below in node.get("Plans", []))


def _rows(node: Node) -> int:
    return round(node["Actual Rows"] * node["Actual Loops"])


def _grows(node: Node) -> bool:
    return str(node.get("Relation Name", "")).startswith(TABLES)


def _looked_at(node: Node) -> int:
    if not _grows(node) or "Scan" not in node["Node Type"]:
        return 0
    removed = sum(node.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
    return _rows(node) + round(removed * node["Actual Loops"])
