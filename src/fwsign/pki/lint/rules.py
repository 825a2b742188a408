# SPDX-License-Identifier: Apache-2.0
"""The rules of `fwsign pki lint`: every code with its meaning, cost and remedy."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias

from fwsign.format.algorithms import KEYS

Severity: TypeAlias = Literal["error", "warning", "note"]
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note")
"""error: devices will refuse; warning: it will cause trouble; note: good to know."""


class Rule(NamedTuple):
    """The fault that a code stands for, its cost, and its remedy."""

    severity: Severity
    meaning: str
    cost: str
    mend: str


class Finding(NamedTuple):
    """A finding; `subject` names the thing with the fault, `message` describes the fault."""

    code: str
    severity: Severity
    subject: str
    file: Path
    message: str

    @property
    def cost(self) -> str:
        """The cost of the fault."""
        return RULES[self.code].cost

    @property
    def mend(self) -> str:
        """The remedy."""
        return RULES[self.code].mend


def found(code: str, subject: str, file: Path, message: str) -> Finding:
    """Return a finding of the rule's severity."""
    return Finding(code, RULES[code].severity, subject, file, message)


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
_NEW_CRL = "make a new one: fwsign pki crl; for easy-rsa's, fwsign pki import first"


def _error(meaning: str, cost: str, mend: str) -> Rule:
    return Rule("error", meaning, cost, mend)


def _warning(meaning: str, cost: str, mend: str) -> Rule:
    return Rule("warning", meaning, cost, mend)


def _note(meaning: str, cost: str, mend: str) -> Rule:
    return Rule("note", meaning, cost, mend)


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        # Files.
        "lint.damaged": _error(
            "a file that claims to be a certificate, CRL or key and is not",
            "fwsign and devices cannot read it; other programs may",
            "fetch or make it again",
        ),
        "lint.refused": _error(
            "the verifier refuses it, for the reason given",
            "devices refuse what is signed with it",
            "see the reason",
        ),
        "lint.locked": _note(
            "a PKCS#12 file, and its passphrase was not given",
            "what is in it is not looked at",
            "fwsign pki lint FILE --pass env:NAME",
        ),
        # Any certificate.
        "lint.version": _error(
            "a certificate of version 1 or 2", "devices refuse it", f"{_NEW_LEAF}, or a new CA"
        ),
        "lint.serial": _error(
            "a serial number that is zero (but for a root), negative or longer than 20 bytes",
            "devices refuse it",
            f"{_NEW_LEAF}, or a new CA",
        ),
        "lint.serial-short": _warning(
            "a serial number of less than 8 bytes",
            "it can be guessed, and two CAs of one name give the same one",
            "fwsign gives new certificates 20 random bytes",
        ),
        "lint.serial-twice": _warning(
            "two certificates of one issuer with the same serial number",
            "revoking one revokes the other",
            "revoke both and issue others",
        ),
        "lint.time-encoding": _warning(
            "a time until 2049 as GeneralizedTime (RFC 5280 section 4.1.2.5)",
            "other verifiers refuse it",
            "issue another one",
        ),
        "lint.signature-weak": _error(
            "signed with SHA-1, MD5 or another algorithm outside the closed list",
            "devices refuse it",
            "issue another one with SHA-256: fwsign does",
        ),
        "lint.root-signature-weak": _note(
            "a root that signed itself with SHA-1, MD5 or another algorithm outside the list",
            "nothing on devices, which pin it; other programs may refuse it",
            "nothing needs to be done",
        ),
        "lint.signature": _error(
            "the signature is not by the key of the issuer that it names",
            "devices refuse it",
            "find out who made it; issue another one",
        ),
        "lint.key": _error(
            "a key of a kind or size that is not supported",
            "devices refuse it",
            f"{_KEYS}, or RSA of 3072 bits (CAs: 2048)",
        ),
        "lint.below-ml-dsa": _warning(
            "a key that is not ML-DSA, below a CA of ML-DSA",
            "who breaks it with a quantum computer signs in its place: the path is as strong as "
            "its weakest key",
            "a new key of the issuer's kind: fwsign pki renew NAME --new-key",
        ),
        "lint.above-ml-dsa": _note(
            "a key of ML-DSA, below a CA that is not",
            "the path is no stronger than the CA above",
            "nothing, as a step towards ML-DSA; the next: fwsign pki rotate --alg ml-dsa-65",
        ),
        "lint.published-key": _error(
            "a key whose private half is published",
            "everyone can sign with it",
            "make another PKI: fwsign init; tell devices to drop this one",
        ),
        "lint.leaked-key": _error(
            "a certificate whose key leaked: another certificate of it was revoked for that",
            "whoever has the key uses this certificate",
            "fwsign pki revoke SERIAL --reason keyCompromise; a root: fwsign pki rotate",
        ),
        "lint.critical-extension": _error(
            "a critical extension that the verifier does not know",
            "devices refuse it",
            "issue another one without it",
        ),
        "lint.extension": _error(
            "an extension that a strict reader refuses, for the reason given",
            "devices refuse it",
            f"{_NEW_LEAF}, or a new CA",
        ),
        "lint.issuer-absent": _note(
            "the issuer is not here",
            "whether it signed this cannot be told",
            "lint the folder in which the issuer is",
        ),
        "lint.aki-absent": _error(
            "no authority key identifier", "devices refuse it", "issue another one"
        ),
        "lint.aki-mismatch": _error(
            "the authority key identifier is not the issuer's subject key identifier",
            "devices refuse it",
            "issue another one",
        ),
        # When.
        "lint.expired": _error(
            "a certificate has expired",
            "devices refuse it",
            "a signer: fwsign pki renew NAME; a CA: fwsign pki rotate",
        ),
        "lint.root-expired": _warning(
            "a root has expired",
            "devices go on, for an anchor's dates do not count; other programs refuse it",
            "bring another root to devices: fwsign pki rotate",
        ),
        "lint.not-yet-valid": _error(
            "a certificate is not valid yet",
            "devices refuse it until then",
            "wait, or look at the clock of whoever issued it",
        ),
        "lint.expires-soon": _warning(
            "a CA ends within a year, or a signer within 90 days",
            "devices will refuse it then",
            "a signer: fwsign pki renew NAME; a CA: fwsign pki rotate",
        ),
        "lint.no-end": _note(
            "a CA below which there are certificates without an end date",
            "they count as long as there is a certificate of this CA that does",
            "renew it with its old key before its end: fwsign pki renew issuing-tls",
        ),
        "lint.outlives-issuer": _warning(
            "valid for longer than its issuer",
            "it ends with its issuer, sooner than it says",
            "fwsign never issues such ones; plan with the issuer's end",
        ),
        "lint.ca-revoked": _error(
            "a certificate is below a revoked CA, and nothing has replaced it",
            "devices refuse it, and what is signed with it",
            "another CA: fwsign pki renew issuing --new-key; then fwsign pki renew --all",
        ),
        "lint.ca-expired": _error(
            "a certificate is below a CA that has expired, and nothing has replaced it",
            "devices refuse it, and what is signed with it",
            "renew the CA: fwsign pki renew issuing, or fwsign pki rotate; then fwsign pki renew "
            "--all",
        ),
        "lint.ca-long-lived": _note(
            "a CA is valid for more than 20 years",
            "its key has to be kept safe for as long",
            "nothing needs to be done; a successor for the day: fwsign pki standby",
        ),
        "lint.leaf-long-lived": _warning(
            "a signer is valid for more than 3 years",
            "a stolen key stays useful for as long, wherever CRLs do not arrive",
            f"{_NEW_LEAF} --for 1y",
        ),
        # CAs.
        "lint.ca-criticality": _warning(
            "basicConstraints of a CA is not critical, as easy-rsa before 2026 writes it",
            _COMPAT,
            _AS_IS,
        ),
        "lint.ca-key-usage-absent": _warning(
            "a CA without key usage, as openssl req -x509 makes it", _COMPAT, _AS_IS
        ),
        "lint.ca-cert-sign": _error("key usage of a CA lacks keyCertSign", _REFUSED, _NEW_CA),
        "lint.ca-crl-sign": _error(
            "key usage of a CA lacks cRLSign", "devices refuse its CRLs", _NEW_CA
        ),
        "lint.ca-eku": _error(
            "extended key usage of a CA above a signer lacks codeSigning",
            "devices refuse its signers",
            "issue signers with a CA that has codeSigning, or no extended key usage",
        ),
        "lint.ski-absent": _error("a CA without subject key identifier", _REFUSED, _NEW_CA),
        "lint.ca-name-twice": _warning(
            "two CAs of one name with different keys",
            "programs mistake one for the other",
            "give the next CA another name",
        ),
        "lint.issuer-not-ca": _error(
            "a certificate that is not a CA has issued another", _REFUSED, "issue it with a CA"
        ),
        "lint.path-length": _error(
            "more CAs below a CA than its path length allows", _REFUSED, _NEW_CA
        ),
        "lint.constraints-absent": _note(
            "a CA issues signers and has no name constraints",
            "its signers can be for any vendor",
            "enrol the anchor with vendors on devices, or make an issuing CA: fwsign pki init",
        ),
        "lint.constraints-kind": _error(
            "a name constraint on other names than domains and directory names",
            _REFUSED,
            _NEW_CA,
        ),
        "lint.constraints-criticality": _note(
            "name constraints that are not critical",
            "verifiers that do not know them ignore them; fwsign obeys them",
            "nothing needs to be done: mbedTLS reads no CA with critical ones, so the one CA of "
            "fwsign pki init --layout easyrsa has them like this",
        ),
        # Signers.
        "lint.ca-as-leaf": _error(
            "a CA that is to sign releases itself",
            "devices refuse what it signs",
            "have it issue a signer: fwsign pki issue signer NAME",
        ),
        "lint.self-signed-leaf": _error(
            "a signer that has issued itself",
            "no path leads to it, and it is no CA to pin",
            "make a PKI: fwsign init",
        ),
        "lint.leaf-key-usage": _error(
            "key usage of a signer is absent, lacks digitalSignature or has keyCertSign",
            "devices refuse what it signs",
            _NEW_LEAF,
        ),
        "lint.eku-absent": _error(
            "no extended key usage", "devices refuse what it signs", _NEW_LEAF
        ),
        "lint.eku-any": _error(
            "a signer is for any use", "devices refuse what it signs", _NEW_LEAF
        ),
        "lint.eku-criticality": _warning(
            "extended key usage is not critical", _COMPAT, f"{_NEW_LEAF}; or {_AS_IS}"
        ),
        "lint.name-twice": _note(
            "two certificates of one name with different keys",
            "messages do not tell them apart",
            "give the next one another name, such as release-2027",
        ),
        "lint.vendor-absent": _warning(
            "a signer without dNSName",
            "devices need its vendor pinned by key: fwsign verify --profile compat --vendor DOMAIN",
            _NEW_LEAF,
        ),
        "lint.vendor-name": _warning(
            "a dNSName with a wildcard, upper case, or that is not a domain",
            "it is no vendor: devices ignore it",
            f"{_NEW_LEAF} --vendor DOMAIN",
        ),
        # CRLs.
        "lint.crl-missing": _warning(
            "no CRL of a CA that has issued certificates",
            "revocation cannot be judged; with the CRL of another CA, devices refuse the path",
            _NEW_CRL,
        ),
        "lint.crl-number": _warning(
            "a CRL without number, as easy-rsa makes it",
            "an old CRL can take the place of a new one; devices need --profile compat",
            _NEW_CRL,
        ),
        "lint.crl-next-update": _error(
            "a CRL that does not say when the next one comes", "devices refuse it", _NEW_CRL
        ),
        "lint.crl-stale": _error(
            "a CRL is past its next update", "devices refuse the path", _NEW_CRL
        ),
        "lint.crl-expires-soon": _warning(
            "a CRL ends within 30 days", "devices will refuse the path then", _NEW_CRL
        ),
        "lint.crl-extension": _error(
            "a CRL, or an entry of it, has a critical extension", "devices refuse it", _NEW_CRL
        ),
        "lint.crl-partial": _error(
            "a delta CRL, or one for a part of the certificates, or for another issuer's",
            "devices refuse it",
            "make a complete one: fwsign pki crl",
        ),
        "lint.crl-version": _error("a CRL of version 1", "devices refuse it", _NEW_CRL),
        "lint.crl-signature": _error(
            "a CRL that is not signed by the CA of its issuer's name", "devices refuse it", _NEW_CRL
        ),
        "lint.crl-orphan": _note(
            "the CA of a CRL is not here",
            "whether it signed this cannot be told",
            "lint the folder in which the CA is",
        ),
        "lint.crl-unknown": _note(
            "a CRL lists serial numbers of certificates that are not here",
            "nothing: an entry stays when the file is gone",
            "nothing needs to be done",
        ),
        # The log.
        "lint.log": _warning(
            "a log with a changed, missing or damaged line",
            "nobody can say any more who issued what",
            "take log.jsonl from a backup; find out who wrote to it",
        ),
        "lint.not-logged": _warning(
            "a certificate that is younger than the log and not in it",
            "someone may have used the CA's key without fwsign",
            "ask who issued it; if nobody knows: fwsign pki revoke, and replace the CA's key",
        ),
        # Private keys.
        "lint.key-readable": _warning(
            "other users can read or alter the file of a private key",
            "they can sign with it, or only have to guess its passphrase",
            "chmod 600 FILE",
        ),
        "lint.key-plain": _note(
            "a private key without passphrase",
            "whoever reads the file can use the key",
            "keep it where nobody else reads, or encrypt it: fwsign key passwd FILE",
        ),
        "lint.key-weak-kdf": _note(
            "a passphrase of few rounds, or one of an older scheme",
            "short passphrases can be guessed from a copy of the file",
            "encrypt it anew: fwsign key passwd FILE; PKCS#12: fwsign key convert",
        ),
        "lint.root-key-here": _note(
            "the root's key is kept with the keys of signers",
            "who takes one takes the other, and a root cannot be revoked",
            "take private/ca.key offline: signing does not need it",
        ),
    }
)
"""Every code that lint can find."""
