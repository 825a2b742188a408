"""What the tests of PKI directories share."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import crypto

from fwsign.errors import Failed
from fwsign.keys.file import load_private_key
from fwsign.pki.authority import create, open_authority
from fwsign.pki.crls import make_crl, write_bundle
from fwsign.pki.directory import Pki
from fwsign.pki.entry_keys import NewKey
from fwsign.pki.entry_names import is_root
from fwsign.pki.issuance import issue as issue_it
from fwsign.pki.profiles import Authority, CaLimits, issuing_certificate, permitted_vendors
from fwsign.pki.revocation import renew_crls, revoke
from support import for_child, require_program

NOW = datetime(2026, 11, 1, 12, 30, 15, 999, tzinfo=UTC)
SECOND = NOW.replace(microsecond=0)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
YEAR = timedelta(days=365)
NEW = NewKey("p256", None)


def no_passphrase() -> bytes | None:
    return None


def make(directory: Path, alg: str = "p256", *, org: str = "Acme", **more: Any) -> Pki:
    return create(
        directory,
        **{
            "org": org,
            "vendor": "acme.example",
            "alg": alg,
            "root_passphrase": None,
            "passphrase": None,
            "now": NOW,
            **more,
        },
    )


def before_tls(directory: Path, passphrase: bytes | None = None) -> Path:
    """Make a new PKI one of those without a CA for TLS: `issuing` issues everything."""
    pki = Pki(directory)
    root = open_authority(pki, "ca", lambda: passphrase)
    old = pki.certificate("issuing")
    key: Any = old.public_key()
    begin, end = old.not_valid_before_utc + HOUR, old.not_valid_after_utc
    limits = CaLimits(permitted_vendors(old))
    new = issuing_certificate(key, old.subject, limits, root, begin, end=end)
    pki.certificate_path("issuing").write_bytes(new.public_bytes(Encoding.PEM))
    for path in [*directory.rglob("issuing-tls*"), directory / "log.jsonl"]:
        path.unlink()
    write_bundle(pki)
    return directory


def issue(pki: Path, name: str, kind: str = "signer", **more: Any) -> Path:
    arguments = {"key": NEW, "ca_passphrase": no_passphrase, "now": NOW, **more}
    return issue_it(pki, kind, name, **arguments)


def withdraw(
    pki: Path, name: str, reason: str = "keyCompromise", *, now: datetime = NOW, **more: Any
) -> Path:
    return revoke(pki, name, reason=reason, ca_passphrase=no_passphrase, now=now, **more)


def renew_lists(pki: Path, now: datetime = NOW) -> tuple[Path, ...]:
    return renew_crls(pki, lambda _: None, now=now)


def refused(call: Callable[[], object], code: str) -> Failed:
    with pytest.raises(Failed) as caught:
        call()
    assert caught.value.code == code, caught.value.message
    return caught.value


def contents(directory: Path) -> dict[str, bytes]:
    """Every file but the lock, which means nothing."""
    return {
        file.relative_to(directory).as_posix(): file.read_bytes()
        for file in directory.rglob("*")
        if file.is_file() and file.name != ".lock"
    }


def number(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def another_crl(root: Path, number: int, passphrase: bytes | None = None) -> Path:
    """Write another CRL of a root's beside its directory: nothing is revoked on it."""
    authority = Authority(
        Pki(root).root, load_private_key(root / "private/ca.key", lambda: passphrase)
    )
    path = root.parent / f"another-{number}.pem"
    path.write_bytes(make_crl("ca", authority, number, (), SECOND + DAY))
    return path


def serials(crl: x509.CertificateRevocationList) -> set[int]:
    return {entry.serial_number for entry in crl}


def extensions(certificate: x509.Certificate) -> dict[x509.ObjectIdentifier, bool]:
    return {extension.oid: extension.critical for extension in certificate.extensions}


def usage(certificate: x509.Certificate) -> set[str]:
    value = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    names = "digital_signature content_commitment key_encipherment data_encipherment "
    names += "key_agreement key_cert_sign crl_sign"
    return {name for name in names.split() if getattr(value, name)}


def names_of(certificate: x509.Certificate) -> list[tuple[x509.ObjectIdentifier, str | bytes]]:
    return [(attribute.oid, attribute.value) for attribute in certificate.subject]


def hosts_of(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in found]


def openssl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = require_program("openssl")
    command = [program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def openssl_verify(
    pki: Path, name: str, *more: str, root: str = "ca", now: datetime = NOW
) -> subprocess.CompletedProcess[str]:
    """Verify an entry strictly, with all CRLs, up to a root."""
    reader = Pki(pki)
    above = [path for path in (pki / "issued").glob("*.crt") if path.stem != name]
    untrusted = [part for path in above for part in ("-untrusted", path)]
    crls = [part for ca in reader.authorities() for part in ("-CRLfile", reader.crl_path(ca))]
    return openssl(
        *("verify", "-x509_strict", "-crl_check_all", "-attime", str(int(now.timestamp()))),
        *("-CAfile", reader.certificate_path(root), *untrusted, *crls, *more),
        reader.certificate_path(name),
    )


def pyopenssl_verify(pki: Path, name: str, *, root: str | None = None, now: datetime) -> None:
    """Verify an entry's own path with pyOpenSSL, strictly and with CRLs."""
    reader = Pki(pki)
    store = crypto.X509Store()
    top = reader.certificate(root) if root else reader.anchor(name)
    store.add_cert(crypto.X509.from_cryptography(top))
    for der in reader.crls(name):
        store.add_crl(x509.load_der_x509_crl(der))
    flags = crypto.X509StoreFlags
    store.set_flags(flags.X509_STRICT | flags.CRL_CHECK | flags.CRL_CHECK_ALL)
    store.set_time(now.replace(tzinfo=None, microsecond=0))
    path = [
        crypto.X509.from_cryptography(x509.load_der_x509_certificate(der))
        for der in reader.path(name)
    ]
    crypto.X509StoreContext(store, path[0], path[1:]).verify_certificate()


# Killed at any point. These need a process that may fork, so test files run themselves.

FILE_EVENTS = ("open", "os.", "fcntl.", "tempfile.")

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on Windows")


def fork(action: Callable[[], object], arm: Callable[[], object]) -> bool:
    """Run `action` in a child that `arm` has set to be killed; say whether it lived to the end."""
    child = os.fork()
    if child == 0:
        try:
            arm()
            action()
        except BaseException as error:  # noqa: BLE001 - nothing may leave this process
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return False
    assert os.waitstatus_to_exitcode(status) == 0
    return True


def at_file_event(count: int) -> None:
    """Kill this process when it next touches the file system for the `count`th time."""
    left = count

    def hook(event: str, _: object) -> None:
        nonlocal left
        if event.startswith(FILE_EVENTS):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def check_whole(directory: Path, revoked: set[int]) -> None:
    """Every entry can be read, has its key and a path, and no revocation is lost."""
    pki = Pki(directory)
    for name in (*pki.names(), *pki.roots()):
        assert len(pki.path(name)) == len(pki.crls(name))
        # A root as certified by another has the root's key; that of a root may be elsewhere.
        if "-by-" in name or (is_root(name) and not pki.key_path(name).exists()):
            continue
        key = load_private_key(pki.key_path(name), no_passphrase)
        assert key.public_key() == pki.certificate(name).public_key()
    assert revoked <= serials(pki.crl("issuing"))


def run_myself(file: str, what: str, base: Path) -> dict[str, int]:
    """Run a function of a test file in a process of its own; return what it printed."""
    done = subprocess.run(
        [sys.executable, file, what, base],
        env=for_child(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {word: int(count) for word, count in map(str.split, done.stdout.splitlines())}
