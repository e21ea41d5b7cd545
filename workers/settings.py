"""Where the processes find their servers and their machines: the environment, and `celeryconfig.py` for the machines."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from fsm_core.delivery.retention import KEEP_ALL, Retention
from fsm_core.effects import Effects
from fsm_core.errors import ConfigurationError
from fsm_core.machine import Machine
from fsm_core.registry import AnyEffects, AnyMachine, Registry
from workers import hardened, shards

if TYPE_CHECKING:
    from fsm_core.postgres.sealing import Cipher
    from workers.shards import Shards

DEFAULT_BROKER = "redis://127.0.0.1:6379/0"
DEFAULT_LEASE = 15.0
DEFAULT_HUNG = 60.0
DEFAULT_PATIENCE = 30.0
DEFAULT_STUCK = 45.0
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Settings:
    """What a process needs to know.

    database_url, broker_url: where the servers are. schema: where the tables are. machines: "module:name" entries.
    lease: how long a silent worker is believed to live. patience: how long a process waits for a silent database. stuck: after
    how long without progress, though its servers answer, it ends. liveness: a file that the process touches while it makes
    progress, or None. queues: queue -> effects at once in one worker process; None: the pool's concurrency. retention: what
    a relay prunes of machines that have ended. hung: how long a thread may go on after its effect was given up, before its
    process is replaced. cipher: encrypts payloads at rest, or None. shards: where there are other databases, or None.
    """

    database_url: str
    broker_url: str = DEFAULT_BROKER
    schema: str = "fsm"
    machines: tuple[str, ...] = ()
    lease: timedelta = timedelta(seconds=DEFAULT_LEASE)
    patience: timedelta = timedelta(seconds=DEFAULT_PATIENCE)
    stuck: timedelta = timedelta(seconds=DEFAULT_STUCK)
    liveness: Path | None = None
    queues: Mapping[str, int] | None = None
    retention: Retention = KEEP_ALL
    hung: timedelta = timedelta(seconds=DEFAULT_HUNG)
    cipher: Cipher | None = None
    shards: Shards | None = None


def read(configured: Mapping[str, object] | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings: the environment goes before `configured` (celeryconfig's `fsm_*` names, or another mapping).

    Raises ConfigurationError that names the variable: DATABASE_URL is missing, FSM_LEASE, FSM_PATIENCE, FSM_STUCK or FSM_HUNG is no
    number of seconds, FSM_QUEUES is not like `default=10,checkout=5`, FSM_RETENTION or FSM_FORGET are not like `30d`,
    FSM_PAYLOAD_KEYS is not like `2026-11:<base64>,2025:<base64>`, FSM_PAYLOAD_KEYS_FILE is no file of such entries; what
    `shards.read` says of FSM_SHARDS, FSM_SHARD and FSM_FORMER_SHARDS, and `hardened.check` of FSM_REQUIRE_TLS and FSM_HARDENED.
    """
    given = celeryconfig() if configured is None else configured
    database = environ.get("DATABASE_URL") or str(given.get("fsm_database_url") or "")
    if not database:
        raise ConfigurationError(
            "DATABASE_URL is not set; expected postgresql://user:password@host:5432/name (or use `fsm dev`)"
        )
    broker = environ.get("BROKER_URL") or str(given.get("broker_url") or DEFAULT_BROKER)
    others = shards.read(environ, given)
    for address in (database, *(others.urls.values() if others else ())):
        hardened.check(address, broker, environ, given.get("broker_use_ssl"))
    liveness = environ.get("FSM_LIVENESS_FILE")
    return Settings(
        database_url=database,
        broker_url=broker,
        schema=environ.get("FSM_SCHEMA") or str(given.get("fsm_schema") or "fsm"),
        machines=listed(given, environ),
        lease=_seconds("FSM_LEASE", environ.get("FSM_LEASE") or given.get("fsm_lease") or DEFAULT_LEASE),
        patience=_seconds(
            "FSM_PATIENCE", environ.get("FSM_PATIENCE") or given.get("fsm_patience") or DEFAULT_PATIENCE
        ),
        stuck=_seconds("FSM_STUCK", environ.get("FSM_STUCK") or given.get("fsm_stuck") or DEFAULT_STUCK),
        liveness=Path(liveness) if liveness else None,
        queues=_queues(environ.get("FSM_QUEUES"), given.get("fsm_queues")),
        retention=Retention(
            _age("FSM_RETENTION", environ.get("FSM_RETENTION") or given.get("fsm_retention")),
            _age("FSM_FORGET", environ.get("FSM_FORGET") or given.get("fsm_forget")),
        ),
        hung=_seconds("FSM_HUNG", environ.get("FSM_HUNG") or given.get("fsm_hung") or DEFAULT_HUNG),
        cipher=_cipher(environ),
        shards=others,
    )


def listed(
    configured: Mapping[str, object] | None = None, environ: Mapping[str, str] = os.environ
) -> tuple[str, ...]:
    """The "module:name" entries alone, for what needs no server: FSM_MACHINES, else celeryconfig's `fsm_machines`.

    Raises ConfigurationError if those are no list.
    """
    named = environ.get("FSM_MACHINES")
    if named is not None:
        return tuple(named.replace(",", " ").split())
    return tuple(_strings((celeryconfig() if configured is None else configured).get("fsm_machines")))


def celeryconfig() -> Mapping[str, object]:
    """The names that `celeryconfig.py` (or the module that CELERY_CONFIG_MODULE names) defines; none, if there is none."""
    name = os.environ.get("CELERY_CONFIG_MODULE", "celeryconfig")
    _here()
    try:
        module: ModuleType = import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            return {}
        raise
    return {
        key: value
        for key, value in vars(module).items()
        if key.islower() and not isinstance(value, ModuleType)
    }


def load(entries: Iterable[str]) -> Registry:
    """The machines and effects that `entries` ("module:name") name. Raises ConfigurationError that names the entry.

    DefinitionError and DuplicateMachine come through as they are.
    """
    _here()
    return Registry(_resolve(entry) for entry in entries)


def _resolve(entry: str) -> AnyMachine | AnyEffects:
    module_name, _, attribute = entry.partition(":")
    if not module_name or not attribute:
        raise ConfigurationError(f"fsm_machines: {entry!r} is not module:name")
    try:
        found = getattr(import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"fsm_machines: {entry!r}: no module {error.name!r}") from error
    except AttributeError as error:
        raise ConfigurationError(f"fsm_machines: {entry!r}: {error}") from error
    if not isinstance(found, Machine | Effects):
        raise ConfigurationError(
            f"fsm_machines: {entry!r} is a {type(found).__name__}, not a Machine or Effects"
        )
    return found


def _here() -> None:
    """The working directory is where a user's modules are, as it is for the `celery` command."""
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.insert(0, str(Path.cwd()))


def _strings(value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigurationError("fsm_machines is a list of 'module:name'")
    return [str(entry) for entry in value]


def _queues(text: str | None, configured: object) -> dict[str, int] | None:
    """Queue -> slots; None: nobody says so."""
    if text:
        entries = [entry.rpartition("=") for entry in text.replace(",", " ").split()]
        return {
            name: _slots("FSM_QUEUES", name, int(slots) if slots.isdecimal() else slots)
            for name, _, slots in entries
        }
    if configured is None:
        return None
    if not isinstance(configured, Mapping):
        raise ConfigurationError(f"fsm_queues is a dict of queue -> slots, not {configured!r:.100}")
    return {str(name): _slots("fsm_queues", str(name), slots) for name, slots in configured.items()}


def _slots(setting: str, name: str, slots: object) -> int:
    if not name or type(slots) is not int or slots < 1:
        raise ConfigurationError(f"{setting}: a queue and its slots from 1 on, not {name!r}: {slots!r}")
    return slots


def span(text: str) -> timedelta:
    """The span that `text` says: a number with s, m, h, d or w. Raises ValueError."""
    matched = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    if matched is None:
        raise ValueError(f"{text!r} is no span of time; for example 90m, 12h, 7d, 2w")
    return timedelta(**{_UNITS[matched[2]]: int(matched[1])})


def _cipher(environ: Mapping[str, str]) -> Cipher | None:
    """What encrypts payloads; None: nobody says so. The keys come from the environment alone, and no message shows one."""
    keys, file = environ.get("FSM_PAYLOAD_KEYS"), environ.get("FSM_PAYLOAD_KEYS_FILE")
    if not keys and not file:
        return None
    if keys and file:
        raise ConfigurationError("FSM_PAYLOAD_KEYS and FSM_PAYLOAD_KEYS_FILE do not go together")
    from fsm_core.postgres.sealing import Cipher

    try:
        return Cipher.from_text(keys or Path(file or "").read_text())
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"FSM_PAYLOAD_KEYS_FILE cannot be read: {error}") from error
    except ConfigurationError as error:
        name = "FSM_PAYLOAD_KEYS" if keys else "FSM_PAYLOAD_KEYS_FILE"
        raise ConfigurationError(f"{name}: {error}") from error


def _age(name: str, given: object) -> timedelta | None:
    """How long something is kept; None: for ever."""
    if given is None or given == "":
        return None
    try:
        age = given if isinstance(given, timedelta) else span(str(given))
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}") from error
    if age <= timedelta(0):
        raise ConfigurationError(f"{name} is more than nothing, not {given!r}; unset, everything is kept")
    return age


def _seconds(name: str, value: object) -> timedelta:
    try:
        span = timedelta(seconds=float(str(value)))
    except (ValueError, OverflowError):
        raise ConfigurationError(f"{name} is a number of seconds, not {value!r}") from None
    if span <= timedelta(0):
        raise ConfigurationError(f"{name} must be positive, not {value!r}")
    return span
