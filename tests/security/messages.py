"""Messages as an attacker writes them who reaches the broker."""

import base64
import json
import os
import pickle
import uuid
from pathlib import Path
from typing import Any

MINE = str(uuid.uuid4())


class Evil:
    """Whoever unpickles it makes the file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.canary}'",)


def task(args: object = (), embedded: object = None, kwargs: object = None) -> bytes:
    """A body as Celery writes it."""
    nothing = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return json.dumps([args, kwargs or {}, nothing if embedded is None else embedded]).encode()


def envelope(
    body: bytes, headers: object = None, kind: str = "application/json", encoding: str = "utf-8", **properties: object
) -> str:  # fmt: skip
    """What lies in the queue. headers: laid over those of our task, if they are a dict."""
    ours = {"lang": "py", "task": "fsm.run", "id": MINE, "root_id": None, "parent_id": None}
    return json.dumps({
        "body": base64.b64encode(body).decode(),
        "content-encoding": encoding,
        "content-type": kind,
        "headers": {**ours, **headers} if isinstance(headers, dict) else ours if headers is None else headers,
        "properties": {
            "correlation_id": MINE, "reply_to": "", "delivery_mode": 2, "priority": 0, "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": "default"}, "delivery_tag": str(uuid.uuid4()), **properties,
        },
    })  # fmt: skip


def signature(name: str = "fsm.run") -> dict[str, object]:
    """A task to run next, in a queue that nobody serves: there it can be seen whether it was sent."""
    return {"task": name, "args": [], "kwargs": {}, "options": {"queue": "elsewhere"}, "subtask_type": None}


ARGS = [str(uuid.uuid4()), [f"{uuid.uuid4()}.1.0"]]


def embedding() -> dict[str, str]:
    """Messages of our task whose body asks Celery for more."""
    return {
        name: envelope(task(ARGS, {name: [signature()]})) for name in ("callbacks", "errbacks", "chain")
    } | {"chord": envelope(task(ARGS, {"chord": signature()}), {"group": MINE, "ignore_result": False})}


def hostile(canary: Path) -> dict[str, bytes | str]:
    """Everything else, by what is wrong with it."""
    unpickled = pickle.dumps(Evil(canary))
    yaml = f"!!python/object/apply:os.system ['touch {canary}']".encode()
    without_id = json.loads(envelope(task(ARGS)))
    del without_id["headers"]["id"]
    old = json.dumps({"task": "fsm.run", "id": MINE, "args": ARGS, "kwargs": {}, "callbacks": [signature()]})
    return {
        "a pickle": unpickled,
        "text": b"hello",
        "a list": b"[]",
        "null": b"null",
        "an empty object": b"{}",
        "deep": b"[" * 100_000,
        "no envelope": b'{"body": "e30=", "headers": {"task": "fsm.run"}}',
        "a body in pickle": envelope(unpickled, None, "application/x-python-serialize", "binary"),
        "a body in yaml": envelope(yaml, None, "application/x-yaml"),
        "a body in msgpack": envelope(b"\x80", None, "application/x-msgpack", "binary"),
        "a body that is no json": envelope(b"{"),
        "a body that is deep": envelope(b"[" * 100_000),
        "a body that is no triple": envelope(b"{}"),
        "a body of numbers": envelope(b"[1, 2, 3]"),
        "a type of kombu's": envelope(b'{"__type__": "base64", "__value__": 5}'),
        "keywords": envelope(task(ARGS, kwargs={"x": 1})),
        "too many arguments": envelope(task([*ARGS, 1])),
        "ids without end": envelope(task([ARGS[0], ["x"] * 100_000])),
        "no id": json.dumps(without_id),
        "an id that is an object": envelope(task(ARGS), {"id": {"a": 1}}),
        "a task that is a list": envelope(task(ARGS), {"task": ["fsm.run"]}),
        "headers that are a list": envelope(task(ARGS), ["task"]),
        "celery's first protocol": envelope(old.encode(), {"task": None}),
        "an unknown task": envelope(task(ARGS), {"task": "os.system"}),
        "somebody's shared task": envelope(task(ARGS), {"task": "somebody.elses"}),
        "celery.map": envelope(task([signature(), [1]]), {"task": "celery.map"}),
        "celery.chunks": envelope(task([signature(), [[1]], 1]), {"task": "celery.chunks"}),
        "celery.chain": envelope(task([]), {"task": "celery.chain"}),
        "celery.group": envelope(task([[signature()], None, None]), {"task": "celery.group"}),
        "celery.chord_unlock": envelope(task([MINE, signature()]), {"task": "celery.chord_unlock"}),
        "celery.backend_cleanup": envelope(task([]), {"task": "celery.backend_cleanup"}),
        "a compression": envelope(task(ARGS), {"compression": "zlib"}),
        "a name in two lines": envelope(task(ARGS), {"shadow": "x\n[CRITICAL] forged"}),
        "a name that is an object": envelope(task(ARGS), {"shadow": {"a": 1}}),
        "a time far away": envelope(task(ARGS), {"eta": "2999-01-01T00:00:00"}),
        "a time that is none": envelope(task(ARGS), {"eta": []}),
        "an end that is over": envelope(task(ARGS), {"expires": "2001-01-01T00:00:00"}),
        "limits": envelope(task(ARGS), {"timelimit": [0.001, 0.001]}),
        "limits that are none": envelope(task(ARGS), {"timelimit": "ab"}),
        "stamps": envelope(task(ARGS), {"stamps": 5, "stamped_headers": ["x"]}),
        "retries": envelope(task(ARGS), {"retries": "x", "replaced_task_nesting": "x", "origin": 5, "argsrepr": {}}),
        "no delivery tag": envelope(task(ARGS), delivery_tag=None),
        "no delivery info": envelope(task(ARGS), delivery_info=[]),
        "an encoding that is none": envelope(task(ARGS), encoding="utf-99"),
        "a priority that is none": envelope(task(ARGS), priority="x"),
        "an unknown action": envelope(task(ARGS)),
        "a ticket that is none": envelope(task(["x", ARGS[1]])),
        "ids that are none": envelope(task([ARGS[0], ["'; DROP TABLE fsm.actions; --", 5, None]])),
    }  # fmt: skip
