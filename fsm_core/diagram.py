"""Pictures of a machine: its signatures as a graph, and the graph as mermaid or dot text. Pure; runs no transition.

An arrow says `Event / Action | Other`: what comes, and what its function may emit; `?` stands for actions that `To[S]`
leaves open. A state timeout says `after 1 d`, or `after ?` where it depends on the state. A state says what entering it may
emit. For one instance, the arrows and states of its path are highlighted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from fsm_core.edges import constant
from fsm_core.reach import starts
from fsm_core.signature import emitted
from fsm_core.types import Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import timedelta

    from fsm_core.edges import Edge
    from fsm_core.registry import AnyMachine
    from fsm_core.unions import Member

_MOST_NAMED = 3
_VISITED = "#fff3d6"
_CURRENT = "#ffd27a"
_TAKEN = "#b35900"


class Step(NamedTuple):
    """One event in the life of an instance, by names: what came, in which state, and the state after it."""

    event: str
    before: str
    after: str


class Kind(StrEnum):
    """What an arrow stands for: an `on`, an `otherwise`, or an `on` that always rejects."""

    EDGE = "edge"
    OTHERWISE = "otherwise"
    REJECTS = "rejects"


@dataclass(frozen=True, slots=True)
class Node:
    """A state; or (`hub`) where all arrows of one `otherwise` meet that has several results: n + m, and not n * m."""

    name: str
    label: tuple[str, ...]
    initial: bool = False
    final: bool = False
    hub: bool = False
    visited: bool = False
    current: bool = False


@dataclass(frozen=True, slots=True)
class Arrow:
    """A way from one node to another, with a line for each event. `taken`: it lies on the path of the instance."""

    source: str
    target: str
    label: tuple[str, ...]
    kind: Kind = Kind.EDGE
    taken: bool = False


@dataclass(frozen=True, slots=True)
class Graph:
    """A picture as a value. `notes` say what is not drawn."""

    name: str
    nodes: tuple[Node, ...]
    arrows: tuple[Arrow, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Fallback:
    """One `otherwise` function with the pairs that no `on` takes from it."""

    edge: Edge
    pairs: list[tuple[Member, Member]]
    number: int

    @property
    def name(self) -> str:
        return f"otherwise {self.number}"  # a state's name has no space

    @property
    def targets(self) -> list[str]:
        return [state.name for state in self.edge.result.states]


def draw(machine: AnyMachine, path: Iterable[Step] = (), current: str | None = None) -> Graph:
    """The graph of `machine`; for an instance, with the `path` that it took and its `current` state. Freezes the machine."""
    steps = frozenset(path)
    fallbacks = _fallbacks(machine)
    hubs = [fallback for fallback in fallbacks if len(fallback.targets) > 1]
    arrows = list(_edges(machine, steps))
    for fallback in fallbacks:
        arrows += _ways(machine, fallback, steps, through=fallback in hubs)
    label = machine.name if machine.version == 1 else f"{machine.name} v{machine.version}"
    nodes = [*_states(machine, steps, current), *(_hub(hub) for hub in hubs)]
    notes = [note for fallback in fallbacks for note in _notes(machine, fallback)]
    return Graph(label, tuple(nodes), _merged(arrows), tuple(notes))


def _states(machine: AnyMachine, steps: frozenset[Step], current: str | None) -> Iterator[Node]:
    seen = {name for step in steps for name in (step.before, step.after)} | {current}
    begin = starts(machine)
    # Each state may be the first one only where nothing is known of it.
    known = machine.initial is not None or len(begin) < len(machine.states)
    for name, state in machine.states.items():
        label = [name]
        entry = machine.entries.get(state.cls)
        if entry is not None:
            label.append(_says("entry", emitted(entry.signature.returns, entry.signature.place)))
        yield Node(
            name,
            tuple(label),
            initial=known and state.cls in begin,
            final=state.cls in machine.final,
            visited=name in seen,
            current=name == current,
        )


def _edges(machine: AnyMachine, steps: frozenset[Step]) -> Iterator[Arrow]:
    for state, event, edge in _pairs(machine, fallback=False):
        what = event.name if event.cls is not Timeout else _lasts(machine, state)
        if not edge.result.states:
            yield Arrow(state.name, state.name, (f"rejects {what}",), Kind.REJECTS)
        for after in edge.result.states:
            taken = Step(event.name, state.name, after.name) in steps
            label = (_says(what, edge.result.actions),)
            yield Arrow(state.name, after.name, label, taken=taken)


def _lasts(machine: AnyMachine, state: Member) -> str:
    """How a picture calls the timeout of a state."""
    timeouts = machine.timeouts
    after = timeouts[state.cls].after
    if isinstance(after, partial) and after.func is constant:
        return f"after {spelled(after.args[0])}"
    return "after ?"


def spelled(span: timedelta) -> str:
    """`1 d 12 h`, `90 s` as `1 min 30 s`, `0.5 s`."""
    left = span.total_seconds()
    parts = []
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("min", 60)):
        whole, left = divmod(left, seconds)
        parts += [f"{whole:.0f} {unit}"] if whole else []
    return " ".join([*parts, f"{left:g} s"] if left or not parts else parts)


def _pairs(machine: AnyMachine, *, fallback: bool) -> Iterator[tuple[Member, Member, Edge]]:
    """The pairs of state and event that an edge takes, in the order in which the unions name them."""
    for state in machine.states.values():
        for event in machine.events.values():
            edge = machine.edges.get((state.cls, event.key))
            if edge is not None and edge.fallback is fallback:
                yield state, event, edge


def _fallbacks(machine: AnyMachine) -> list[_Fallback]:
    found: dict[Callable[..., Any], _Fallback] = {}
    for state, event, edge in _pairs(machine, fallback=True):
        known = found.setdefault(edge.function, _Fallback(edge, [], len(found) + 1))
        known.pairs.append((state, event))
    return list(found.values())


def _ways(
    machine: AnyMachine, fallback: _Fallback, steps: frozenset[Step], *, through: bool
) -> Iterator[Arrow]:
    """The arrows of one `otherwise`, through its hub or straight to its one result. A final state is never left."""
    events: dict[str, list[str]] = {}
    for state, event in fallback.pairs:
        if state.cls not in machine.final:
            events.setdefault(state.name, []).append(event.name)
    reached: set[str] = set()
    for state_name, names in events.items():
        after = {t for t in fallback.targets for e in names if Step(e, state_name, t) in steps}
        reached |= after
        what = ", ".join(names) if len(names) <= _MOST_NAMED else f"{len(names)} events"
        if through:
            yield Arrow(state_name, fallback.name, (what,), Kind.OTHERWISE, taken=bool(after))
            continue
        label = (_says(f"otherwise: {what}", fallback.edge.result.actions),)
        for target in fallback.targets:
            yield Arrow(state_name, target, label, Kind.OTHERWISE, taken=bool(after))
    if through and events:
        for target in fallback.targets:
            yield Arrow(fallback.name, target, (), Kind.OTHERWISE, taken=target in reached)


def _hub(fallback: _Fallback) -> Node:
    return Node(fallback.name, (_says("otherwise", fallback.edge.result.actions),), hub=True)


def _notes(machine: AnyMachine, fallback: _Fallback) -> Iterator[str]:
    what = f"otherwise ({fallback.edge.signature.function.__name__})"
    if not fallback.targets:
        yield f"{what} rejects {len(fallback.pairs)} more pairs of state and event"
        return
    ended = dict.fromkeys(state.name for state, _ in fallback.pairs if state.cls in machine.final)
    if ended:
        yield f"{what} also answers in {', '.join(ended)}, and keeps the state"


def _merged(arrows: Iterable[Arrow]) -> tuple[Arrow, ...]:
    """Arrows side by side become one with several lines; those taken stay apart from those not taken."""
    lines: dict[tuple[str, str, Kind, bool], list[str]] = {}
    for arrow in arrows:
        lines.setdefault((arrow.source, arrow.target, arrow.kind, arrow.taken), []).extend(arrow.label)
    return tuple(
        Arrow(source, target, tuple(label), kind, taken)
        for (source, target, kind, taken), label in lines.items()
    )


def _says(what: str, actions: Sequence[Member] | None) -> str:
    """`what / Action | Other`."""
    if actions is None:
        return f"{what} / ?"
    return f"{what} / {' | '.join(action.name for action in actions)}" if actions else what


def mermaid(graph: Graph) -> str:
    """The graph as a mermaid flowchart: GitHub and most documentation tools draw it."""
    ids = {node.name: _mermaid_id(number, node.name) for number, node in enumerate(graph.nodes)}
    lines = ["flowchart TD"]
    for node in graph.nodes:
        left, right = ("[[", "]]") if node.final else ("([", "])") if node.hub else ("(", ")")
        lines.append(f"{ids[node.name]}{left}{_mermaid_text(node.label)}{right}")
    begin = [ids[node.name] for node in graph.nodes if node.initial]
    lines += ['start((" "))'] if begin else []
    lines += [f"start --> {state}" for state in begin]
    for arrow in graph.arrows:
        line = "-->" if arrow.kind is Kind.EDGE else "-.->"
        label = f"|{_mermaid_text(arrow.label)}|" if arrow.label else ""
        lines.append(f"{ids[arrow.source]} {line}{label} {ids[arrow.target]}")
    lines += [f"notes[{_mermaid_text(graph.notes)}]"] if graph.notes else []
    lines += _mermaid_looks(graph, ids, len(begin))
    return "\n    ".join(lines) + "\n"


def _mermaid_looks(graph: Graph, ids: dict[str, str], before: int) -> Iterator[str]:
    """The classes and link styles that the graph uses. mermaid counts links; `before` is how many stand before the arrows."""
    looks = {
        "fill:#333,stroke:#333": ["start"] if before else [],
        "stroke-dasharray:4 3": [ids[node.name] for node in graph.nodes if node.hub],
        f"fill:{_VISITED},color:#000": [
            ids[node.name] for node in graph.nodes if node.visited and not node.current
        ],
        f"fill:{_CURRENT},color:#000,stroke:{_TAKEN},stroke-width:3px": [
            ids[node.name] for node in graph.nodes if node.current
        ],
        "fill:none,stroke:none": ["notes"] if graph.notes else [],
    }
    for look, named in looks.items():
        yield from (f"style {name} {look}" for name in named)
    taken = [str(number) for number, arrow in enumerate(graph.arrows, before) if arrow.taken]
    if taken:
        yield f"linkStyle {','.join(taken)} stroke:{_TAKEN},stroke-width:3px"


def _mermaid_id(number: int, name: str) -> str:
    """Never a word of mermaid's own, such as `end`."""
    return f"s_{name}" if name.isidentifier() and name.isascii() else f"s{number}"


def _mermaid_text(lines: Sequence[str]) -> str:
    text = "\n".join(lines).replace("#", "#35;")
    for char, name in (("&", "amp"), ('"', "quot"), ("<", "lt"), (">", "gt")):
        text = text.replace(char, f"#{name};")
    return '"' + text.replace("\n", "<br/>") + '"'


def dot(graph: Graph) -> str:
    """The graph in Graphviz's language."""
    lines = [
        f"digraph {_dot_text([graph.name])} {{",
        'node [shape=box, style=rounded, fontname="sans-serif"]',
    ]
    lines += ['edge [fontname="sans-serif", fontsize=11]']
    for node in graph.nodes:
        lines.append(f"{_dot_text([node.name])} [{_dot_look(node)}]")
    if any(node.initial for node in graph.nodes):
        lines.append('"(start)" [shape=point, width=0.15]')
    lines += [f'"(start)" -> {_dot_text([node.name])}' for node in graph.nodes if node.initial]
    for arrow in graph.arrows:
        look = f"label={_dot_text(arrow.label)}"
        look += "" if arrow.kind is Kind.EDGE else ", style=dashed"
        look += f', color="{_TAKEN}", penwidth=2.5' if arrow.taken else ""
        lines.append(f"{_dot_text([arrow.source])} -> {_dot_text([arrow.target])} [{look}]")
    lines += [f"label={_dot_text(graph.notes)}", "labelloc=b"] if graph.notes else []
    return "\n    ".join(lines) + "\n}\n"


def _dot_look(node: Node) -> str:
    look = f"label={_dot_text(node.label)}"
    look += ", peripheries=2" if node.final else ""
    look += ', style="rounded,dashed"' if node.hub else ""
    if node.current:
        return f'{look}, style="rounded,filled", fillcolor="{_CURRENT}", color="{_TAKEN}", penwidth=2.5'
    return f'{look}, style="rounded,filled", fillcolor="{_VISITED}"' if node.visited else look


def _dot_text(lines: Sequence[str]) -> str:
    text = "\n".join(lines).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + text.replace("\n", "\\n") + '"'
