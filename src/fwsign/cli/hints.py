# SPDX-License-Identifier: Apache-2.0
"""Hints for the next action after a refusal, chosen for the command that failed.

A code has one hint or several; the first that fits is given. A hint fits a command that has every
option in the hint; options in a part that begins with another command of fwsign, as in
`fwsign staple ENVELOPE --crl PEM`, are that command's own. `device` stands for the commands of a
gateway, whose settings come from device.toml instead of options.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from fwsign.cli.quoting import quoted
from fwsign.nearest import did_you_mean

_AGAIN = "fetch it again from where it was signed"
_OTHER_FILE = "this is not the file that was signed; fetch it again"
_SIGNER = "issue a signer with: fwsign pki issue signer NAME"
_WHAT_IS_IT = "is this a .suit file? fwsign show FILE tells what it is"
_COMPAT = (
    "PKIs that easy-rsa or openssl made need --profile compat",
    'device: PKIs that easy-rsa or openssl made need profile = "compat" in device.toml: [policy]',
)
_VENDOR = "issue one: fwsign pki issue signer NAME --vendor DOMAIN"
_UNCHECKED = (
    "give --vendor and --product, or waive by name: --any-product, --revocation off, "
    "--no-rollback-check"
)
_CUT = "what came is kept; go on with: fwsign install --resume"

HINTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "stale.crl": (
            "make new ones with: fwsign pki crl; and for signed files: fwsign staple ENVELOPE",
        ),
        "stale.crl-missing": ("put it into the envelope with: fwsign staple ENVELOPE --crl PEM",),
        "stale.channel": (
            "device: what runs goes on; the next channel is due, or the server withholds it",
            "make the next one: fwsign channel make NAME",
        ),
        "stale.certificate": (
            "channel: issue a new one with: fwsign pki issue channel NAME",
            "device: is the clock right? Else its signer has to sign with a new certificate",
            "issue a new signer with: fwsign pki issue signer NAME",
        ),
        "stale.not-yet-valid": (
            "is the clock right? --at gives another time",
            "is the clock right?",
        ),
        "stale.permit": ("is the clock right? Else: fwsign permit make makes another",),
        "unsuitable.permit-used": ("a permit works once: fwsign permit make makes another",),
        "unsuitable.permit-device": (
            "device: fwsign device status shows this device's id; fwsign permit show, the permit's",
            "fwsign board shows a board's identity; fwsign permit show, the permit's",
        ),
        "unsuitable.permit-release": ("fwsign permit show tells which release it is for",),
        "stale.release": ("sign a newer release: fwsign sign FILE --not-after TIME",),
        "untrusted.no-anchor": (
            "give the right root with --anchor PEM",
            "device: fwsign device status shows whom this device trusts",
            "the last certificate of --chain has to be the root",
        ),
        "untrusted.criticality": _COMPAT,
        "untrusted.key-usage": _COMPAT,
        "untrusted.crl": _COMPAT,
        "untrusted.example-key": (
            "make your own PKI: fwsign init; for tests: --allow-example-keys",
            "make your own PKI: fwsign init",
        ),
        "untrusted.eku": (
            "channel: issue a signer of channels with: fwsign pki issue channel NAME",
            "device: fwsign show FILE tells what it is, and what its signer may sign",
            _SIGNER,
        ),
        "untrusted.ca-as-leaf": ("CAs issue signers: fwsign pki issue signer NAME",),
        "untrusted.vendor": (
            f"{_VENDOR}; where no certificate names a vendor, --vendor with --profile compat does",
            _VENDOR,
        ),
        "untrusted.revoked": (
            "sign with another signer: --signer NAME, or --key and --chain",
            "do not install this; sign again with a signer that is not revoked",
        ),
        "untrusted.signers": (
            "more people must sign: fwsign cosign ENVELOPE; or the policy asks for too many",
        ),
        "malformed.cbor": (_WHAT_IS_IT,),
        "malformed.envelope": (_WHAT_IS_IT,),
        "malformed.profile": (
            "of SUIT manifests only those of docs/format.md are taken, as fwsign sign writes them",
        ),
        "malformed.image": (
            "build it again; --target file signs it whatever it is",
            "build it again",
        ),
        "malformed.token": ("sign again, with another time-stamping authority or none",),
        "io.tsa": ("is the address right, and the authority reachable from here?",),
        "tampered.manifest": (_AGAIN,),
        "tampered.signature": (_AGAIN,),
        "tampered.block": (_OTHER_FILE,),
        "tampered.payload-digest": (_OTHER_FILE,),
        "tampered.payload-size": (_OTHER_FILE,),
        "unsuitable.vendor": (
            "--vendor, or fwsign.toml, says whose device this is",
            "device: device.toml says whose device this is",
        ),
        "unsuitable.product": (
            "--product, or fwsign.toml, says what this device is",
            "device: device.toml says what this device is",
        ),
        "unsuitable.channel": ("it is verified with: fwsign channel verify FILE",),
        "unsuitable.channel-name": ("--name says which one devices follow",),
        "unsuitable.fast-forward": (
            "is the clock right? --at gives another time",
            "is the clock right?",
        ),
        "unsuitable.rollback": (
            "channel: fetch the newest channel",
            "install the newest release",
        ),
        "unsuitable.release": (
            "channel: a release is verified with: fwsign verify ENVELOPE",
            "releases are installed: fwsign install ENVELOPE",
        ),
        "unsuitable.trust-update": ("it is applied with: fwsign trust apply FILE",),
        "unsuitable.trust-gap": ("apply those between too, joined in one file",),
        "io.payload-missing": (
            "put it beside the envelope, name it, or use --manifest-only",
            "put it beside the envelope, or name it",
        ),
        "io.exists": (
            "--html names another page, --force replaces one that an earlier run has written",
            "--output names another file",
            "--force replaces it",
        ),
        "io.listen": ("--listen names another address and port",),
        "io.place": ("is it reachable from here, and are its credentials in the environment?",),
        "io.write-lost": ("run it again; if that happens again, leave this store",),
        "io.release-missing": ("give its envelope, too; or make a channel without it",),
        "io.store": ("does the database run, with room on its disk? The same command again then",),
        "io.crl-unused": ("leave it out, or give the CRL of an issuer of the signer",),
        "key.format": ("fwsign show FILE tells what it is",),
        "key.unsupported": ("--new-key makes another one",),
        "key.passphrase": ("is it the passphrase of this key?",),
        "key.passphrase-missing": (
            "give it with --pass or --ca-pass: env:NAME, file:PATH or fd:N",
            "give it with --pass: env:NAME, file:PATH or fd:N",
            "give it with --ca-pass: env:NAME, file:PATH or fd:N",
        ),
        "state.ca-limit": (
            "a CA's domains are set when it is made: fwsign pki init --permit DOMAIN",
        ),
        "unsuitable.chip": ("is it the right board, and the right release?",),
        "unsuitable.revision": ("is it the right board, and the right release?",),
        "unsuitable.flash-mode": ("build it for the board's flash",),
        "unsuitable.bootable": ("sign what is missing in the same release",),
        "device.port": ("fwsign ports lists the ports; is it in use, and may you open it?",),
        "device.absent": ("is it connected, powered, and in its boot loader?",),
        "device.changed": ("put the first board back, or start again",),
        "state.unchecked": (
            _UNCHECKED,
            "device: device.toml says what this device checks",
        ),
        "malformed.receipt": ("where a crash cut off the last line, the next receipt removes it",),
        "tampered.receipt-chain": (
            "receipts were changed, moved or taken out; ask who kept a copy",
        ),
        "tampered.receipt-head": ("receipts were changed or taken out; ask who kept a copy",),
        "tampered.native": (
            "the image was built or signed again after fwsign sign; sign the release again",
        ),
        "untrusted.native-key": ("fwsign show FILE lists the keys that signed it for the chip",),
        "unsuitable.security-version": ("is it the right build?",),
        "unsuitable.recipient": (
            "--decrypt KEY is the key of such a group; fwsign show FILE lists the groups",
            "device: [[decrypt]] in device.toml names the keys; fwsign show FILE lists the groups",
        ),
        "tampered.content-key": (_AGAIN,),
        "untrusted.receipt": ("--key names what signed, --anchor its root",),
        "state.lost": (
            "--config FILE names a gateway's; the one of boards is made by the first fwsign flash",
            "fwsign flash makes one on first use; --state names another place",
        ),
        "state.home": ("name a file for it with --state FILE",),
        "state.foreign": ("--state names the memory",),
        "state.newer": ("update fwsign",),
        "state.damaged": (
            "put back a copy, or begin anew with another file: --state",
            "put back a copy",
        ),
        "state.conflict": ("run it again",),
        "state.unfinished": (
            "finish it with: fwsign install --resume; or install a newer release",
        ),
        "state.trial": (
            "fwsign device trial judges it now; fwsign device rollback ends it by hand",
        ),
        "unsuitable.failed-before": (
            "install a newer release; to try this one again: fwsign install ENVELOPE --retry",
        ),
        "unsuitable.trial": (
            (
                "sign a mended release with a higher sequence number; "
                "if this gateway was at fault: fwsign install ENVELOPE --retry"
            ),
        ),
        "state.nothing": ("name a release: fwsign install ENVELOPE",),
        "io.hook": ("mend the command that device.toml names, then: fwsign install --resume",),
        "io.fetch-connect": (
            "is it reachable from here? --ca says whom to trust as a server",
            "is the server reachable from here? fetch.ca in device.toml says whom to trust as one",
        ),
        "io.mqtt-refused": (
            "does the broker know the CA of --cert, and may this client write to the topic?",
            "does the broker know the CA of this client, and may it read the topic?",
        ),
        "io.mqtt-lost": (
            "is it a broker of MQTT 5, and does it accept the certificate of --cert?",
            "is it a broker of MQTT 5, and does it accept this client's certificate?",
        ),
        "io.fetch-cut": (_CUT,),
        "io.fetch-slow": (_CUT,),
        "unsuitable.target": ("device.toml says where components go: [exec] and [flash]",),
        "tampered.release": (
            "its server has an old file at this place, or a wrong one: publish the release again",
        ),
        "unsuitable.rollout": (
            "fwsign device status shows what the channel says; or name the release's envelope",
        ),
        "tampered.staged": ("something else writes to the target directory; find out what",),
        "key.mismatch": (
            "give the certificate of this key first in --chain",
            "give the certificate of this key with --cert",
        ),
    }
)

_FOR: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = MappingProxyType(
    {
        "device: ": (("install",), ("follow",), ("watch",), ("device",), ("trust", "apply")),
        "channel: ": (("channel",),),
    }
)
"""The beginnings of hints for some commands alone, and these commands."""
_OWN_WORDS: Final = {
    "check": "verify",
    "create": "init",
    "dump": "show",
    "gateway": "device",
    "generate": "key new",
    "genkey": "key new",
    "info": "show",
    "inspect": "show",
    "keygen": "key new",
    "log": "receipts show",
    "ls": "pki show",
    "setup": "init",
    "update": "install",
    "upload": "flash",
    "write": "flash",
}
"""Words of other programs, and our commands."""


def hint_for(
    code: str, given: str | None, command: Sequence[str], options: frozenset[str]
) -> str | None:
    """Return the hint for a refusal, None if none fits.

    Args:
        code: the refusal's code.
        given: the hint that came with it.
        command: the words after `fwsign` of the command that failed.
        options: the options that it has.
    """
    if given is not None and own_options(given) <= options:
        return given
    for text in HINTS.get(code, ()):
        begin = next((one for one in _FOR if text.startswith(one)), "")
        plain = text.removeprefix(begin)
        mine = not begin or any(tuple(command[: len(one)]) == one for one in _FOR[begin])
        if mine and own_options(plain) <= options:
            return plain
    return None


def clauses(text: str) -> Iterator[tuple[str, str]]:
    """Yield the parts of a hint: the text before a command line, and that line."""
    for part in text.split("; "):
        place = re.search(r"\b(fwsign|pipx?|espsecure) [a-z]", part)
        start = place.start() if place else len(part)
        yield part[:start], part[start:]


def own_options(text: str) -> frozenset[str]:
    """Return the options in a hint that belong to the failed command."""
    return frozenset(
        name for before, _ in clauses(text) for name in re.findall(r"--[a-z][a-z-]*", before)
    )


def guess_command(context: Any, word: str) -> str:
    """Return a suggestion for an unknown command of a group."""
    root = context.find_root()
    path = context.command_path
    if context is root and word in _OWN_WORDS:
        return f"did you mean fwsign {_OWN_WORDS[word]}?"
    if (near := did_you_mean(word, context.command.commands)) is not None:
        return near.replace("mean ", f"mean {path} ")
    for name in root.command.commands:
        if word in getattr(root.command.get_command(root, name), "commands", ()):
            return f"did you mean fwsign {name} {word}?"
    if path == "fwsign pki issue":
        return f"say what it is for: {path} signer {word}"
    if context is root and Path(word).is_file():
        verb = "verify" if word.endswith(".suit") else "sign"
        return f"did you mean fwsign {verb} {quoted(word)}?"
    return f"{path} --help lists them"


def guess_option(option: str, known: Sequence[str], path: str, *, group: bool) -> str | None:
    """Return a suggestion for an unknown option of a command."""
    if option.upper() in known:
        return f"did you mean {option.upper()}?"
    names = [name[2:] for name in known if name[:2] == "--"]
    if near := did_you_mean(option.lstrip("-"), names):
        return near.replace("mean ", "mean --")
    return f"options come after the command, as in {path} COMMAND {option}" if group else None
