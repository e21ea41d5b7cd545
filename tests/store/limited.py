"""A family whose child is under a limit from its birth."""

from dataclasses import dataclass

from fsm_core import ChildEnded, Machine, Route, Spawn


@dataclass(frozen=True)
class Awake:
    pass


@dataclass(frozen=True)
class Asleep:
    pass


@dataclass(frozen=True)
class Sing:
    pass


@dataclass(frozen=True)
class Cry:
    pass


toddler = Machine("toddler", states=Awake | Asleep, events=Sing, actions=Cry, initial=Awake(), final=Asleep)


@toddler.on
def fall_asleep(state: Awake, event: Sing) -> Asleep:
    return Asleep()


@toddler.enter
def cry(state: Awake) -> list[Cry]:
    return [Cry()]


@toddler.route
def quietly(action: Cry) -> Route:
    return Route(limit="noise", limit_key="house")


@dataclass(frozen=True)
class Open:
    pass


nursery = Machine("nursery", states=Open, events=ChildEnded[Asleep], initial=Open())


@nursery.enter
def take(state: Open) -> list[Spawn]:
    return [Spawn(toddler)]


@nursery.on
def ended(state: Open, event: ChildEnded[Asleep]) -> Open:
    return state
