# SPDX-License-Identifier: Apache-2.0
"""The output of `fwsign show` about a policy for per-device data."""

from typing import Any

from fwsign.device_data.policy import DataPlace, parse
from fwsign.errors import FwsignError


def card(data: bytes) -> dict[str, Any]:
    """Describe a policy, or say what is wrong with it."""
    try:
        policy = parse(data)
    except FwsignError as error:
        return {"not decodable": error.message}
    return {
        "required": "yes" if policy.required else "no",
        "places": [_place(one) for one in policy.places],
    }


def _place(place: DataPlace) -> dict[str, Any]:
    values = [
        {
            "column": one.column,
            "key": f"{one.namespace}/{one.key}" if one.key else None,
            "type": one.type,
            "at most": f"{one.most} bytes",
            "required": "yes" if one.required else "no",
            "unique": "yes" if one.unique else "no",
        }
        for one in place.values
    ]
    return {"chip": place.chip, "place": place.name, "format": place.format, "values": values}
