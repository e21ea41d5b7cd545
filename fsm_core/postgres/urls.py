"""Database addresses: one spelling for SQLAlchemy, and one that may be shown."""

from __future__ import annotations

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from fsm_core.errors import ConfigurationError


def engine_url(text: str) -> URL:
    """`text` as a URL that ends at psycopg. Raises ConfigurationError: no URL, or another database."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:  # ValueError: the port is no number
        raise ConfigurationError(
            "DATABASE_URL is no URL; expected postgresql://user:password@host:5432/name"
        ) from error
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise ConfigurationError(f"DATABASE_URL names {url.get_backend_name()}; only PostgreSQL is supported")
    return url.set(drivername="postgresql+psycopg")


def shown(url: URL) -> str:
    """The address without its password, for messages."""
    masked = {name: "***" for name in url.query if "password" in name}
    return url.set(drivername="postgresql").update_query_dict(masked).render_as_string(hide_password=True)
