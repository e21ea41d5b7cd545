"""Several databases behind one store: each machine lives whole on one of them, and the key says on which. Messages go between them."""

from fsm_core.postgres.sharded.aio import AsyncShardedStore
from fsm_core.postgres.sharded.placing import Places
from fsm_core.postgres.sharded.post import Letterbox, Post
from fsm_core.postgres.sharded.sync import ShardedStore

__all__ = ["AsyncShardedStore", "Letterbox", "Places", "Post", "ShardedStore"]
