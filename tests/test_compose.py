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
SERVICES = {"postgres", "redis", "migrate", "relay", "worker", "flower"}
OURS = {"migrate", "relay", "worker", "flower"}
SECRETS = {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "FLOWER_PASSWORD"}


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
    assert set(services) >= SERVICES


def test_every_lasting_service_has_a_health_check(services: dict[str, dict[str, Any]]) -> None:
    unchecked = {name for name, service in services.items() if not service.get("healthcheck", {}).get("test")}

    assert unchecked == {"migrate"}


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

    assert not any("PASSWORD" in command for command in commands)


def test_workers_can_be_scaled(services: dict[str, dict[str, Any]]) -> None:
    assert not any("container_name" in service for service in services.values())
    assert not services["worker"].get("ports")


def test_nothing_of_ours_runs_before_the_migrations(services: dict[str, dict[str, Any]]) -> None:
    for name in OURS - {"migrate"}:
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


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


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_compose_refuses_to_start_without_a_password(tmp_path: Path, missing: str) -> None:
    done = config(tmp_path / ".env", SECRETS - {missing})

    assert done.returncode != 0
    assert missing in done.stderr
