# SPDX-License-Identifier: Apache-2.0
"""A PKI directory that easy-rsa can also use: the files it needs beside the certificates.

It has one CA, `ca`, which issues leaves itself. Both programs keep index.txt up to date. Each
file is written whole, and index.txt before its certificate is in use: a killed run leaves at most
a line for a certificate that was never handed out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fwsign.errors import Failed
from fwsign.files import write_atomic
from fwsign.pki.crls import CRL_NUMBER
from fwsign.pki.files import keep_from_git, make_directories, write_certificate
from fwsign.pki.index import add_line
from fwsign.pki.log import OWN, log_certificate
from fwsign.pki.places import INDEX

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from cryptography import x509

    from fwsign.pki.directory import Pki
    from fwsign.pki.log import Origin

_FOLDERS: Final = (
    "certs_by_serial",
    "reqs",
    "revoked",
    "revoked/certs_by_serial",
    "revoked/private_by_serial",
    "revoked/reqs_by_serial",
)
CONFIGURATION: Final = """\
# Made by fwsign for easy-rsa 3. easy-rsa sets the variables, and fills in the lines with %.
[ca]
default_ca = own

[own]
dir = $ENV::EASYRSA_PKI
certificate = $dir/ca.crt
private_key = $dir/private/ca.key
database = $dir/index.txt
new_certs_dir = $dir/certs_by_serial
serial = $dir/serial
crlnumber = $dir/crlnumber
crl_extensions = crl
x509_extensions = leaf
unique_subject = no
policy = any
default_md = $ENV::EASYRSA_DIGEST
default_days = $ENV::EASYRSA_CERT_EXPIRE
default_crl_days = $ENV::EASYRSA_CRL_DAYS
#%COPY_EXTS%

[any]
countryName = optional
stateOrProvinceName = optional
localityName = optional
organizationName = optional
organizationalUnitName = optional
commonName = supplied
name = optional
emailAddress = optional

[crl]
authorityKeyIdentifier = keyid:always

[leaf]
basicConstraints = CA:FALSE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always

[req]
default_bits = $ENV::EASYRSA_KEY_SIZE
default_md = $ENV::EASYRSA_DIGEST
distinguished_name = $ENV::EASYRSA_DN
x509_extensions = easyrsa_ca
#%EXTRA_EXTS%

[easyrsa_ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
#%CA_X509_TYPES_EXTRA_EXTS%

[cn_only]
commonName = Common Name
commonName_max = 64
commonName_default = $ENV::EASYRSA_REQ_CN

[org]
countryName = Country (two letters)
countryName_min = 2
countryName_max = 2
countryName_default = $ENV::EASYRSA_REQ_COUNTRY
stateOrProvinceName = State or province
stateOrProvinceName_default = $ENV::EASYRSA_REQ_PROVINCE
localityName = City
localityName_default = $ENV::EASYRSA_REQ_CITY
0.organizationName = Organisation
0.organizationName_default = $ENV::EASYRSA_REQ_ORG
organizationalUnitName = Unit
organizationalUnitName_default = $ENV::EASYRSA_REQ_OU
commonName = Common Name
commonName_max = 64
commonName_default = $ENV::EASYRSA_REQ_CN
emailAddress = E-mail address
emailAddress_max = 64
emailAddress_default = $ENV::EASYRSA_REQ_EMAIL
"""
"""openssl-easyrsa.cnf. Unlike easy-rsa's own, it gives CRLs the number that devices need."""


def make_flat(directory: Path, index: str = "") -> None:
    """Make the directories and files of a new PKI for easy-rsa.

    Args:
        directory: must not exist.
        index: the content of index.txt.
    """
    make_directories(directory, crl=False)
    for part in _FOLDERS:
        (directory / part).mkdir()
    keep_from_git(directory / "revoked/private_by_serial")
    files = {
        INDEX: index,
        "index.txt.attr": "unique_subject = no\n",
        "serial": "01\n",
        CRL_NUMBER: "01\n",
        "openssl-easyrsa.cnf": CONFIGURATION,
    }
    for name, text in files.items():
        write_atomic(directory / name, text.encode())


def enter(
    pki: Pki,
    name: str,
    certificate: x509.Certificate,
    now: datetime,
    *,
    kind: str = "issue",
    origin: Origin = OWN,
) -> None:
    """Add a certificate to the log, and to index.txt, before it is issued.

    The caller holds the lock. Args and errors as for `log_certificate`.

    Raises:
        Failed: `state.pki`: index.txt cannot be read.
    """
    log_certificate(pki.directory, name, certificate, now, kind=kind, origin=origin)
    if not pki.flat:
        return
    write_certificate(pki.old_path(certificate.serial_number), certificate)
    add_line(pki.directory / INDEX, certificate)


def refuse_flat(pki: Pki) -> None:
    """Refuse to make another CA in a flat PKI: easy-rsa knows only one.

    Raises:
        Failed: `state.pki`.
    """
    if pki.flat:
        raise Failed(
            "state.pki",
            f"{pki.directory} is laid out for easy-rsa, which has one CA",
            expected="a PKI with roots and issuing CAs",
            found=pki.directory / INDEX,
            hint=f"fwsign pki import {pki.directory} makes one with this CA as the root",
        )
