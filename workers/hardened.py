"""What a deployment may insist on, by its environment: no plaintext (FSM_REQUIRE_TLS=1), nothing but the one task (FSM_HARDENED=1)."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from fsm_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

VERIFIED: dict[str, object] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
"""What `rediss://` means here. kombu's own default verifies nothing."""


def hardened(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether FSM_HARDENED asks for it."""
    return environ.get("FSM_HARDENED") == "1"


def check(
    database_url: str,
    broker_url: str,
    environ: Mapping[str, str] = os.environ,
    broker_use_ssl: object = None,
) -> None:
    """Raise ConfigurationError that names what is not as the environment insists.

    FSM_REQUIRE_TLS=1: Postgres by a socket of this machine or with `sslmode=verify-full`, the broker by `rediss://`, its certificate
    and its name verified. FSM_HARDENED=1: not as root, unless FSM_ALLOW_ROOT=1.
    """
    if hardened(environ) and os.geteuid() == 0 and environ.get("FSM_ALLOW_ROOT") != "1":
        raise ConfigurationError("FSM_HARDENED: this process is root's; run it as another user")
    if environ.get("FSM_REQUIRE_TLS") == "1":
        _check_database(database_url, environ)
        _check_broker(broker_url, broker_use_ssl)


def _check_database(address: str, environ: Mapping[str, str]) -> None:
    from fsm_core.postgres.urls import (
        engine_url,  # it brings SQLAlchemy, which a child of an isolated effect need not load
    )

    url = engine_url(address)
    hosts = [url.host or url.query.get("host") or environ.get("PGHOST") or ""]
    by_socket = all(isinstance(host, str) and host.startswith("/") for host in hosts)
    mode = url.query.get("sslmode") or environ.get("PGSSLMODE")
    if not by_socket and mode != "verify-full":
        raise ConfigurationError(
            f"FSM_REQUIRE_TLS: DATABASE_URL (and each of FSM_SHARDS) needs sslmode=verify-full (and sslrootcert=), not {mode or 'none'}"
        )


def _check_broker(address: str, configured: object) -> None:
    url = urlsplit(address)
    if url.scheme != "rediss":
        raise ConfigurationError(f"FSM_REQUIRE_TLS: BROKER_URL begins with rediss://, not {url.scheme}://")
    said = {name: values[-1] for name, values in parse_qs(url.query).items()}
    options: dict[str, object] = {**(configured if isinstance(configured, dict) else {}), **said}
    required = options.get("ssl_cert_reqs", ssl.CERT_REQUIRED)
    if required not in (ssl.CERT_REQUIRED, "CERT_REQUIRED", "required"):
        raise ConfigurationError("FSM_REQUIRE_TLS: the broker's ssl_cert_reqs is CERT_REQUIRED, or left out")
    if str(options.get("ssl_check_hostname", True)).lower() == "false":
        raise ConfigurationError("FSM_REQUIRE_TLS: the broker's ssl_check_hostname is not false")
