"""The other databases of a deployment that has several: what a worker needs to know to take messages to them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsm_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsm_core.delivery.ports import WorkerStore
    from fsm_core.postgres.sharded import Post
    from fsm_core.registry import Registry
    from workers.settings import Settings

_NAME = re.compile(r"[\w.-]+")
"""What a shard may be called: no address, as which one without a name would be read."""


@dataclass(frozen=True)
class Shards:
    """The databases by the names of their shards, as `ShardedStore` has them. here: whose `DATABASE_URL` is this process's.

    former: the sets of names that there were before, the latest first. Raises ConfigurationError: `here` is none of them.
    """

    here: str
    urls: Mapping[str, str]
    former: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if self.here not in self.urls:
            raise ConfigurationError(
                f"FSM_SHARD is one of FSM_SHARDS ({', '.join(self.urls)}), not {self.here!r}"
            )


def read(environ: Mapping[str, str], configured: Mapping[str, object]) -> Shards | None:
    """FSM_SHARDS (`a=postgresql://... b=postgresql://...`), FSM_SHARD and FSM_FORMER_SHARDS (`a,b a`); None: there is one database.

    Raises ConfigurationError that names the variable. No message shows an address: there may be a password in it.
    """
    given = environ.get("FSM_SHARDS") or configured.get("fsm_shards")
    if not given:
        if alone := environ.get("FSM_SHARD") or configured.get("fsm_shard"):
            raise ConfigurationError(
                f"FSM_SHARD is {alone!r}, and FSM_SHARDS does not say which shards there are"
            )
        return None
    entries = (
        given.items()
        if isinstance(given, dict)
        else [each.partition("=")[::2] for each in str(given).split()]
    )
    urls = {str(name): str(url) for name, url in entries}
    if not all(map(_NAME.fullmatch, urls)) or not all(urls.values()) or len(urls) != len(entries):
        raise ConfigurationError("FSM_SHARDS is like `a=postgresql://... b=postgresql://...`, each name once")
    former = environ.get("FSM_FORMER_SHARDS") or str(configured.get("fsm_former_shards") or "")
    return Shards(
        environ.get("FSM_SHARD") or str(configured.get("fsm_shard") or ""),
        urls,
        tuple(tuple(names.split(",")) for names in former.split()),
    )


def post(settings: Settings, registry: Registry, home: WorkerStore, connections: int) -> Post:
    """What takes a worker's messages to the other databases, with at most so many `connections` to each.

    Raises ConfigurationError: a former shard is not there any more.
    """
    from fsm_core.postgres.engine import own_engine
    from fsm_core.postgres.sharded import Letterbox, Places, Post

    shards = settings.shards or Shards("", {"": ""})
    boxes = {
        name: Letterbox(
            own_engine(url, pool_size=connections, patience=settings.patience.total_seconds()),
            machines=registry.machines(),
            schema=settings.schema,
            cipher=settings.cipher,
        )
        for name, url in shards.urls.items()
        if name != shards.here
    }
    return Post(home, shards.here, Places(tuple(shards.urls), shards.former), boxes)
