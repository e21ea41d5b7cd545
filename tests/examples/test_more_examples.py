"""The examples that run on a `MemoryStore` print their story, without a server; and what they are there to show holds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples.counter import Counter, Decrement, OutOfRange, Reset, counter
from examples.payments import Account, Charge, Payment, Process, Succeeded, payments
from examples.trip import Asking, Booked, Booking, Off, leg, trip
from fsm_core import (
    CancelChildren,
    ChildEnded,
    Failed,
    Join,
    Machine,
    Rejected,
    Spawn,
    To,
    advance,
    replay,
)
from fsm_core.memory import MemoryStore

ROOT = Path(__file__).parents[2]

STORIES = {
    "life": [
        "Alive(born_at=datetime.datetime(1815, 12, 10, 0, 0, tzinfo=datetime.timezone.utc))",
        (
            "Dead(died_at=datetime.datetime(1852, 11, 25, 0, 0, tzinfo=datetime.timezone.utc), "
            "born_at=datetime.datetime(1815, 12, 10, 0, 0, tzinfo=datetime.timezone.utc))"
        ),
        "machine 'life' has no edge for Birth in state Dead",
        "machine 'life' has no edge for Death in state Dead",
        "[('nobody', 'Dead'), ('ada', 'Dead')]",
    ],
    "counter": [
        "from 0 to 1",
        "from 1 to 18446744073709551615",
        "18446744073709551616 is out of range",
        "-1 is out of range",
        "from 18446744073709551615 to 41",
        "from 41 to 42",
        "from 42 to 0",
    ],
    "payments": [
        "bob asks for 60, 40 is free",
        "ann has paid 60",
        "bob has paid 30",
        "mallory has not paid: ConnectionError: no answer, after 3 attempts",
        "Account(balance=10, pending=(), next_id=4)",
    ],
    "coffee_shop": [
        "Ordering(points=150, total=1150, redemptions=1) stays: 200 points asked for, 150 there",
        "power cut while AskBackend runs",
        "was redemption 2 done? True",
        "Ordering(points=50, total=650, redemptions=2)",
        "ignored: UnhandledEvent: machine 'card' has no edge for Redeemed in state Ordering",
    ],
    "checkout": [
        "waits for PaymentConfirmed",
        "the webhook: taken as event 3",
        "the webhook: a duplicate of event 3",
        "0 Next -> start",
        "1 Next -> await_pay",
        "2 Await",
        "3 PaymentConfirmed -> await_pay",
        "4 Next -> ship",
        "5 Replay -> ship",
        "6 Replay -> ship",
        "7 Done",
        "Stop(reason='order 43') failed",
    ],
    "trip": [
        "two: Going(legs=('leg/two-rome', 'leg/two-oslo'))",
        "few: Off(why='too few legs')",
        "slow: Booking(join=Join(need=2, open=('leg/slow-mars',), done=('leg/slow-rome',), failed=()))",
        "a day later: Off(why='it took too long'), its leg is cancelled",
    ],
}


@pytest.mark.parametrize("name", STORIES)
def test_an_example_tells_its_story(name: str, tmp_path: Path) -> None:
    """From another folder, with warnings as errors, and nothing on stderr."""
    script = ROOT / "examples" / f"{name}.py"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == STORIES[name]
    assert len(script.read_text().splitlines()) < 120


def test_an_illegal_edge_of_a_life_does_not_type_check(tmp_path: Path) -> None:
    """Mypy refuses the marked lines and no other."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from datetime import UTC, datetime\n"
        "from examples.life import Alive, Birth, Dead, Death, Gestating, be_born, die, life\n"
        "from fsm_core import Context, advance\n"
        "def edges(ctx: Context) -> None:\n"
        "    die(be_born(Gestating(), Birth(), ctx), Death(), ctx)\n"
        "    be_born(Dead(ctx.now), Birth(), ctx)  # expect\n"
        "    be_born(Alive(ctx.now), Birth(), ctx)  # expect\n"
        "    die(Gestating(), Death(), ctx)  # expect\n"
        "    be_born(die(Alive(ctx.now), Death(), ctx), Birth(), ctx)  # expect\n"
        "    advance(life, Gestating(), Gestating(), ctx)  # expect\n"
    )
    command = [
        sys.executable, "-m", "mypy", "--strict", "--config-file=", "--explicit-package-bases", "--follow-imports=silent",
        f"--cache-dir={tmp_path}", str(wrong),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    refused = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error: " in line}
    marked = {n for n, line in enumerate(wrong.read_text().splitlines(), 1) if line.endswith("# expect")}
    assert refused == marked, done.stdout + done.stderr


TWO = [Process("ann", 80), Process("bob", 80)]


def test_reserving_on_request_cannot_overdraw() -> None:
    """The second of two payments under way is refused; a result that comes twice is refused the second time."""
    first = advance(payments, Account(100), TWO[0]).state
    with pytest.raises(Rejected, match="bob asks for 80, 20 is free"):
        advance(payments, first, TWO[1])

    paid = advance(payments, first, Succeeded(1)).state
    assert paid.balance == 20
    with pytest.raises(Rejected, match="payment 1 is not pending"):
        advance(payments, paid, Succeeded(1))


def test_deducting_on_the_result_overdraws() -> None:
    """What the seeds' quick example does: both see 100 free, and a result that comes twice is deducted twice."""
    naive = Machine("naive", states=Account, events=Process | Succeeded, actions=Charge)

    @naive.on
    def process(state: Account, event: Process) -> To[Account, Charge]:
        if event.amount > state.balance:
            raise Rejected("insufficient funds")
        payment = Payment(state.next_id, event.user, event.amount)
        asked = Account(state.balance, (*state.pending, payment), state.next_id + 1)
        return asked, [Charge(payment.id, payment.user, payment.amount)]

    @naive.on
    def succeeded(state: Account, event: Succeeded) -> Account:
        (payment,) = [p for p in state.pending if p.id == event.id]
        return Account(state.balance - payment.amount, state.pending, state.next_id)

    events: list[Process | Succeeded] = [*TWO, Succeeded(1), Succeeded(2)]
    assert replay(naive, Account(100), events).state.balance == -60
    assert replay(naive, Account(100), [*events[:3], Succeeded(1)]).state.balance == -60


def test_a_leg_that_was_cancelled_is_none_that_a_trip_counts_on() -> None:
    """It is told as `Failed[Spawn]`, and heard once however often it is told."""
    legs = [Spawn(leg, f"t-{place}", Asking(place)) for place in ("rome", "oslo")]
    booking, lost = Booking(Join.of(2, legs)), Failed(Spawn("leg", "t-oslo"), "cancelled: no more")

    assert advance(trip, booking, lost) == (Off("too few legs"), [CancelChildren()])
    heard = replay(trip, booking, [ChildEnded("leg", "t-rome", Booked("rome", 4))] * 2).state
    assert heard == Booking(Join(2, ("leg/t-oslo",), done=("leg/t-rome",)))


def test_a_counter_that_refuses_is_as_it_was() -> None:
    """Nothing of the refused event stays, and it takes no number."""
    store = MemoryStore()
    store.start(counter, 1, Counter(3))
    before = store.get(counter, 1), store.history(counter, 1)
    with pytest.raises(OutOfRange):
        store.advance(counter, 1, Decrement(4))

    assert (store.get(counter, 1), store.history(counter, 1)) == before
    assert store.advance(counter, 1, Reset()).seq == 1
