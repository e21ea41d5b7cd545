"""docker-compose.yml is safe as it stands: no default password, nothing published beyond loopback, health known."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SERVICES = {"postgres", "redis", "migrate", "logins", "relay", "worker", "flower"}
TOOLS = {"fsm"}
SECRETS = {
    f"{each}_PASSWORD" for each in ("POSTGRES", "APP", "RELAY", "WORKER", "OPERATOR", "REDIS", "FLOWER")
}
OWNER = "fsm"


@pytest.fixture(scope="module")
def text() -> str:
    return (ROOT / "docker-compose.yml").read_text()


@pytest.fixture(scope="module")
def services(text: str) -> dict[str, dict[str, Any]]:
    return yaml.safe_load(text)["services"]


@pytest.fixture(scope="module")
def sample() -> dict[str, str]:
    lines = (ROOT / ".env.sample").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_it_has_the_services_of_production(services: dict[str, dict[str, Any]]) -> None:
    assert set(services) == SERVICES | TOOLS
    assert {name for name, service in services.items() if service.get("profiles")} == TOOLS


def test_every_lasting_service_has_a_health_check(services: dict[str, dict[str, Any]]) -> None:
    unchecked = {name for name, service in services.items() if not service.get("healthcheck", {}).get("test")}

    assert unchecked == {"migrate", "logins", *TOOLS}


def test_what_is_published_is_published_to_loopback_only(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]

    assert ports
    assert all(isinstance(port, str) and port.startswith("127.0.0.1:") for port in ports)
    assert not any(service.get("network_mode") for service in services.values())


def test_every_password_is_demanded(text: str) -> None:
    used = re.findall(r"\$\{(\w*(?:PASSWORD|SECRET|TOKEN)\w*)(.*?)\}", text)

    assert {name for name, _ in used} == SECRETS
    assert all(rest.startswith(":?") for _, rest in used)


def test_the_sample_names_every_variable_and_gives_no_password(text: str, sample: dict[str, str]) -> None:
    assert set(re.findall(r"\$\{(\w+)", text)) == set(sample)
    assert all(sample[name] == "" for name in SECRETS)


def test_passwords_are_on_no_command_line(services: dict[str, dict[str, Any]]) -> None:
    commands = [f"{service.get('command')} {service.get('healthcheck')}" for service in services.values()]

    assert not any(re.search(r"\$\{?\w*PASSWORD", command) for command in commands)


def test_workers_can_be_scaled(services: dict[str, dict[str, Any]]) -> None:
    assert not any("container_name" in service for service in services.values())
    assert not services["worker"].get("ports")


def test_nothing_of_ours_runs_before_the_migrations(services: dict[str, dict[str, Any]]) -> None:
    done = {"condition": "service_completed_successfully"}
    assert services["logins"]["depends_on"]["migrate"] == done
    for name in ("relay", "worker", "fsm"):
        assert services[name]["depends_on"]["logins"] == done


def test_every_process_has_a_login_of_its_own(services: dict[str, dict[str, Any]]) -> None:
    """The owner of the tables only migrates, and passes the passwords on; who needs no database has no address of one."""
    urls = {name: service.get("environment", {}).get("DATABASE_URL") for name, service in services.items()}
    users = {
        name: re.fullmatch(r"postgresql\+psycopg://(\w+):\$\{(\w+):\?.*\}@postgres:5432/fsm", url)
        for name, url in urls.items()
        if url
    }
    assert {name: found.groups() for name, found in users.items() if found} == {
        "migrate": (OWNER, "POSTGRES_PASSWORD"),
        "relay": ("relay", "RELAY_PASSWORD"),
        "worker": ("worker", "WORKER_PASSWORD"),
        "fsm": ("operator", "OPERATOR_PASSWORD"),
    }
    knows_the_owner = {name for name, service in services.items() if "${POSTGRES_PASSWORD" in str(service)}
    assert knows_the_owner == {"postgres", "migrate", "logins"}


def test_containers_are_hardened(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        assert service["read_only"] is True
        assert "no-new-privileges:true" in service["security_opt"]
        assert not service.get("privileged")


def test_the_broker_evicts_nothing(services: dict[str, dict[str, Any]]) -> None:
    assert "--maxmemory-policy noeviction" in services["redis"]["command"][-1]


def test_the_image_is_pinned_and_runs_as_an_ordinary_user() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()

    assert [line for line in lines if line.startswith("USER ")] == ["USER fsm"]
    assert any("--require-hashes -r requirements.prod.lock" in line for line in lines)
    assert not any(
        "pip install" in line and "--require-hashes" not in line and "--no-deps" not in line for line in lines
    )


def test_what_the_image_copies_exists_and_is_not_ignored() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = {
        source
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


def compose_command() -> list[str]:
    """Docker Compose as this machine has it; skips without."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if (
            shutil.which(command[0])
            and subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0
        ):
            return command
    pytest.skip("Docker Compose is not installed: `docker compose config` was not run")


def config(env_file: Path, given: Iterable[str]) -> subprocess.CompletedProcess[str]:
    """What `docker compose config` says to the sample with the given passwords filled in."""
    lines = (ROOT / ".env.sample").read_text().splitlines()
    filled = [f"{line}x1" if line.removesuffix("=") in given else line for line in lines]
    env_file.write_text("\n".join(filled) + "\n")
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [*compose_command(), "--env-file", str(env_file), "-f", "docker-compose.yml", "config"]
    return subprocess.run(command, cwd=ROOT, env=inherited, capture_output=True, text=True, check=False)


def test_compose_accepts_it_without_a_word(tmp_path: Path) -> None:
    done = config(tmp_path / ".env", SECRETS)

    assert (done.returncode, done.stderr) == (0, "")
    assert set(yaml.safe_load(done.stdout)["services"]) >= SERVICES


def test_the_sample_says_how_to_make_passwords(tmp_path: Path) -> None:
    """One line of it, run as it stands: every password is there, and no two are the same."""
    sample = ROOT / ".env.sample"
    (line,) = re.findall(r"^#   (awk .*)$", sample.read_text(), re.MULTILINE)
    (tmp_path / sample.name).write_text(sample.read_text())
    subprocess.run(line, shell=True, cwd=tmp_path, check=True)

    made = dict(re.findall(r"^(\w+PASSWORD)=([0-9a-f]{48})$", (tmp_path / ".env").read_text(), re.MULTILINE))
    assert made.keys() == SECRETS
    assert len(set(made.values())) == len(SECRETS)


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_compose_refuses_to_start_without_a_password(tmp_path: Path, missing: str) -> None:
    done = config(tmp_path / ".env", SECRETS - {missing})

    assert done.returncode != 0
    assert missing in done.stderr
