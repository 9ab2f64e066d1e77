"""Certificates: what cannot be served with is told in a line, what is renewed is taken over."""

import os
import ssl
from collections.abc import MutableMapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from cohabit.api.http.tls import Certificate, CertificateError, CertificateFiles

Lines = list[MutableMapping[str, Any]]
PASSWORD = b"kanarienvogel"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def write(leaf: trustme.LeafCert, files: CertificateFiles) -> CertificateFiles:
    files.certificate.write_bytes(b"".join(part.bytes() for part in leaf.cert_chain_pems))
    files.key.write_bytes(leaf.private_key_pem.bytes())
    return files


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> CertificateFiles:
    """As they should be."""
    return write(authority.issue_cert("localhost"), CertificateFiles(tmp_path / "cert.pem", tmp_path / "key.pem"))


def encrypted(files: CertificateFiles) -> CertificateFiles:
    """With a password in a file beside it."""
    key = load_pem_private_key(files.key.read_bytes(), None)
    password = files.key.with_name("password")
    password.write_bytes(PASSWORD + b"\n")
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSWORD)))
    return CertificateFiles(files.certificate, files.key, password)


def test_valid_certificate_has_no_objection(files: CertificateFiles) -> None:
    found = Certificate(files)
    assert found.objection is None
    assert found.context().minimum_version == ssl.TLSVersion.TLSv1_2
    assert found.context() is found.context()
    assert Certificate(encrypted(files)).objection is None


@pytest.mark.parametrize(
    ("after", "objection"),
    [(-timedelta(days=1), "certificate has expired"), (timedelta(days=1), None)],
)
def test_expired_certificate_is_reported(
    after: timedelta, objection: str | None, files: CertificateFiles, authority: trustme.CA
) -> None:
    until = datetime.now(UTC) + after
    leaf = authority.issue_cert("localhost", not_before=until - timedelta(days=9), not_after=until)
    assert Certificate(write(leaf, files)).objection == objection


def test_certificate_that_is_not_valid_yet_is_reported(files: CertificateFiles, authority: trustme.CA) -> None:
    leaf = authority.issue_cert("localhost", not_before=datetime.now(UTC) + timedelta(days=1))
    assert Certificate(write(leaf, files)).objection == "certificate is not yet valid"


def why(files: CertificateFiles) -> str:
    with pytest.raises(CertificateError) as raised:
        Certificate(files)
    message = str(raised.value)
    assert "\n" not in message
    assert PASSWORD.decode() not in message
    return message


def test_missing_files_are_named(files: CertificateFiles) -> None:
    nowhere = files.key.with_name("nowhere")
    assert (
        why(CertificateFiles(nowhere, files.key))
        == f"certificate: {nowhere} cannot be read: No such file or directory"
    )
    assert (
        why(CertificateFiles(files.certificate, nowhere))
        == f"key: {nowhere} cannot be read: No such file or directory"
    )
    assert why(CertificateFiles(files.certificate, files.key, nowhere)).startswith(
        f"password_file: {nowhere} cannot be read"
    )
    assert why(CertificateFiles(files.key.parent, files.key)).endswith("Is a directory")


def test_files_of_another_kind_are_refused(files: CertificateFiles, authority: trustme.CA) -> None:
    assert why(CertificateFiles(files.key, files.certificate)) == f"certificate: {files.key} holds none in PEM"
    assert why(CertificateFiles(files.certificate, files.certificate)).endswith("holds no private key in PEM")
    files.key.write_bytes(authority.issue_cert("localhost").private_key_pem.bytes())
    assert why(files) == f"key: {files.key} is not that of the certificate"


@pytest.mark.parametrize("which", ["certificate", "key"])
def test_damaged_files_are_refused(which: str, files: CertificateFiles) -> None:
    path: Path = getattr(files, which)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"%%%\n", *lines[3:]]))
    assert why(files)


def test_encrypted_key_needs_its_password(files: CertificateFiles) -> None:
    locked = encrypted(files)
    assert "is encrypted; put its password into a password_file" in why(
        CertificateFiles(files.certificate, files.key)
    )
    assert locked.password is not None
    locked.password.write_bytes(b"wrong\n")
    assert "is that its password?" in why(locked)
    locked.password.write_bytes(b"x" * 5000)
    assert "longer than a password may be" in why(locked)


def test_renewed_certificate_is_taken_over(files: CertificateFiles, authority: trustme.CA, logged: Lines) -> None:
    certificate = Certificate(files)
    before = certificate.context()
    fresh = authority.issue_cert("localhost")
    other = write(fresh, CertificateFiles(files.certificate.with_name("a"), files.key.with_name("b")))
    other.certificate.replace(files.certificate)
    assert certificate.context() is before, "without its key it is of no use"
    assert [line["event"] for line in logged] == ["certificate cannot be renewed, the old one stays"]
    assert certificate.context() is before
    assert len(logged) == 1, "once is enough"
    other.key.replace(files.key)
    assert certificate.context() is not before
    assert logged[-1]["event"] == "certificate renewed"


def test_certificate_whose_files_vanish_stays(files: CertificateFiles, logged: Lines) -> None:
    certificate = Certificate(files)
    before = certificate.context()
    kept = files.key.read_bytes()
    files.key.unlink()
    assert certificate.context() is before
    files.key.write_bytes(kept)
    os.utime(files.key, ns=(1, 1))
    assert certificate.context() is not before
    assert [line["log_level"] for line in logged] == ["warning", "info"]


def test_replaced_links_count_as_renewal(files: CertificateFiles, authority: trustme.CA) -> None:
    """As certbot and Kubernetes renew."""
    folder = files.key.parent
    link = folder / "live"
    for name in ("one", "two"):
        (folder / name).mkdir()
        write(authority.issue_cert("localhost"), CertificateFiles(folder / name / "c", folder / name / "k"))
    link.symlink_to(folder / "one")
    certificate = Certificate(CertificateFiles(link / "c", link / "k"))
    before = certificate.context()
    link.unlink()
    link.symlink_to(folder / "two")
    assert certificate.context() is not before
