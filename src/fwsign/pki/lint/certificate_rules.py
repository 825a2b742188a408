# SPDX-License-Identifier: Apache-2.0
"""The rules of `fwsign pki lint` about certificates: of any kind, of CAs, of signers."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from fwsign.format.algorithms import KEYS
from fwsign.pki.lint.rule import Rule, error, note, warning

_KEYS = ", ".join(
    dict.fromkeys(
        kind.family if kind.family == "ML-DSA" else kind.name
        for kind in KEYS
        if kind.new and kind.family != "RSA"
    )
)
_REFUSED = "devices refuse everything below it"
_COMPAT = "devices need --profile compat"
_NEW_LEAF = "issue another one: fwsign pki issue signer NAME"
_NEW_CA = "no certificate can be altered: make a new CA, fwsign pki init, and bring it to devices"
_AS_IS = "devices with --profile compat take it as it is; a new PKI: fwsign pki init"

CERTIFICATE_RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        # Any certificate.
        "lint.version": error(
            "a certificate of version 1 or 2", "devices refuse it", f"{_NEW_LEAF}, or a new CA"
        ),
        "lint.serial": error(
            "a serial number that is zero (but for a root), negative or longer than 20 bytes",
            "devices refuse it",
            f"{_NEW_LEAF}, or a new CA",
        ),
        "lint.serial-short": warning(
            "a serial number of less than 8 bytes",
            "it can be guessed, and two CAs of one name give the same one",
            "fwsign gives new certificates 20 random bytes",
        ),
        "lint.serial-twice": warning(
            "two certificates of one issuer with the same serial number",
            "revoking one revokes the other",
            "revoke both and issue others",
        ),
        "lint.time-encoding": warning(
            "a time until 2049 as GeneralizedTime (RFC 5280 section 4.1.2.5)",
            "other verifiers refuse it",
            "issue another one",
        ),
        "lint.signature-weak": error(
            "signed with SHA-1, MD5 or another algorithm outside the closed list",
            "devices refuse it",
            "issue another one with SHA-256: fwsign does",
        ),
        "lint.root-signature-weak": note(
            "a root that signed itself with SHA-1, MD5 or another algorithm outside the list",
            "nothing on devices, which pin it; other programs may refuse it",
            "nothing needs to be done",
        ),
        "lint.signature": error(
            "the signature is not by the key of the issuer that it names",
            "devices refuse it",
            "find out who made it; issue another one",
        ),
        "lint.key": error(
            "a key of a kind or size that is not supported",
            "devices refuse it",
            f"{_KEYS}, or RSA of 3072 bits (CAs: 2048)",
        ),
        "lint.below-ml-dsa": warning(
            "a key that is not ML-DSA, below a CA of ML-DSA",
            "who breaks it with a quantum computer signs in its place: the path is as strong as "
            "its weakest key",
            "a new key of the issuer's kind: fwsign pki renew NAME --new-key",
        ),
        "lint.above-ml-dsa": note(
            "a key of ML-DSA, below a CA that is not",
            "the path is no stronger than the CA above",
            "nothing, as a step towards ML-DSA; the next: fwsign pki rotate --alg ml-dsa-65",
        ),
        "lint.published-key": error(
            "a key whose private half is published",
            "everyone can sign with it",
            "make another PKI: fwsign init; tell devices to drop this one",
        ),
        "lint.leaked-key": error(
            "a certificate whose key leaked: another certificate of it was revoked for that",
            "whoever has the key uses this certificate",
            "fwsign pki revoke SERIAL --reason keyCompromise; a root: fwsign pki rotate",
        ),
        "lint.critical-extension": error(
            "a critical extension that the verifier does not know",
            "devices refuse it",
            "issue another one without it",
        ),
        "lint.extension": error(
            "an extension that a strict reader refuses, for the reason given",
            "devices refuse it",
            f"{_NEW_LEAF}, or a new CA",
        ),
        "lint.issuer-absent": note(
            "the issuer is not here",
            "whether it signed this cannot be told",
            "lint the folder in which the issuer is",
        ),
        "lint.aki-absent": error(
            "no authority key identifier", "devices refuse it", "issue another one"
        ),
        "lint.aki-mismatch": error(
            "the authority key identifier is not the issuer's subject key identifier",
            "devices refuse it",
            "issue another one",
        ),
        # When.
        "lint.expired": error(
            "a certificate has expired",
            "devices refuse it",
            "a signer: fwsign pki renew NAME; a CA: fwsign pki rotate",
        ),
        "lint.root-expired": warning(
            "a root has expired",
            "devices go on, for an anchor's dates do not count; other programs refuse it",
            "bring another root to devices: fwsign pki rotate",
        ),
        "lint.not-yet-valid": error(
            "a certificate is not valid yet",
            "devices refuse it until then",
            "wait, or look at the clock of whoever issued it",
        ),
        "lint.expires-soon": warning(
            "a CA ends within a year, or a signer within 90 days",
            "devices will refuse it then",
            "a signer: fwsign pki renew NAME; a CA: fwsign pki rotate",
        ),
        "lint.no-end": note(
            "a CA below which there are certificates without an end date",
            "they count as long as there is a certificate of this CA that does",
            "renew it with its old key before its end: fwsign pki renew issuing-tls",
        ),
        "lint.outlives-issuer": warning(
            "valid for longer than its issuer",
            "it ends with its issuer, sooner than it says",
            "fwsign never issues such ones; plan with the issuer's end",
        ),
        "lint.ca-revoked": error(
            "a certificate is below a revoked CA, and nothing has replaced it",
            "devices refuse it, and what is signed with it",
            "another CA: fwsign pki renew issuing --new-key; then fwsign pki renew --all",
        ),
        "lint.ca-expired": error(
            "a certificate is below a CA that has expired, and nothing has replaced it",
            "devices refuse it, and what is signed with it",
            "renew the CA: fwsign pki renew issuing, or fwsign pki rotate; then fwsign pki renew "
            "--all",
        ),
        "lint.ca-long-lived": note(
            "a CA is valid for more than 20 years",
            "its key has to be kept safe for as long",
            "nothing needs to be done; a successor for the day: fwsign pki standby",
        ),
        "lint.leaf-long-lived": warning(
            "a signer is valid for more than 3 years",
            "a stolen key stays useful for as long, wherever CRLs do not arrive",
            f"{_NEW_LEAF} --for 1y",
        ),
        # CAs.
        "lint.ca-criticality": warning(
            "basicConstraints of a CA is not critical, as easy-rsa before 2026 writes it",
            _COMPAT,
            _AS_IS,
        ),
        "lint.ca-key-usage-absent": warning(
            "a CA without key usage, as openssl req -x509 makes it", _COMPAT, _AS_IS
        ),
        "lint.ca-cert-sign": error("key usage of a CA lacks keyCertSign", _REFUSED, _NEW_CA),
        "lint.ca-crl-sign": error(
            "key usage of a CA lacks cRLSign", "devices refuse its CRLs", _NEW_CA
        ),
        "lint.ca-eku": error(
            "extended key usage of a CA above a signer lacks codeSigning",
            "devices refuse its signers",
            "issue signers with a CA that has codeSigning, or no extended key usage",
        ),
        "lint.ski-absent": error("a CA without subject key identifier", _REFUSED, _NEW_CA),
        "lint.ca-name-twice": warning(
            "two CAs of one name with different keys",
            "programs mistake one for the other",
            "give the next CA another name",
        ),
        "lint.issuer-not-ca": error(
            "a certificate that is not a CA has issued another", _REFUSED, "issue it with a CA"
        ),
        "lint.path-length": error(
            "more CAs below a CA than its path length allows", _REFUSED, _NEW_CA
        ),
        "lint.constraints-absent": note(
            "a CA issues signers and has no name constraints",
            "its signers can be for any vendor",
            "enrol the anchor with vendors on devices, or make an issuing CA: fwsign pki init",
        ),
        "lint.constraints-kind": error(
            "a name constraint on other names than domains and directory names",
            _REFUSED,
            _NEW_CA,
        ),
        "lint.constraints-criticality": note(
            "name constraints that are not critical",
            "verifiers that do not know them ignore them; fwsign obeys them",
            "nothing needs to be done: mbedTLS reads no CA with critical ones, so the one CA of "
            "fwsign pki init --layout easyrsa has them like this",
        ),
        # Signers.
        "lint.ca-as-leaf": error(
            "a CA that is to sign releases itself",
            "devices refuse what it signs",
            "have it issue a signer: fwsign pki issue signer NAME",
        ),
        "lint.self-signed-leaf": error(
            "a signer that has issued itself",
            "no path leads to it, and it is no CA to pin",
            "make a PKI: fwsign init",
        ),
        "lint.leaf-key-usage": error(
            "key usage of a signer is absent, lacks digitalSignature or has keyCertSign",
            "devices refuse what it signs",
            _NEW_LEAF,
        ),
        "lint.eku-absent": error(
            "no extended key usage", "devices refuse what it signs", _NEW_LEAF
        ),
        "lint.eku-any": error("a signer is for any use", "devices refuse what it signs", _NEW_LEAF),
        "lint.eku-criticality": warning(
            "extended key usage is not critical", _COMPAT, f"{_NEW_LEAF}; or {_AS_IS}"
        ),
        "lint.name-twice": note(
            "two certificates of one name with different keys",
            "messages do not tell them apart",
            "give the next one another name, such as release-2027",
        ),
        "lint.vendor-absent": warning(
            "a signer without dNSName",
            "devices need its vendor pinned by key: fwsign verify --profile compat --vendor DOMAIN",
            _NEW_LEAF,
        ),
        "lint.vendor-name": warning(
            "a dNSName with a wildcard, upper case, or that is not a domain",
            "it is no vendor: devices ignore it",
            f"{_NEW_LEAF} --vendor DOMAIN",
        ),
    }
)
