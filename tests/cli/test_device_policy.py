"""`fwsign sign --device-data`: a policy in a release, and `fwsign show` of it."""

import json
from pathlib import Path

import pytest

from cli.kit import good, refused, run
from flash.kit import esp_image, partition_table

TABLE = partition_table(
    ("nvs", 1, 2, 0x9000, 0x6000),
    ("phy_init", 1, 1, 0xF000, 0x1000),
    ("factory", 0, 0, 0x10000, 0x70000),
    ("device", 1, 2, 0x80000, 0x3000),
    ("secrets", 0x40, 0, 0x83000, 0x1000),
    ("nvs_keys", 1, 4, 0x84000, 0x1000),
)
POLICY = """\
version = 1
required = true
[[partition]]
chip = "esp32c3"
label = "device"
format = "nvs"
[[partition.value]]
namespace = "device"
key = "serial"
column = "serial"
type = "string"
max = 20
[[partition.value]]
namespace = "wifi"
key = "password"
type = "string"
max = 63
required = false
unique = true
"""
ALL = ("sign", "app.bin", "table.bin", "--device-data", "policy.toml", "--output", "all.suit")


@pytest.fixture(autouse=True)
def files(project: Path) -> Path:
    """A project with an image, a table and a policy."""
    (project / "app.bin").write_bytes(esp_image())
    (project / "table.bin").write_bytes(TABLE)
    (project / "policy.toml").write_text(POLICY)
    return project


def changed(*pairs: tuple[str, str]) -> None:
    text = POLICY
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    Path("policy.toml").write_text(text)


def test_the_policy_is_a_component_inside_the_envelope() -> None:
    found = run(*ALL)
    assert found.status == 0
    assert f"device-data.toml: {len(POLICY)} bytes, payload #device-data.toml" in found.err
    assert "warning" not in found.err
    assert "fwsign verify all.suit\n" in found.err
    verified = run("verify", "all.suit")
    assert verified.out.startswith("verified")
    assert "next: fwsign flash all.suit --port PORT --device-data CSV\n" in verified.err
    (made,) = json.loads(good(*ALL, "--force", "--json"))["envelopes"]
    assert [one["name"] for one in made["components"]] == [
        "esp32c3@0x10000",
        "esp32c3@0x8000",
        "device-data.toml",
    ]


def test_one_image_needs_no_output() -> None:
    good("sign", "app.bin", "--device-data", "policy.toml")
    assert "verified" in good("verify", "app.bin.suit")


def test_it_may_be_embedded_with_all_the_rest() -> None:
    good(*ALL, "--embed")
    Path("app.bin").unlink()
    assert "verified" in good("verify", "all.suit")


def test_files_elsewhere_are_named_for_the_next_command() -> None:
    Path("out").mkdir()
    found = run(*ALL[:-1], "out/all.suit")
    assert "fwsign verify out/all.suit app.bin table.bin\n" in found.err
    assert "verified" in good("verify", "out/all.suit", "app.bin", "table.bin")


def test_a_changed_policy_does_not_verify() -> None:
    good(*ALL)
    data = Path("all.suit").read_bytes()
    assert data.count(b"max = 63") == 1
    Path("all.suit").write_bytes(data.replace(b"max = 63", b"max = 64"))
    found = run("verify", "all.suit")
    assert found.status == 1
    assert "digest" in found.err


def test_a_policy_that_was_taken_out_is_noticed(project: Path) -> None:
    from fwsign.format import cbor

    del project
    good(*ALL)
    envelope = cbor.decode(Path("all.suit").read_bytes())
    del envelope.value["#device-data.toml"]
    Path("all.suit").write_bytes(cbor.encode(envelope))
    found = run("verify", "all.suit")
    assert found.status == 1
    assert "device-data.toml" in found.err


def test_show_describes_it() -> None:
    good(*ALL)
    (card,) = json.loads(good("show", "all.suit", "--json"))["content"]
    assert card["device data"] == {
        "required": "yes",
        "places": [
            {
                "chip": "esp32c3",
                "place": 'partition "device"',
                "format": "nvs",
                "values": [
                    {
                        "column": "serial",
                        "key": "device/serial",
                        "type": "string",
                        "at most": "20 bytes",
                        "required": "yes",
                        "unique": "no",
                    },
                    {
                        "column": "password",
                        "key": "wifi/password",
                        "type": "string",
                        "at most": "63 bytes",
                        "required": "no",
                        "unique": "yes",
                    },
                ],
            }
        ],
    }
    text = good("show", "all.suit")
    assert (
        'device data\n  required: yes\n  places\n    chip: esp32c3\n    place: partition "de'
        in text
    )
    good("sign", "app.bin")
    assert "device data" not in good("show", "app.bin.suit")


def test_show_says_what_is_wrong_with_a_damaged_policy() -> None:
    good(*ALL)
    data = Path("all.suit").read_bytes()
    Path("all.suit").write_bytes(data.replace(b"version = 1", b"version = 3"))
    (card,) = json.loads(good("show", "all.suit", "--json"))["content"]
    assert card["device data"] == {
        "not decodable": 'device-data.toml: "version" is not 1, which this fwsign knows'
    }


def test_the_name_is_reserved() -> None:
    Path("Device-Data.toml").write_text(POLICY)
    refused(
        run("sign", "app.bin", "Device-Data.toml", "--output", "x.suit"),
        2,
        'the name "Device-Data.toml" is for the policy of per-device data',
        "sign it as that with --device-data Device-Data.toml; or --name NAME",
    )
    refused(
        run("sign", "app.bin", "--name", "device-data.toml"),
        2,
        'the name "device-data.toml" is for the policy of per-device data',
        "sign it as that with --device-data app.bin; or --name NAME",
    )
    good("sign", "Device-Data.toml", "--name", "notes.toml")


def test_several_envelopes_have_no_policy() -> None:
    refused(
        run(*ALL[:-2]),
        2,
        "--device-data with several envelopes",
        "it belongs to the images that a board gets together: --output FILE",
    )


def test_the_policy_is_not_replaced_by_the_envelope() -> None:
    found = run(*ALL[:-1], "policy.toml", "--force")
    assert found.status == 2
    assert "policy.toml would replace policy.toml, which is read" in found.err


def test_a_mistake_names_the_file() -> None:
    changed(("required = true", "requird = true"))
    refused(
        run(*ALL),
        1,
        'policy.toml has the unknown key "requird"',
        "did you mean required?",
    )
    assert not Path("all.suit").exists()


def test_a_policy_that_is_not_there() -> None:
    found = run("sign", "app.bin", "--device-data", "none.toml")
    refused(found, 5, "cannot read none.toml: no such file or directory")


PLACES = {
    "another chip": (
        [('"esp32c3"', '"esp32s3"')],
        2,
        "policy.toml is for esp32s3, the files are for esp32c3",
    ),
    "no such partition": (
        [('label = "device"', 'label = "devices"')],
        4,
        (
            'device data for esp32c3, partition "devices": expected one partition "devices", found '
            '"nvs", "phy_init", "factory", "device", "secrets", "nvs_keys"'
        ),
    ),
    "an application": (
        [('label = "device"', 'label = "factory"')],
        4,
        (
            'device data for esp32c3, partition "factory": expected a partition for NVS, found '
            "type 0, subtype 0"
        ),
    ),
    "data that is no NVS": (
        [('label = "device"', 'label = "phy_init"')],
        4,
        (
            'device data for esp32c3, partition "phy_init": expected a partition for NVS, found '
            "type 1, subtype 1"
        ),
    ),
    "keys": (
        [('label = "device"', 'label = "nvs_keys"')],
        4,
        (
            'device data for esp32c3, partition "nvs_keys": expected a partition for NVS, found '
            "type 1, subtype 4"
        ),
    ),
    "more than fits": (
        [("max = 20", "max = 3999"), ("max = 63", "max = 3999")],
        4,
        (
            'device data for esp32c3, partition "device": expected at most 2 pages of NVS for the '
            "longest values, found 4 pages"
        ),
    ),
}


def test_the_table_in_a_merged_image_counts_too() -> None:
    merged = bytearray(b"\xff" * 0x20000)
    for at, data in ((0, esp_image(app=False)), (0x8000, TABLE), (0x10000, esp_image())):
        merged[at : at + len(data)] = data
    Path("merged.bin").write_bytes(merged)
    good("sign", "merged.bin", "--device-data", "policy.toml")
    changed(('label = "device"', 'label = "devices"'))
    found = run("sign", "merged.bin", "--device-data", "policy.toml", "--force")
    assert found.status == 4
    assert 'expected one partition "devices", found "nvs"' in found.err


@pytest.mark.parametrize("case", PLACES)
def test_a_place_that_the_release_does_not_have(case: str) -> None:
    pairs, status, error = PLACES[case]
    changed(*pairs)
    found = run(*ALL)
    assert (found.status, found.errors[0]) == (status, f"error: {error}")
    assert not Path("all.suit").exists()


RAW = """\
version = 1
[[partition]]
chip = "esp32c3"
{place}
format = "raw"
[[partition.value]]
column = "certificate"
type = "blob"
max = 4096
"""


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ('label = "secrets"', None),
        ("offset = 0x83000\nsize = 4096", None),
        ("offset = 0x90000\nsize = 4096", None),
        (
            "offset = 0x8000\nsize = 4096",
            "device data for esp32c3, 4096 bytes at 0x8000: expected 0x9000 or more, found 0x8000",
        ),
        (
            "offset = 0x82000\nsize = 8192",
            (
                "device data for esp32c3, 8192 bytes at 0x82000: expected a place in one "
                'partition for data, or in none, found a part of "device", 0x80000 to 0x83000'
            ),
        ),
        (
            "offset = 0x20000\nsize = 4096",
            (
                "device data for esp32c3, 4096 bytes at 0x20000: expected a place in one partition "
                'for data, or in none, found a part of "factory", 0x10000 to 0x80000'
            ),
        ),
    ],
)
def test_raw_places(place: str, error: str | None) -> None:
    Path("policy.toml").write_text(RAW.format(place=place))
    found = run(*ALL)
    if error is None:
        assert found.status == 0, found
    else:
        refused(found, 4, error)


def test_places_that_overlap_are_refused() -> None:
    raw = RAW.partition("\n")[2].format(place="offset = 0x81000\nsize = 4096")
    Path("policy.toml").write_text(POLICY + raw)
    refused(
        run(*ALL),
        2,
        'policy.toml: partition "device" and 4096 bytes at 0x81000 overlap',
        "leave one of them out",
    )


def test_a_place_over_which_the_release_writes_is_refused() -> None:
    Path("other.bin").write_bytes(bytes(5000))
    Path("policy.toml").write_text(RAW.format(place="offset = 0x91000\nsize = 4096"))
    arguments = ("sign", "app.bin", "other.bin", "--target", "other.bin=esp32c3@0x90000")
    refused(
        run(*arguments, "--device-data", "policy.toml", "--output", "all.suit"),
        2,
        "4096 bytes at 0x91000 is for device data, and other.bin goes to 0x90000 to 0x91388",
        "leave the one or the other out",
    )
