# SPDX-License-Identifier: Apache-2.0
"""The output of `fwsign show` about an envelope's signers: which parts of a policy they meet."""

from pathlib import Path
from typing import Any

from fwsign.cli import config, inputs, policies
from fwsign.errors import FwsignError


def card(envelope: bytes, typed: Path | None) -> dict[str, Any]:
    """Judge the signers of an envelope by a policy; nothing if there is none.

    Args:
        envelope: the envelope.
        typed: the file of --policy.
    """
    settings = config.load()
    given = policies.chosen(typed, settings)
    if given is None or (given.signers is None and given.device is None):
        return {}
    return {"policy": {"of": str(given.path), **_judged(envelope, given, settings)}}


def _judged(
    envelope: bytes, given: policies.GivenPolicy, settings: config.Config
) -> dict[str, Any]:
    from fwsign.verify.policy import DevicePolicy
    from fwsign.verify.verifier import Verifier

    if given.device is not None:
        anchors, policy = given.device
    elif settings.pki is not None:
        anchors = inputs.load_anchors(config.roots(settings.pki))
        policy = DevicePolicy(vendor=settings.vendor, signers=given.signers)
    else:
        return {"not judged": "fwsign.toml names no pki, and so no anchors"}
    try:
        signers, demands = Verifier(anchors, policy).survey(envelope, at=inputs.now())
    except FwsignError as refusal:
        return {"not judged": refusal.message}
    counted = len({one.path.keys[0] for one in signers if one.path and one.refusal is None})
    enough = counted >= policy.needed and all(one.met for one in demands)
    return {
        "met": "yes" if enough else "no",
        "signers that count": f"{counted}, wanted are {policy.needed} or more",
        "demands": [
            {**one, "met": "yes" if one["met"] else "no"} for one in policies.facts(demands)
        ],
        "not counted": [one.refusal.message for one in signers if one.refusal is not None],
    }
