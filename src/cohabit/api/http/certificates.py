"""The server's certificate: read with errors that say what to do, and read anew when it has been renewed."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import structlog

from cohabit.config.atomic_file import stamp

log = structlog.get_logger()


class CertificateError(Exception):
    """Files that cannot be served with; the message says why."""


@dataclass(frozen=True, slots=True)
class Files:
    """In PEM; a ``password`` file holds that of the key in its first line."""

    certificate: Path
    key: Path
    password: Path | None = None


class Certificate:
    """What a server shows to its clients.

    Renewal is noticed when somebody connects: looking at three files is nothing beside a handshake, and needs no
    clock, no signal, and nobody to send it.
    """

    def __init__(self, files: Files) -> None:
        """Read them. Raises CertificateError.

        ``objection`` is why clients will not take it, as far as that can be told from here, or None.
        """
        self._files = files
        self._seen = _seen(files)
        self._context, self.objection = _read(files)

    def context(self) -> ssl.SSLContext:
        """For the next handshake: of the files as they are now, or as they were when they last were right."""
        seen = _seen(self._files)
        if seen != self._seen:
            self._seen = seen
            try:
                self._context, self.objection = _read(self._files)
            except CertificateError as error:  # perhaps half of it is written; then it changes again
                log.warning("certificate cannot be renewed, the old one stays", why=str(error))
            else:
                log.info("certificate renewed", objection=self.objection)
        return self._context


def _seen(files: Files) -> list[tuple[int, int, int] | None]:
    """Differs once anything has changed."""
    return [stamp(path) for path in (files.certificate, files.key, files.password) if path is not None]


def _read(files: Files) -> tuple[ssl.SSLContext, str | None]:
    certificate = _bytes("certificate", files.certificate)
    if b"-----BEGIN CERTIFICATE-----" not in certificate:
        raise CertificateError(f"certificate: {files.certificate} holds none in PEM")
    if b"PRIVATE KEY-----" not in _bytes("key", files.key):
        raise CertificateError(f"key: {files.key} holds no private key in PEM")
    password = (
        None if files.password is None else _bytes("password_file", files.password).split(b"\n")[0].rstrip(b"\r")
    )

    def ask() -> bytes:
        if password is None:
            raise CertificateError(f"key: {files.key} is encrypted; put its password into a password_file")
        return password

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # clients could have it compute for ever
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.certificate, files.key, ask)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateError(f"key: {files.key} is not that of the certificate") from None
        if password is not None:
            raise CertificateError(f"key: {files.key} cannot be read; is that its password?") from None
        raise CertificateError(f"certificate and key cannot be used: {error.reason or 'damaged PEM'}") from None
    except ValueError:  # Python's own: a password of over 1024 bytes
        raise CertificateError("password_file: its first line is longer than a password may be") from None
    except OSError as error:  # taken away just now
        raise CertificateError(f"certificate and key cannot be read: {error.strerror or error}") from None
    return context, _objection(context, certificate.decode("ascii", "replace"))


def _bytes(what: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{what}: {path} cannot be read: {error.strerror or error}") from None


def _objection(context: ssl.SSLContext, certificate: str) -> str | None:
    """What a client says that trusts exactly this certificate: the standard library verifies, but does not tell."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False  # it may have many names
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cadata=certificate)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(back, there), context.wrap_bio(there, back, server_side=True))
    for end in ends * 2:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
    return None
