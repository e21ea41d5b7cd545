"""A picture shows what the signatures say: states, events, actions, and for an instance the path that it took."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Never

import pytest

from examples.door import door
from examples.orders import orders
from fsm_core import After, Failed, Rejected, To
from fsm_core.diagram import Arrow, Kind, Step, dot, draw, mermaid
from fsm_core.registry import AnyMachine
from fsm_core.types import ChildEnded, Send, Spawn
from tests.core.worker import Busy, Go, Idle, Over, Ring, State, Stop, Tell, make


def arrows(machine: AnyMachine) -> list[tuple[str, str, str, Kind]]:
    return [(a.source, " + ".join(a.label), a.target, a.kind) for a in draw(machine).arrows]


def test_every_edge_is_an_arrow_with_its_event_and_actions() -> None:
    assert arrows(orders) == [
        ("New", "Pay / Charge", "Charging", Kind.EDGE),
        ("Charging", "Charged / Ship", "Shipping", Kind.EDGE),
        ("Charging", "Refused", "Declined", Kind.EDGE),
        ("Charging", "Failed[Charge] / Refund", "Cancelled", Kind.EDGE),
        ("Shipping", "Sent", "Shipped", Kind.EDGE),
        ("Shipping", "Failed[Ship] / Refund", "Cancelled", Kind.EDGE),
    ]


def test_a_result_of_several_states_is_an_arrow_to_each() -> None:
    label = "Unlock / NotifyIRC | CallThePolice"

    assert [row for row in arrows(door) if row[0] == "Locked"] == [
        ("Locked", label, after, Kind.EDGE) for after in ("Closed", "Locked", "Disabled")
    ]


def test_states_say_what_entering_emits_and_which_of_them_begin_and_end() -> None:
    nodes = {node.name: node for node in draw(orders).nodes}

    assert [name for name, node in nodes.items() if node.initial] == ["New"]
    assert [name for name, node in nodes.items() if node.final] == ["Shipped", "Declined", "Cancelled"]
    assert nodes["Shipped"].label == ("Shipped", "entry / Tell")
    assert nodes["New"].label == ("New",)
    assert [node.name for node in draw(door).nodes if node.initial] == ["Opened"]


def test_no_state_is_marked_as_the_first_where_every_one_may_be() -> None:
    m = make(states=Idle | Busy, final=None)

    @m.on
    def go(state: Idle, event: Go) -> Busy:
        return Busy()

    @m.on
    def stop(state: Busy, event: Stop) -> Idle:
        return Idle()

    assert not any(node.initial for node in draw(m).nodes)
    assert "start" not in mermaid(draw(m)) + dot(draw(m))


def test_events_between_the_same_states_share_an_arrow() -> None:
    m = make()

    @m.on
    def work(state: Idle, event: Go | Stop) -> To[Busy, Ring]:
        return Busy(), [Ring()]

    assert arrows(m) == [("Idle", "Go / Ring + Stop / Ring", "Busy", Kind.EDGE)]
    assert '"Idle" -> "Busy" [label="Go / Ring\\nStop / Ring"]' in dot(draw(m))
    assert 's_Idle -->|"Go / Ring<br/>Stop / Ring"| s_Busy' in mermaid(draw(m))


def test_actions_that_are_left_open_are_a_question_mark() -> None:
    m = make()

    @m.on
    def work(state: Idle, event: Go) -> To[Busy]:
        return Busy()

    assert arrows(m) == [("Idle", "Go / ?", "Busy", Kind.EDGE)]


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (timedelta(days=1), "after 1 d"),
        (timedelta(days=1, hours=12), "after 1 d 12 h"),
        (90, "after 1 min 30 s"),
        (0.5, "after 0.5 s"),
        (timedelta(0), "after 0 s"),
        (3600, "after 1 h"),
        (lambda state: state.job, "after ?"),
        (partial(max, 1), "after ?"),
    ],
)
def test_a_state_timeout_says_how_long_the_state_lasts(
    after: float | timedelta | Callable[[Busy], float], said: str
) -> None:
    """Where that depends on the state, no picture knows it."""
    m = make()

    @m.timeout(after=after)
    def give_up(state: Busy) -> To[Over, Ring]:
        return Over(), [Ring()]

    assert arrows(m) == [("Busy", f"{said} / Ring", "Over", Kind.EDGE)]
    assert f's_Busy -->|"{said} / Ring"| s_Over' in mermaid(draw(m))
    assert f'"Busy" -> "Over" [label="{said} / Ring"]' in dot(draw(m))
    assert [a.taken for a in draw(m, [Step("Timeout", "Busy", "Over")], "Over").arrows] == [True]


def test_a_timeout_that_always_rejects_is_a_dashed_loop() -> None:
    m = make()

    @m.timeout(after=60)
    def no(state: Busy) -> Never:
        raise Rejected

    assert arrows(m) == [("Busy", "rejects after 1 min", "Busy", Kind.REJECTS)]


def test_built_in_actions_and_events_are_called_by_their_class() -> None:
    m = make(events=Go | ChildEnded[Over])

    @m.on
    def work(state: Idle, event: Go) -> To[Busy, Spawn | Send | After[Go] | Ring]:
        return Busy()

    @m.on
    def done(state: Busy, event: ChildEnded[Over]) -> Over:
        return Over()

    assert [row[1] for row in arrows(m)] == ["Go / Spawn | Send | After | Ring", "ChildEnded[Over]"]


def test_an_edge_that_always_rejects_is_a_dashed_loop() -> None:
    m = make()

    @m.on
    def no(state: Busy, event: Go | Stop) -> Never:
        raise Rejected

    assert arrows(m) == [("Busy", "rejects Go + rejects Stop", "Busy", Kind.REJECTS)]
    assert '"Busy" -> "Busy" [label="rejects Go\\nrejects Stop", style=dashed]' in dot(draw(m))
    assert "s_Busy -.->" in mermaid(draw(m))


def test_a_fallback_with_one_result_is_one_dashed_arrow_for_each_state() -> None:
    m = make()

    @m.on
    def work(state: Idle, event: Go) -> Busy:
        return Busy()

    @m.otherwise
    def give_up(state: State, event: Stop | Failed[Ring]) -> To[Over, Tell]:
        return Over(), [Tell()]

    graph = draw(m)
    assert arrows(m)[1:] == [
        (name, "otherwise: Stop, Failed[Ring] / Tell", "Over", Kind.OTHERWISE) for name in ("Idle", "Busy")
    ]
    assert graph.notes == ("otherwise (give_up) also answers in Over, and keeps the state",)
    assert "style=dashed" in dot(graph)
    assert all(note in mermaid(graph) and note in dot(graph) for note in graph.notes)


def test_a_fallback_with_several_results_meets_in_one_point() -> None:
    """With n states and m results there are n + m arrows."""
    m = make()

    @m.on
    def work(state: Idle, event: Go) -> Busy:
        return Busy()

    @m.otherwise
    def keep(state: Idle | Busy, event: Go | Stop) -> To[Idle | Busy | Over, Tell]:
        return state

    assert [node.label for node in draw(m).nodes if node.hub] == [("otherwise / Tell",)]
    assert [row[:3] for row in arrows(m)[1:]] == [
        ("Idle", "Stop", "otherwise 1"),
        ("Busy", "Go, Stop", "otherwise 1"),
        ("otherwise 1", "", "Idle"),
        ("otherwise 1", "", "Busy"),
        ("otherwise 1", "", "Over"),
    ]


def test_a_fallback_for_many_events_says_how_many() -> None:
    m = make(events=Go | Stop | Failed[Ring] | Idle, states=Busy | Over)

    @m.otherwise
    def end(state: Busy, event: Go | Stop | Failed[Ring] | Idle) -> Over:
        return Over()

    assert arrows(m) == [("Busy", "otherwise: 4 events", "Over", Kind.OTHERWISE)]


def test_a_fallback_that_always_rejects_is_a_note() -> None:
    m = make()

    @m.on
    def work(state: Idle, event: Go) -> Busy:
        return Busy()

    @m.otherwise
    def refuse(state: State, event: Go | Stop) -> Never:
        raise Rejected

    assert len(arrows(m)) == 1
    assert draw(m).notes == ("otherwise (refuse) rejects 5 more pairs of state and event",)


def test_the_path_and_the_current_state_of_an_instance_are_highlighted() -> None:
    path = [Step("Close", "Opened", "Closed"), Step("Lock", "Closed", "Locked"), Step("Unlock", "Locked", "Locked")]  # fmt: skip

    graph = draw(door, path, "Locked")

    assert [(a.source, a.target) for a in graph.arrows if a.taken] == [
        ("Opened", "Closed"), ("Closed", "Locked"), ("Locked", "Locked"),
    ]  # fmt: skip
    assert [node.name for node in graph.nodes if node.current] == ["Locked"]
    assert [node.name for node in graph.nodes if node.visited] == ["Opened", "Closed", "Locked"]
    # mermaid counts links: the one from the start is number 0.
    assert "linkStyle 1,3,5 stroke" in mermaid(graph)
    assert dot(graph).count("penwidth=2.5") == 3 + 1


def test_a_path_parts_the_arrow_that_it_took_from_those_beside_it() -> None:
    m = make()

    @m.on
    def work(state: Idle, event: Go | Stop) -> Busy:
        return Busy()

    assert draw(m, [Step("Stop", "Idle", "Busy")], "Busy").arrows == (
        Arrow("Idle", "Busy", ("Go",)),
        Arrow("Idle", "Busy", ("Stop",), taken=True),
    )


def test_a_path_through_a_fallback_is_highlighted_on_both_sides_of_its_point() -> None:
    m = make()

    @m.otherwise
    def keep(state: Idle | Busy, event: Go | Stop) -> Idle | Busy:
        return state

    taken = [(a.source, a.target) for a in draw(m, [Step("Stop", "Busy", "Idle")], "Idle").arrows if a.taken]

    assert taken == [("Busy", "otherwise 1"), ("otherwise 1", "Idle")]


def test_an_instance_that_had_no_event_yet_stands_in_its_state() -> None:
    graph = draw(door, (), "Opened")

    assert [node.name for node in graph.nodes if node.current] == ["Opened"]
    assert not any(arrow.taken for arrow in graph.arrows)


def test_a_step_of_older_code_highlights_the_states_that_are_left() -> None:
    graph = draw(door, [Step("Kick", "Ajar", "Opened")], "Opened")

    assert [node.name for node in graph.nodes if node.visited] == ["Opened"]


@pytest.mark.parametrize(
    ("name", "in_mermaid", "in_dot"),
    [
        ("end", 's_end("end")', '"end" [label="end"]'),  # a word of mermaid's own
        ("Tür", 's0("Tür")', '"Tür" [label="Tür"]'),
        (
            'A["x"]',
            's0("A[#quot;x#quot;]")',
            r'"A[\"x\"]" [label="A[\"x\"]"]',
        ),  # as generic models are called
        ("#1&<b>", 's0("#35;1#amp;#lt;b#gt;")', '"#1&<b>" [label="#1&<b>"]'),
        ("a\\", 's0("a\\")', r'"a\\" [label="a\\"]'),
    ],
)
def test_any_name_of_a_class_is_written_so_that_it_is_read(name: str, in_mermaid: str, in_dot: str) -> None:
    graph = draw(make(states=type(name, (), {}) | Idle, final=None))

    assert mermaid(graph).splitlines()[1].strip() == in_mermaid
    assert dot(graph).splitlines()[3].strip() == in_dot


def test_a_picture_names_the_version_of_its_machine() -> None:
    assert draw(make(version=2)).name == "m v2"
    assert dot(draw(make())).startswith('digraph "m" {\n')
