"""An authority of our own, and servers that speak TLS before ours, which were built without it."""

import contextlib
import ipaddress
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# PostgreSQL's requests before its protocol begins: a length of 8, and one of these.
_SSL_REQUEST, _GSS_REQUEST = 80877103, 80877104


class Authority:
    """Signs certificates; `file` is its own."""

    def __init__(self, folder: Path, name: str = "ours") -> None:
        self.folder, self.file = folder, folder / f"{name}.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(self._name, self._key, authority=True, host=None, days=10)
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def context(self, host: str = "localhost", days: int = 1) -> ssl.SSLContext:
        """What a server needs that is `host`, with a certificate that ends in `days`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        certificate = self._sign(subject, key, authority=False, host=host, days=days)
        file = self.folder / f"{host}{days}{self.file.name}"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        authority: bool,
        host: str | None,
        days: int,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if host is not None:
            names: list[x509.GeneralName] = [x509.DNSName(host)]
            if host == "localhost":
                names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


@contextlib.contextmanager
def before(
    target: str | tuple[str, int], context: ssl.SSLContext | None, *, postgres: bool = False
) -> Iterator[int]:
    """A server on a port of localhost that speaks TLS, and passes on what it hears to `target` (a socket's path, or host and port).

    Without a context it speaks none, and only passes on.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepting = threading.Thread(target=_accept, args=(listening, target, context, postgres), daemon=True)
        accepting.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)  # wakes it; closed alone, it would keep the port
            accepting.join()


def _accept(
    listening: socket.socket, target: str | tuple[str, int], context: ssl.SSLContext | None, postgres: bool
) -> None:
    while True:
        try:
            plain, _ = listening.accept()
        except OSError:  # the test is over
            return
        threading.Thread(target=_serve, args=(plain, target, context, postgres), daemon=True).start()


def _serve(
    plain: socket.socket, target: str | tuple[str, int], context: ssl.SSLContext | None, postgres: bool
) -> None:
    with contextlib.suppress(OSError, ConnectionError, struct.error), contextlib.ExitStack() as stack:
        stack.enter_context(plain)
        client = plain
        if context is not None:
            if postgres and not _asks_for_tls(plain):
                return
            client = stack.enter_context(context.wrap_socket(plain, server_side=True))
        family = socket.AF_UNIX if isinstance(target, str) else socket.AF_INET
        server = stack.enter_context(socket.socket(family))
        server.connect(target)
        back = threading.Thread(target=_pass, args=(server, client), daemon=True)
        back.start()
        _pass(client, server)
        back.join()


def _asks_for_tls(plain: socket.socket) -> bool:
    while True:
        _, code = struct.unpack("!ii", plain.recv(8, socket.MSG_WAITALL))
        if code == _SSL_REQUEST:
            plain.sendall(b"S")
            return True
        if code != _GSS_REQUEST:
            return False
        plain.sendall(b"N")


def _pass(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
