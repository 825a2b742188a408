"""What easy-rsa and openssl ca leave behind, made without them."""

from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from support import Entity, ca_extensions, certify, make_crl, make_leaf, name, new_key

ROOT = certify(new_key(), name("Acme Root", None), None, ca_extensions(critical=False),
               days=(-10, 3650))  # fmt: skip
SIGNER = make_leaf(ROOT, "fw-signer", vendors=())
STOLEN = make_leaf(ROOT, "stolen", vendors=())
LATER = make_leaf(ROOT, "later", vendors=())


def pem(entity: Entity) -> bytes:
    return b"Certificate:\n    Data: text before\n" + entity.certificate.public_bytes(Encoding.PEM)


def key_pem(entity: Entity, passphrase: bytes | None = None) -> bytes:
    form = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    written: bytes = entity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, form)
    return written


def line(status: str, entity: Entity, revoked: str = "") -> str:
    certificate = entity.certificate
    return (
        f"{status}\t{certificate.not_valid_after_utc:%y%m%d%H%M%SZ}\t{revoked}\t"
        f"{certificate.serial_number:X}\tunknown\t/CN={certificate.subject.rfc4514_string()}\n"
    )


INDEX = line("V", SIGNER) + line("R", STOLEN, "261121120000Z,keyCompromise")


def crl_pem(*revoked: Entity) -> bytes:
    data = make_crl(ROOT, revoked, number=None)
    return x509.load_der_x509_crl(data).public_bytes(Encoding.PEM)


def easyrsa(folder: Path, **more: bytes | None) -> Path:
    """Make what easy-rsa leaves behind; `more` replaces files, / written as __, None removes."""
    serial = f"{STOLEN.certificate.serial_number:X}"
    files: dict[str, bytes | None] = {
        "ca.crt": ROOT.certificate.public_bytes(Encoding.PEM),
        "index.txt": INDEX.encode(),
        "serial": b"01\n",
        "crl.pem": crl_pem(STOLEN),
        "issued/fw-signer.crt": pem(SIGNER),
        f"certs_by_serial/{SIGNER.certificate.serial_number:X}.pem": pem(SIGNER),
        f"revoked/certs_by_serial/{serial}.crt": pem(STOLEN),
        "private/ca.key": key_pem(ROOT),
        "private/fw-signer.key": key_pem(SIGNER, b"old"),
    }
    for key, data in more.items():
        files[key.replace("__", "/").replace("_dot_", ".")] = data
    return write(folder / "pki", files).parent


def write(base: Path, files: Mapping[str, bytes | None]) -> Path:
    for path, data in files.items():
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        if data is not None:
            (base / path).write_bytes(data)
    return base
