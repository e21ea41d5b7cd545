"""The tree of errors is the one that its module draws, and each error survives a process boundary."""

import inspect
import pickle
import re

import pytest

from fsm_core import errors
from fsm_core.errors import (
    ActionNotFound,
    BrokerUnavailable,
    Busy,
    ChildExists,
    ConstraintViolated,
    DatabaseError,
    DedupMismatch,
    DefinitionError,
    DuplicateMachine,
    EventNotFound,
    FsmError,
    Impure,
    InboxFull,
    InvalidKey,
    InvalidPayload,
    InvariantViolated,
    MachineEnded,
    MachineNotFound,
    NotRetried,
    Overloaded,
    PayloadTooLarge,
    Rejected,
    ReplayFailed,
    StoreError,
    UnhandledEvent,
    UnknownMachine,
    UnknownType,
    WrongSeq,
    WrongStatus,
)


def drawn() -> dict[str, str | None]:
    """Each class of the drawing with its parent."""
    lines = re.findall(r"^([│├└─ ]*)([A-Z]\w+)(?=\s|$)", errors.__doc__ or "", re.MULTILINE)
    tree = [(len(indent) // 4, name) for indent, name in lines if indent or name == "FsmError"]
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for depth, name in tree:
        del path[depth:]
        parents[name] = path[-1] if path else None
        path.append(name)
    return parents


def test_the_drawing_is_the_tree() -> None:
    """Every class is drawn under its base, and nothing is drawn that is not there."""
    real = {
        name: None if cls is FsmError else cls.__bases__[0].__name__
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if cls.__module__ == errors.__name__
    }

    assert drawn() == real
    assert len(real) > 30


@pytest.mark.parametrize(
    "error",
    [
        DefinitionError("wrong"),
        DuplicateMachine("door", 2),
        InvalidPayload("NUL", "event.a"),
        PayloadTooLarge("event", 70_000, 65_536),
        InvalidKey("", "empty"),
        InvalidKey(10**5_000, "too long"),
        UnknownMachine("door", 3, ("door", "lamp")),
        UnknownType("door", "event", "Kick", ("Open", "Close")),
        Rejected("no"),
        ConstraintViolated("never_below_zero", "a row of accounts"),
        ChildExists("leg", "t-rome"),
        InvariantViolated("till", "Till", "below zero"),
        UnhandledEvent("door", "Opened", "Lock"),
        MachineEnded("door", "front", "cancelled"),
        WrongSeq(3, 4),
        DedupMismatch("evt-1", None),
        InboxFull(1_000),
        Overloaded("door", "front", "100 of its actions are open"),
        WrongStatus("id", "running", ("failed",)),
        NotRetried("id"),
        MachineNotFound("door", "front"),
        ActionNotFound("id"),
        EventNotFound("door", "front", 9, 3),
        ReplayFailed("door", "front", 2, "Lock", "no edge"),
        Impure("lock (door.py:3)", "datetime.now", "door.py:4"),
        StoreError("broke", where="postgresql://db/app"),
        DatabaseError("broke", sqlstate="23514", where="postgresql://db/app"),
        Busy("locked", sqlstate="55P03").during("advance door/front"),
        BrokerUnavailable("refused", "redis://:***@db"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_an_error_comes_out_of_another_process_as_it_went_in(error: FsmError) -> None:
    """Pickled and read back it has its class, its text and its data: a process pool must not hang on it."""
    back = pickle.loads(pickle.dumps(error))

    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


def test_an_error_of_the_application_keeps_its_own_data() -> None:
    """A subclass of Rejected with a constructor of its own survives as well."""
    back = pickle.loads(pickle.dumps(TooPoor(3)))

    assert (type(back), back.missing, back.reason, str(back)) == (TooPoor, 3, "3 missing", "3 missing")


class TooPoor(Rejected):
    def __init__(self, missing: int) -> None:
        super().__init__(f"{missing} missing")
        self.missing = missing


def test_the_innermost_note_of_what_was_done_stays() -> None:
    """The context comes first in the text, the address last."""
    error = StoreError("broke", where="postgresql://db/app")

    assert error.during("advance door/front").during("more") is error
    assert str(error) == "advance door/front: broke (postgresql://db/app)"
