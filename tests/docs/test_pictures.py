"""The pictures in the documents are those that the code draws. `FSM_WRITE_DOCS=1 pytest tests/docs/test_pictures.py` mends them."""

import os
import re
from importlib import import_module
from pathlib import Path

import pytest

from fsm_core.diagram import Step, draw, mermaid

DOCUMENT = Path(__file__).parents[2] / "docs" / "machines.md"
PICTURE = re.compile(r"(<!-- picture: (\S+?):(\w+)((?: \w+>\w+>\w+)*) -->\n).*?(<!-- end -->)", re.DOTALL)


def drawn(marked: re.Match[str]) -> str:
    """The picture between two markers: of `module:name`, with the path `before>event>after` if it names one."""
    begin, module, name, steps, end = marked.groups()
    path = [Step(event, before, after) for before, event, after in (s.split(">") for s in steps.split())]
    picture = mermaid(draw(getattr(import_module(module), name), path, path[-1].after if path else None))
    return f"{begin}\n```mermaid\n{picture}```\n\n{end}"


def test_the_pictures_are_those_that_the_code_draws() -> None:
    written = DOCUMENT.read_text()
    current = PICTURE.sub(drawn, written)
    if os.environ.get("FSM_WRITE_DOCS") == "1":
        DOCUMENT.write_text(current)
        written = current

    assert written == current, "mend it with FSM_WRITE_DOCS=1 pytest tests/docs/test_pictures.py"


@pytest.mark.parametrize("name", ["examples.door:door", "examples.orders:orders", "examples.trip:trip"])
def test_the_examples_have_a_picture(name: str) -> None:
    assert name in [":".join(found.groups()[1:3]) for found in PICTURE.finditer(DOCUMENT.read_text())]
