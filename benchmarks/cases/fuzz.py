"""100,000 payloads that nobody vouches for: an event or one typed error for each, and none takes long.

Each is read and, if it is an event, written again, as `fsm send` does: bombs made by hand, what Hypothesis draws, and
that spoiled: a byte changed, a piece missing or twice.
What counts is the time on the processor; the slowest ones are run again, so that a collection or a page fault is nobody's.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from time import thread_time

from hypothesis import HealthCheck, Phase, given, settings

from benchmarks.frame import Options, Row, Target
from fsm_core.codec import encode, read_input
from fsm_core.errors import FsmError
from tests.core.payloads import BOMBS, EVENTS, SENT, target

MOST_MS = Target(most=50)
NONE = Target(most=0)
KEPT = 20
SPOILED = 4
SHOWN = 40

machine = target()


@dataclass
class Tally:
    """What became of the payloads, and the slowest of them."""

    outcomes: Counter[str] = field(default_factory=Counter)
    untyped: list[str] = field(default_factory=list)
    slowest: list[tuple[float, str, str | bytes]] = field(default_factory=list)
    took: float = 0.0

    def add(self, name: str, text: str | bytes) -> None:
        """Send one."""
        seconds, outcome = sent(name, text)
        self.took += seconds
        self.outcomes[outcome.split(":")[0]] += 1
        if outcome.startswith("untyped"):
            self.untyped.append(f"{outcome} from {shape(name, text)}")
        if len(self.slowest) < KEPT or seconds > self.slowest[-1][0]:
            self.slowest = sorted([*self.slowest, (seconds, name, text)], key=lambda one: -one[0])[:KEPT]


def run(options: Options) -> Iterator[Row]:
    """The rows."""
    tally = Tally()
    for text in BOMBS.values():
        for name in EVENTS:
            tally.add(name, text)
    draw(tally, options.size(100_000, 1_000))
    again = [(min(sent(name, text)[0] for _ in range(5)), name, text) for _, name, text in tally.slowest]
    slowest, name, text = max(again, key=lambda one: one[0])
    total = tally.outcomes.total()
    yield Row("slowest payload", slowest * 1e3, "ms", target=MOST_MS, note=shape(name, text))
    yield Row("mean of all", tally.took / total * 1e3, "ms", note=f"{total:,} payloads")
    yield Row("untyped errors", len(tally.untyped), "", target=NONE, note="; ".join(tally.untyped[:3]))
    for outcome, number in tally.outcomes.most_common():
        yield Row(f"ended as {outcome}", number, "")


def draw(tally: Tally, count: int) -> None:
    """Let Hypothesis draw payloads until there are `count`, always the same ones, and spoil each several times."""
    random = Random(1)
    rest = settings(
        max_examples=max(1, (count - tally.outcomes.total()) // (1 + SPOILED)),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )

    @rest
    @given(SENT)
    def send(drawn: tuple[str, str | bytes]) -> None:
        name, text = drawn
        tally.add(name, text)
        for _ in range(SPOILED):
            tally.add(name, spoiled(text, random))

    send()
    while tally.outcomes.total() < count:  # Hypothesis stops where it has seen all that it can draw
        tally.add(random.choice(EVENTS), spoiled(random.choice(list(BOMBS.values())), random))


def spoiled(text: str | bytes, random: Random) -> bytes:
    """The payload with a byte changed, a piece missing, or a piece of it twice."""
    data = bytearray(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    begin, end = sorted((random.randint(0, len(data)), random.randint(0, len(data))))
    match random.randrange(3):
        case 0 if data:
            data[min(begin, len(data) - 1)] = random.choice(b'[]{}",:\\0e-.nN\x00\xff')
        case 1:
            del data[begin:end]
        case _:
            data[begin:begin] = data[begin : min(end, begin + 1_000)]
    return bytes(data)


def sent(name: str, text: str | bytes) -> tuple[float, str]:
    """Seconds on the processor, and what came of it."""
    begin = thread_time()
    try:
        encode(read_input(machine, "event", name, text), "event")
    except FsmError as error:
        return thread_time() - begin, type(error).__name__
    except Exception as error:  # noqa: BLE001 - what is looked for
        return thread_time() - begin, f"untyped: {type(error).__name__}"
    return thread_time() - begin, "an event"


def shape(name: str, text: str | bytes) -> str:
    """What the payload looks like."""
    known = [bomb for bomb, made in BOMBS.items() if made == text]
    what = known[0] if known else f"{text[:SHOWN]!r}{'...' if len(text) > SHOWN else ''}"
    return f"{what} ({len(text):,} long) as {name}"
