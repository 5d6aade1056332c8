# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Snapshots: one spelling for one state, whole or refused, guarded."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import model, snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import GuardError, SnapshotError
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot

from . import clusters
from .test_passes import cluster_of
from .test_resolve import service

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(clusters.clusters())
def test_a_snapshot_survives_its_file(objects: list[dict[str, Any]]) -> None:
    made = build_snapshot(objects)
    read = snapshot.load(snapshot.dump(made))
    assert read == made._replace(refused=())
    services, refused = read.services()
    assert refused == []
    assert [json.dumps(model.service_json(s), separators=(",", ":")).encode() for s in services] == [
        line for line in read.lines if snapshot.is_service(line)
    ]


def test_the_file_does_not_depend_on_the_time_or_the_order() -> None:
    objects = [clusters.node(), *service(["local", "other"])]
    endpoints = objects[-1]["endpoints"]
    first = snapshot.dump(build_snapshot(objects))
    objects[-1]["endpoints"] = endpoints[::-1]
    objects[0]["metadata"]["resourceVersion"] = "77"
    assert snapshot.dump(build_snapshot(objects[::-1])) == first


@settings(max_examples=60)
@given(clusters.clusters(), st.data())
def test_broken_objects_are_refused_and_the_rest_goes_on(objects: list[dict[str, Any]], data: st.DataObject) -> None:
    """Any junk in any one field of an object never raises, and never takes another object along."""
    whole = build_snapshot(objects)
    victim = data.draw(st.sampled_from(objects))
    holder: Any = victim
    path = []
    while isinstance(holder, (dict, list)) and holder:
        key = data.draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
        path.append(key)
        if not isinstance(holder[key], (dict, list)) or not holder[key] or data.draw(st.booleans()):
            break
        holder = holder[key]
    broken = json.loads(json.dumps(victim))
    holder = broken
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = data.draw(JSON)
    made = build_snapshot([broken if o is victim else o for o in objects])
    snapshot.load(snapshot.dump(made)).services()
    owner = victim["metadata"].get("labels", {}).get("kubernetes.io/service-name") or victim["metadata"]["name"]
    for line in whole.lines:
        if snapshot.is_service(line) and snapshot.name_of(line) != f"shop/{owner}":
            assert line in made.lines or any("is there twice" in str(wrong) for wrong in made.refused)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ports": [{"port": 0}]}, "port 0 is not in 1 to 65535"),
        ({"ports": [{"port": True}]}, "port must be a number"),
        ({"ports": [{"port": 80, "protocol": "ICMP"}]}, "protocol 'ICMP'"),
        ({"ports": [{"port": p} for p in range(1, 10_001)]}, "ports has 10000 entries, more than 1000"),
        ({"ports": [{"port": 80}, {"port": 81}]}, "two of its ports have the same name"),
        ({"clusterIPs": ["10.96.0.999"]}, "'10.96.0.999' is not an IP address"),
        ({"clusterIPs": ["10.96.0.010"]}, "is not an IP address"),
        ({"clusterIPs": ["127.0.0.1"]}, "is a loopback address"),
        ({"clusterIPs": ["10.96.0.1; reboot"]}, "is not an IP address"),
        ({"clusterIPs": ["::ffff:10.0.0.1"]}, "is not a plain IPv6 address"),
        ({"clusterIPs": ["10.96.0.1", "10.96.0.2"]}, "of one family"),
        ({"externalIPs": ["0.0.0.0"]}, "is the unspecified address"),
        ({"loadBalancerSourceRanges": ["10.0.0.1/8"]}, "has host bits set"),
        (
            {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}},
            "timeoutSeconds",
        ),
        ({"type": "Magic"}, "'Magic' is not one of"),
    ],
)
def test_a_broken_service_is_named_with_its_reason(change: dict[str, Any], reason: str) -> None:
    good, bad = service(["local"]), service(["local"], **change)
    bad[0]["metadata"] = {"namespace": "shop", "name": "bad"}
    made = build_snapshot([*good, bad[0]])
    (wrong,) = made.refused
    assert (wrong.kind, wrong.key) == ("Service", "shop/bad")
    assert reason in wrong.reason
    assert made.counts["services"] == 1


def test_a_megabyte_of_a_name_is_refused_in_a_short_message() -> None:
    objects = service(["local"])
    objects[0]["metadata"]["name"] = "a" * 1_000_000
    (wrong,) = build_snapshot(objects).refused
    assert len(str(wrong)) < 500


def test_a_broken_slice_is_refused_and_its_service_stays() -> None:
    objects = service(["local"])
    objects[1]["endpoints"][0]["addresses"] = ["169.254.169.254"]
    made = build_snapshot(objects)
    assert [str(wrong) for wrong in made.refused] == [
        "EndpointSlice shop/web-1: endpoint address 169.254.169.254 is a link-local address"
    ]
    assert made.counts["services"] == 1


def endpoints(subset: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """Endpoints of shop/web with one subset."""
    found = {"namespace": "shop", "name": "web", **metadata}
    return {"kind": "Endpoints", "metadata": found, "subsets": [{"ports": [{"port": 8080}], **subset}]}


def mirrored(*objects: dict[str, Any]) -> set[tuple[str, bool]]:
    """Address and readiness of all endpoints of the only Service of a snapshot."""
    (found,) = build_snapshot(objects).services()[0]
    return {(e.addresses[0], e.ready) for piece in found.slices for e in piece.endpoints}


def test_endpoints_count_only_where_there_is_no_slice() -> None:
    objects = service(["local"])
    legacy = endpoints(
        {"addresses": [{"ip": "10.128.9.9"}, {"ip": "fd80::9"}], "notReadyAddresses": [{"ip": "10.128.9.8"}]}
    )
    assert b"10.128.9.9" not in b"".join(build_snapshot([*objects, legacy]).lines)
    assert mirrored(objects[0], legacy) == {("10.128.9.9", True), ("fd80::9", True), ("10.128.9.8", False)}


@pytest.mark.parametrize(
    "metadata",
    [
        {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        {"annotations": {"control-plane.alpha.kubernetes.io/leader": "{}"}},
    ],
)
def test_endpoints_that_are_not_mirrored_do_not_count(metadata: dict[str, Any]) -> None:
    assert not mirrored(service([])[0], endpoints({"addresses": [{"ip": "10.128.9.9"}]}, **metadata))


def test_an_address_that_is_ready_and_not_ready_is_not_ready() -> None:
    both = {"addresses": [{"ip": "10.128.9.9"}], "notReadyAddresses": [{"ip": "10.128.9.9"}]}
    assert mirrored(service([])[0], endpoints(both)) == {("10.128.9.9", False)}


def test_more_than_a_thousand_addresses_are_cut() -> None:
    many = endpoints({"addresses": [{"ip": f"10.{n // 250}.7.{n % 250 + 1}"} for n in range(1200)]})
    made = build_snapshot([service([])[0], many])
    assert made.counts["endpoints"] == 1000
    assert [str(wrong) for wrong in made.refused] == [
        "Endpoints shop/web: a subset has more than 1000 addresses; 200 are not mirrored."
    ]


def test_a_bad_address_of_endpoints_leaves_the_others() -> None:
    made = build_snapshot([service([])[0], endpoints({"addresses": [{"ip": "10.128.9.9"}, {"ip": "10.128.9.999"}]})])
    assert made.counts["endpoints"] == 1
    assert ["'10.128.9.999' is no IP address" in str(wrong) for wrong in made.refused] == [True]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (endpoints({"addresses": [{"ip": "10.128.9.9", "hostname": {"a": 1}}]}), "hostname must be a string"),
        (endpoints({"addresses": [{}]}), "can't be read"),
        (endpoints({"addresses": [{"ip": "169.254.169.254"}]}), "is a link-local address"),
        (endpoints({"addresses": [{"ip": "10.128.9.9"}]}, annotations=5), "annotations"),
    ],
)
def test_broken_endpoints_are_refused_and_their_service_stays(broken: dict[str, Any], reason: str) -> None:
    made = build_snapshot([service([])[0], broken])
    (wrong,) = made.refused
    assert (wrong.kind, wrong.key) == ("Endpoints", "shop/web")
    assert reason in wrong.reason
    assert (made.counts["services"], made.counts["endpoints"]) == (1, 0)


def test_a_service_can_not_bring_slices_of_its_own() -> None:
    objects = service([])
    objects[0]["endpointSlices"] = [
        {"metadata": {"name": "x"}, "addressType": "IPv4", "endpoints": [{"addresses": ["1.2.3.4"]}]}
    ]
    assert b"1.2.3.4" not in b"".join(build_snapshot(objects).lines)


# ------------------------------------------------------------------------------------------------------ file and guard


def altered(text: bytes) -> bytes:
    return gzip.compress(text, mtime=0)


def test_what_is_no_whole_snapshot_is_refused() -> None:
    data = snapshot.dump(build_snapshot(cluster_of(3)))
    text = gzip.decompress(data)
    header, *lines = text.split(b"\n")
    for bad, sentence in (
        (data[:-9], "not a whole gzip file"),
        (b"no gzip", "not a whole gzip file"),
        (altered(b""), "no header"),
        (altered(text.replace(b"10.96.0.1", b"10.96.0.9")), "altered"),
        (altered(text[:-40]), "cut off"),
        (altered(b"\n".join([header, *lines[1:]])), "altered"),
        (altered(text.replace(b'"schema":1', b'"schema":99')), "upgrade"),
    ):
        with pytest.raises(SnapshotError, match=sentence):
            snapshot.load(bad)


def test_lines_that_were_not_written_here_are_refused_even_with_the_right_digest() -> None:
    lines = [b'{"evil":1}']
    made = snapshot.Snapshot(tuple(lines), {}, snapshot._digest(lines))
    with pytest.raises(SnapshotError, match="kind and name"):
        snapshot.load(snapshot.dump(made))


def test_a_file_that_a_run_reads_twice_is_proven_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = snapshot.dump(build_snapshot(cluster_of(3)))
    first = snapshot.load(data)
    monkeypatch.setattr(snapshot.gzip, "decompress", lambda _data: pytest.fail("it was read again"))
    assert snapshot.load(bytes(bytearray(data))) is first


@pytest.mark.parametrize("spec", [b'{"ports":', b"{}} []", b"[" * 100_000 + b"]" * 100_000, b'"\xff"'])
@pytest.mark.parametrize("name", ["bad", "b" * 100_000])
def test_a_line_that_is_no_json_is_refused_by_name_and_the_rest_goes_on(spec: bytes, name: str) -> None:
    good = build_snapshot(service(["local"])).service_lines()
    bad = b'{"kind":"Service","metadata":{"namespace":"shop","name":"%s"},"spec":%s}' % (name.encode(), spec)
    services, (wrong,) = snapshot.read_services([bad, *good])
    assert [each.name for each in services] == ["web"]
    assert wrong.key.startswith("shop/" if name == "bad" else "shop/'b")
    assert "is no JSON" in wrong.reason
    assert len(str(wrong)) < 500


def test_lines_in_another_order_are_refused_even_with_the_right_digest() -> None:
    lines = build_snapshot(cluster_of(3)).lines[::-1]
    with pytest.raises(SnapshotError, match="not sorted"):
        snapshot.load(snapshot.dump(snapshot.Snapshot(lines, {}, snapshot._digest(lines))))


def test_differences_are_told_by_name() -> None:
    before = cluster_of(4)
    after = json.loads(json.dumps(before))
    after[1]["spec"]["ports"][0]["port"] = 81
    after[2]["metadata"]["name"] = "new"
    found = snapshot.differences(build_snapshot(before), build_snapshot(after))
    assert found == (("shop/new",), ("shop/svc-2",), ("shop/svc-1",), False)


def test_the_guard_refuses_the_loss_of_services() -> None:
    old = build_snapshot(cluster_of(10))
    snapshot.guard(old, build_snapshot(cluster_of(5)), 50)
    with pytest.raises(GuardError, match="lacks 6 of 10 Services, more than 50 %"):
        snapshot.guard(old, build_snapshot(cluster_of(4)), 50)
    snapshot.guard(old, build_snapshot([]), 100)


def test_the_guard_refuses_the_loss_of_ready_endpoints() -> None:
    old, new = build_snapshot(service(["local", "other"])), build_snapshot(service(["local-dead", "other-unready"]))
    with pytest.raises(GuardError, match="lacks 2 of 2 ready endpoints"):
        snapshot.guard(old, new, 50)
