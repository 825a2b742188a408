# SPDX-License-Identifier: Apache-2.0
"""The rules of `fwsign pki lint`: every code with its meaning, cost and remedy."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from fwsign.pki.lint.certificate_rules import CERTIFICATE_RULES
from fwsign.pki.lint.rule import Rule, Severity, error, note, warning

_NEW_CRL = "make a new one: fwsign pki crl; for easy-rsa's, fwsign pki import first"


class Finding(NamedTuple):
    """A fault that was found.

    Args:
        code: the rule's, as in docs/lint.md.
        severity: "error", "warning" or "note".
        subject: the name of the thing with the fault.
        file: where that is.
        message: the fault, with the expected and the found value.
    """

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


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        # Files.
        "lint.damaged": error(
            "a file that claims to be a certificate, CRL or key and is not",
            "fwsign and devices cannot read it; other programs may",
            "fetch or make it again",
        ),
        "lint.refused": error(
            "the verifier refuses it, for the reason given",
            "devices refuse what is signed with it",
            "see the reason",
        ),
        "lint.locked": note(
            "a PKCS#12 file, and its passphrase was not given",
            "what is in it is not looked at",
            "fwsign pki lint FILE --pass env:NAME",
        ),
        **CERTIFICATE_RULES,
        # CRLs.
        "lint.crl-missing": warning(
            "no CRL of a CA that has issued certificates",
            "revocation cannot be judged; with the CRL of another CA, devices refuse the path",
            _NEW_CRL,
        ),
        "lint.crl-number": warning(
            "a CRL without number, as easy-rsa makes it",
            "an old CRL can take the place of a new one; devices need --profile compat",
            _NEW_CRL,
        ),
        "lint.crl-next-update": error(
            "a CRL that does not say when the next one comes", "devices refuse it", _NEW_CRL
        ),
        "lint.crl-stale": error(
            "a CRL is past its next update", "devices refuse the path", _NEW_CRL
        ),
        "lint.crl-expires-soon": warning(
            "a CRL ends within 30 days", "devices will refuse the path then", _NEW_CRL
        ),
        "lint.crl-extension": error(
            "a CRL, or an entry of it, has a critical extension", "devices refuse it", _NEW_CRL
        ),
        "lint.crl-partial": error(
            "a delta CRL, or one for a part of the certificates, or for another issuer's",
            "devices refuse it",
            "make a complete one: fwsign pki crl",
        ),
        "lint.crl-version": error("a CRL of version 1", "devices refuse it", _NEW_CRL),
        "lint.crl-signature": error(
            "a CRL that is not signed by the CA of its issuer's name", "devices refuse it", _NEW_CRL
        ),
        "lint.crl-orphan": note(
            "the CA of a CRL is not here",
            "whether it signed this cannot be told",
            "lint the folder in which the CA is",
        ),
        "lint.crl-unknown": note(
            "a CRL lists serial numbers of certificates that are not here",
            "nothing: an entry stays when the file is gone",
            "nothing needs to be done",
        ),
        # The log.
        "lint.log": warning(
            "a log with a changed, missing or damaged line",
            "nobody can say any more who issued what",
            "take log.jsonl from a backup; find out who wrote to it",
        ),
        "lint.not-logged": warning(
            "a certificate that is younger than the log and not in it",
            "someone may have used the CA's key without fwsign",
            "ask who issued it; if nobody knows: fwsign pki revoke, and replace the CA's key",
        ),
        # Private keys.
        "lint.key-readable": warning(
            "other users can read or alter the file of a private key",
            "they can sign with it, or only have to guess its passphrase",
            "chmod 600 FILE",
        ),
        "lint.key-plain": note(
            "a private key without passphrase",
            "whoever reads the file can use the key",
            "keep it where nobody else reads, or encrypt it: fwsign key passwd FILE",
        ),
        "lint.key-weak-kdf": note(
            "a passphrase of few rounds, or one of an older scheme",
            "short passphrases can be guessed from a copy of the file",
            "encrypt it anew: fwsign key passwd FILE; PKCS#12: fwsign key convert",
        ),
        "lint.root-key-here": note(
            "the root's key is kept with the keys of signers",
            "who takes one takes the other, and a root cannot be revoked",
            "take private/ca.key offline: signing does not need it",
        ),
    }
)
"""Every code that lint can find."""
