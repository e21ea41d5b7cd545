"""What can go wrong with the embedded servers."""


class DevServersError(Exception):
    """The embedded servers cannot be had; the message says why, with the tail of the server's log."""
