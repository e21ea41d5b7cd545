"""The forms in which a union of classes and the result of an edge may be written."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Never, NoReturn, TypeVar, Union

import pytest

from fsm_core import Failed, Machine, To, Untracked, advance
from fsm_core.errors import DefinitionError, Rejected
from fsm_core.registry import AnyMachine
from fsm_core.signature import result
from fsm_core.unions import members


@dataclass(frozen=True)
class A:
    pass


@dataclass(frozen=True)
class B:
    pass


@dataclass(frozen=True)
class X:
    pass


@dataclass(frozen=True)
class Y:
    pass


T = TypeVar("T")


@pytest.mark.parametrize(
    ("form", "names"),
    [
        (A, ["A"]),
        (A | B, ["A", "B"]),
        (Union[A, B], ["A", "B"]),  # noqa: UP007
        (Union[B, Union[A, B]], ["B", "A"]),  # noqa: PYI016, UP007
        (Annotated[A, "note"] | B, ["A", "B"]),
        (Annotated[A | B, "note"], ["A", "B"]),
        (Failed[A] | B, ["Failed[A]", "B"]),
        (Failed[A | B], ["Failed[A]", "Failed[B]"]),
        (Never, []),
        (NoReturn, []),
    ],
)
def test_every_spelling_of_a_union_gives_its_members_in_order(form: object, names: list[str]) -> None:
    """A union is read in the order written, each member once."""
    assert [m.name for m in members(form, "here")] == names


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement came with Python 3.12")
def test_a_type_alias_is_read_through() -> None:
    """`type Both = A | B` means what it names, nested ones too."""
    space: dict[str, Any] = {"A": A, "B": B, "X": X}
    exec("type Both = A | B\ntype All = Both | X", space)

    assert [m.name for m in members(space["All"], "here")] == ["A", "B", "X"]


def test_an_object_with_a_value_like_a_type_alias_is_read_through() -> None:
    """What carries `__value__`, as the alias of the `type` statement does, is what it names (on every Python)."""
    typing_extensions = pytest.importorskip("typing_extensions")
    both = typing_extensions.TypeAliasType("both", A | B)

    assert [m.name for m in members(both, "here")] == ["A", "B"]
    assert [m.name for m in result(To[both, X], "here").states] == ["A", "B"]


def test_untracked_is_said_once_in_the_union() -> None:
    """`Untracked[X]` marks the one action, or all of a union, as fire-and-forget."""
    m = Machine("m", states=A, events=B, actions=X | Untracked[Y])

    assert (m.tracked(X()), m.tracked(Y())) == (True, False)
    assert [u.tracked for u in members(Untracked[X | Y], "here")] == [False, False]
    assert [u.tracked for u in members(Annotated[X, "other"], "here")] == [True]


@pytest.mark.parametrize(
    "form", [None, A | None, object, Any, T, "A", 3, list[A], tuple, Failed, dict[str, A]]
)
def test_what_is_no_class_is_refused_with_the_place(form: object) -> None:
    """The message begins with where the union stands."""
    with pytest.raises(DefinitionError, match=r"^here: "):
        members(form, "here")


@pytest.mark.parametrize(
    ("form", "states", "actions"),
    [
        (A, ["A"], []),
        (A | B, ["A", "B"], []),
        (To[A], ["A"], None),
        (To[A | B, X], ["A", "B"], ["X"]),
        (To[A, X | Y], ["A"], ["X", "Y"]),
        (To[A, Never], ["A"], []),
        (To[A, X] | B, ["A", "B"], ["X"]),
        (B | To[A, X], ["B", "A"], ["X"]),
        (To[A, X] | To[B], ["A", "B"], None),
        (Union[To[A, X], B], ["A", "B"], ["X"]),  # noqa: UP007
        (tuple[A, list[X]], ["A"], ["X"]),
        (tuple[A, Sequence[X | Y]], ["A"], ["X", "Y"]),
        (tuple[A, tuple[X, ...]], ["A"], ["X"]),
        (tuple[A, tuple[X, Y]], ["A"], ["X", "Y"]),
        (A | tuple[B, list[X]], ["A", "B"], ["X"]),
        (Never, [], []),
        (NoReturn, [], []),
    ],
)
def test_every_spelling_of_a_result_names_its_states_and_actions(
    form: object, states: list[str], actions: list[str] | None
) -> None:
    """`To[S, A]`, a state, a tuple and unions of them are read alike; None are actions that are left open."""
    read = result(form, "here")

    assert [m.name for m in read.states] == states
    assert (None if read.actions is None else [m.name for m in read.actions]) == actions


def declared(returns: object) -> AnyMachine:
    m = Machine("m", states=A | B, events=A | B, actions=X | Y)

    def f(state: A, event: B) -> object:
        return B(), [X()]

    f.__annotations__["return"] = returns
    m.on(f)
    return m


@pytest.mark.parametrize("returns", [To[B], To[B, X], tuple[B, list[X]], A | To[B, X]])
def test_an_edge_that_is_named_runs(returns: object) -> None:
    """Each spelling declares an edge that `advance` takes."""
    assert advance(declared(returns), A(), B()) == (B(), [X()])


def test_never_is_an_edge_that_always_rejects() -> None:
    """An edge to Never is there, and can only raise."""
    m = Machine("m", states=A, events=B)

    @m.on
    def no(state: A, event: B) -> Never:
        raise Rejected("not here")

    assert m.takes(A(), B())
    with pytest.raises(Rejected, match="not here"):
        advance(m, A(), B())


def test_a_machine_without_actions_leaves_them_out() -> None:
    """`actions=` and `actions=Never` are the same: none."""
    assert (
        Machine("m", states=A, events=B).actions
        == Machine("m", states=A, events=B, actions=Never).actions
        == {}
    )
