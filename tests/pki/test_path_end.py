"""When the path of a certificate ends: by itself, by a CA above, by the last of several."""

from datetime import UTC, datetime

from fwsign.pki.paths.end import REVOKED, PathEnd, PathLink, path_ends

Y26, Y28, Y36, Y46 = (datetime(year, 1, 1, tzinfo=UTC) for year in (2026, 2028, 2036, 2046))


def link(
    *issuers: str, end: datetime = Y36, revoked: bool = False, tls: bool = False
) -> PathLink[str]:
    return PathLink(issuers, end, revoked, tls)


ROOT = link("root", end=Y46)


def ends(**links: PathLink[str]) -> dict[str, PathEnd[str]]:
    return path_ends({"root": ROOT, **links})


def test_a_leaf_ends_by_itself() -> None:
    found = ends(ca=link("root"), leaf=link("ca", end=Y28))
    assert (found["ca"], found["leaf"]) == (PathEnd(Y36, None), PathEnd(Y28, None))


def test_a_leaf_ends_with_its_ca() -> None:
    assert ends(ca=link("root", end=Y28), leaf=link("ca"))["leaf"] == PathEnd(Y28, "ca")


def test_what_is_below_a_revoked_ca_has_ended() -> None:
    found = ends(ca=link("root", revoked=True), sub=link("ca"), leaf=link("sub"))
    assert found["ca"] == PathEnd(REVOKED, None)
    assert found["sub"] == found["leaf"] == PathEnd(REVOKED, "ca")


def test_the_nearest_of_several_revoked_ones_is_named() -> None:
    revoked = {"upper": link("root", revoked=True), "ca": link("upper", revoked=True)}
    assert ends(**revoked, leaf=link("ca"))["leaf"] == PathEnd(REVOKED, "ca")
    assert ends(**revoked, leaf=link("ca", revoked=True))["leaf"] == PathEnd(REVOKED, None)


def test_dates_of_a_root_count_for_tls_alone() -> None:
    links = {"old": link("old", end=Y26), "ca": link("old")}
    found = ends(**links, leaf=link("ca", end=Y28), server=link("ca", end=Y28, tls=True))
    assert found["ca"] == PathEnd(Y36, None)
    assert found["leaf"] == PathEnd(Y28, None)
    assert found["server"] == PathEnd(Y26, "old")


def test_the_last_of_several_paths_counts() -> None:
    # The CA was renewed with its key: the old certificate ended, or was revoked.
    for old in (link("root", end=Y26), link("root", revoked=True)):
        found = ends(old=old, new=link("root"), leaf=link("old", "new", end=Y28))
        assert found["leaf"] == PathEnd(Y28, None)
    both = {"a": link("root", end=Y26), "b": link("root", revoked=True)}
    assert ends(**both, leaf=link("a", "b"))["leaf"] == PathEnd(Y26, "a")


def test_a_revoked_cross_certificate_leaves_the_path_to_the_new_root() -> None:
    links = {"new": link("new", "crossed", end=Y46), "crossed": link("root", revoked=True)}
    found = ends(**links, ca=link("new", "crossed"), leaf=link("ca", end=Y28))
    assert found["leaf"] == PathEnd(Y28, None)
    # Where the new root is not known, nothing is left.
    found = ends(crossed=links["crossed"], ca=link("crossed"), leaf=link("ca"))
    assert found["leaf"] == PathEnd(REVOKED, "crossed")


def test_two_roots_that_certify_each_other() -> None:
    links = {
        "a": link("a", "a-by-b", end=Y46),
        "b": link("b", "b-by-a", end=Y46),
        "a-by-b": link("b", "b-by-a", revoked=True),
        "b-by-a": link("a", "a-by-b"),
    }
    assert path_ends({**links, "leaf": link("a", "a-by-b")})["leaf"] == PathEnd(Y36, None)


def test_an_issuer_elsewhere_and_a_circle_tell_nothing() -> None:
    found = ends(orphan=link(), leaf=link("orphan", end=Y46), x=link("y"), y=link("x", end=Y28))
    assert found["orphan"] == PathEnd(Y36, None)
    assert found["leaf"] == PathEnd(Y36, "orphan")
    assert (found["x"], found["y"]) == (PathEnd(Y36, None), PathEnd(Y28, None))
