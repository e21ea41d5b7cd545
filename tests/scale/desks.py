"""A machine that writes to others of its kind, wherever they live."""

from dataclasses import dataclass

from fsm_core import Machine, Rejected, Send, To


@dataclass(frozen=True)
class Open:
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Closed:
    pass


@dataclass(frozen=True)
class Note:
    text: str


@dataclass(frozen=True)
class Write:
    to: str
    text: str = "hello"
    name: str = ""


@dataclass(frozen=True)
class Close:
    pass


desk = Machine("desk", states=Open | Closed, events=Note | Write | Close, initial=Open(), final=Closed)
broken: set[str] = set()


@desk.on
def note(state: Open, event: Note) -> Open:
    if event.text == "refused":
        raise Rejected("no such notes here")
    if event.text in broken:
        raise RuntimeError("a bug")
    return Open((*state.notes, event.text))


@desk.on
def write(state: Open, event: Write) -> To[Open, Send]:
    return state, [Send(event.name or desk, event.to, Note(event.text))]


@desk.on
def close(state: Open, event: Close) -> Closed:
    return Closed()
