"""The demo's second part: orders that are paid and shipped by services that refuse some calls and forget others."""

import os
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from examples.demo_report import figures, so_far
from examples.demo_scene import Scene
from examples.orders import New, Pay, orders

PACE = 0.02
"""Seconds between two orders: a busy shop, and not a queue of a hundred, where waiting would be all that is measured."""


def drive_orders(scene: Scene, number: int, *, kill: bool) -> bool:
    """Place `number` orders, see each to its end, and show the figures. Returns whether all is as it should be."""
    keys = [f"{n}{scene.tag}" for n in range(1, number + 1)]
    scene.console.print(
        f"\n{number} orders, with HTTP calls to a flaky shop at {scene.shop.url}", style="bold"
    )
    with progress(scene, number) as show:

        def look() -> int:
            nonlocal kill
            ended, retries = so_far(scene.engine, scene.store.schema, keys)
            show(ended, retries)
            if kill and ended >= number // 3:
                kill = False
                os.kill(scene.supervisor.pid("worker-1"), signal.SIGKILL)
            return ended

        for n, key in enumerate(keys, start=1):
            scene.store.start(orders, key, New(total=10 + n, address=f"{n} Main Street"))
            scene.store.advance(orders, key, Pay(card=f"4000 {n:04}"))
            scene.watch.check()
            look()
            time.sleep(PACE)
        scene.watch.until(look, number, "orders")
    found = figures(scene.engine, scene.store.schema, keys)
    books = scene.shop.shop.stats()
    scene.console.print(found.table(books))
    return found.ended == number and not books["charged_twice"] and not books["sent_twice"]


@contextmanager
def progress(scene: Scene, number: int) -> Generator[Callable[[int, int], None]]:
    """Gives a function that shows how far it is: a moving bar on a terminal, a line now and then in a log."""
    if not scene.console.is_terminal:
        told = 0

        def tell(ended: int, retries: int) -> None:
            nonlocal told
            if ended * 4 // number > told:
                told = ended * 4 // number
                scene.console.print(f"  {ended} of {number} orders ended, {retries} retries")

        yield tell
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("orders ended, {task.fields[retries]} retries"))
    with Progress(TextColumn(" "), *columns, TimeElapsedColumn(), console=scene.console) as bar:
        task = bar.add_task("orders", total=number, retries=0)
        yield lambda ended, retries: bar.update(task, completed=ended, retries=retries)
