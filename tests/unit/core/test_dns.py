# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random
from typing import Any

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import dns, dns_zonefile
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import OptionError
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot

SERVICE_CIDR = {
    "kind": "ServiceCIDR",
    "metadata": {"name": "kubernetes"},
    "spec": {"cidrs": ["10.96.0.0/16", "fd00:10:96::/108"]},
}
HTTP = {"name": "http", "port": 80, "protocol": "TCP"}


def namespace(name: str = "default") -> dict[str, Any]:
    return {"kind": "Namespace", "metadata": {"name": name}}


def service(name: str, *cluster_ips: str, ports: Any = (HTTP,), space: str = "default", **spec: Any) -> dict[str, Any]:
    return {
        "kind": "Service",
        "metadata": {"namespace": space, "name": name},
        "spec": {"clusterIPs": list(cluster_ips), "ports": list(ports), **spec},
    }


def endpoint(*addresses: str, ready: bool | None = None, hostname: str | None = None) -> dict[str, Any]:
    return {"addresses": list(addresses), "conditions": {"ready": ready}, "hostname": hostname}


def endpoint_slice(
    of: str, *endpoints: Any, ports: Any = (HTTP,), family: int = 4, name: str = "", space: str = "default"
) -> dict[str, Any]:
    return {
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": space,
            "name": name or f"{of}-{family}",
            "labels": {"kubernetes.io/service-name": of},
        },
        "addressType": f"IPv{family}",
        "ports": list(ports),
        "endpoints": list(endpoints),
    }


def zones(*objects: Any, **options: Any) -> dns.Zones:
    return dns.build(build_snapshot(objects), dns.options(**{"servers": ["169.254.20.10"], **options}))


def records(made: dns.Zones, below: str = "default.svc.cluster.local.") -> set[str]:
    """OWNER TYPE DATA of all records whose owner ends with ``below``, but for placeholders; TTL is 5 everywhere."""
    found = [
        r for zone in made.zones for r in zone.records if r.owner.endswith(below) and not r.owner.startswith("_ent.")
    ]
    assert {r.ttl for r in found} <= {5}
    return {f"{r.owner[: -len(below)]} {r.type} {r.data}" for r in found}


def test_a_service_has_its_addresses_and_ports() -> None:
    made = zones(namespace(), service("web", "10.96.0.10", "fd00:10:96::a", ports=[HTTP, {"port": 443, "name": ""}]))
    assert records(made) == {
        "web. A 10.96.0.10",
        "web. AAAA fd00:10:96::a",
        "web. SRV 0 25 80 web.default.svc.cluster.local.",
        "web. SRV 0 25 443 web.default.svc.cluster.local.",
        "_http._tcp.web. SRV 0 50 80 web.default.svc.cluster.local.",
    }
    assert made.problems == ()


def test_a_headless_service_has_its_ready_endpoints() -> None:
    made = zones(
        service("db", "None"),
        endpoint_slice(
            "db",
            endpoint("10.128.0.1", hostname="db-0"),
            endpoint("10.128.0.2"),
            endpoint("10.128.0.3", ready=False),
            ports=[{"name": "http", "port": 8080}],
        ),
        endpoint_slice("db", endpoint("fd00::1"), ports=[], family=6),
    )
    assert records(made) == {
        "db. A 10.128.0.1",
        "db. A 10.128.0.2",
        "db. AAAA fd00::1",
        "db. SRV 0 33 8080 db-0.db.default.svc.cluster.local.",
        "db. SRV 0 33 8080 10-128-0-2.db.default.svc.cluster.local.",
        "_http._tcp.db. SRV 0 50 8080 db-0.db.default.svc.cluster.local.",
        "_http._tcp.db. SRV 0 50 8080 10-128-0-2.db.default.svc.cluster.local.",
        "db-0.db. A 10.128.0.1",
        "db-0.db. SRV 0 100 8080 db-0.db.default.svc.cluster.local.",
        "10-128-0-2.db. A 10.128.0.2",
        "10-128-0-2.db. SRV 0 100 8080 10-128-0-2.db.default.svc.cluster.local.",
        "fd00--1.db. AAAA fd00::1",
    }


def test_a_headless_service_without_ready_endpoints_has_no_name() -> None:
    made = zones(service("db", "None"), endpoint_slice("db", endpoint("10.128.0.1", ready=False)))
    assert records(made) == set()


def test_endpoints_without_a_selector_and_of_the_older_kind_count() -> None:
    older = {
        "kind": "Endpoints",
        "metadata": {"namespace": "default", "name": "old"},
        "subsets": [
            {"addresses": [{"ip": "10.128.0.7", "hostname": "seven"}], "notReadyAddresses": [{"ip": "10.128.0.8"}]}
        ],
    }
    made = zones(service("old", "None", ports=[]), older)
    assert records(made) == {"old. A 10.128.0.7", "seven.old. A 10.128.0.7"}


def test_the_same_endpoint_in_two_slices_is_one() -> None:
    made = zones(
        service("db", "None"),
        endpoint_slice("db", endpoint("10.128.0.1"), name="db-a", ports=[]),
        endpoint_slice("db", endpoint("10.128.0.1"), name="db-b", ports=[]),
    )
    assert [r.data for r in made.zones[0].records if r.owner.startswith("db.")] == ["10.128.0.1"]


def test_several_addresses_may_have_one_hostname() -> None:
    slices = endpoint_slice("db", endpoint("10.128.0.1", hostname="x"), endpoint("10.128.0.2", hostname="x"), ports=[])
    made = zones(service("db", "None"), slices)
    assert {"x.db. A 10.128.0.1", "x.db. A 10.128.0.2"} <= records(made)


def test_an_external_name_is_an_alias_and_nothing_else() -> None:
    made = zones(
        service("ext", type="ExternalName", externalName="Example.org"), endpoint_slice("ext", endpoint("10.128.0.1"))
    )
    assert records(made) == {"ext. CNAME example.org."}


def test_what_has_no_address_yet_has_no_name() -> None:
    assert records(zones(service("web"))) == set()


def test_names_of_endpoints_behind_a_cluster_ip_are_served_only_if_asked_for() -> None:
    objects = [SERVICE_CIDR, service("web", "10.96.0.10"), endpoint_slice("web", endpoint("10.128.0.1"), ports=[])]
    assert not any("10-128-0-1" in text for text in records(zones(*objects)))
    assert "10-128-0-1.web. A 10.128.0.1" in records(zones(*objects, endpoint_names=True))
    made = zones(*objects, endpoint_names=True, reverse_cidrs=["10.128.0.0/16"])
    assert [r.data for r in made.zones[1].records[1:]] == ["10-128-0-1.web.default.svc.cluster.local."]


# ------------------------------------------------------------------------------------------------------------ fixed


def test_the_apex_and_every_namespace_answer() -> None:
    forward = zones(namespace("empty"), servers=["169.254.20.10", "fd00::53"]).zones[0]
    assert [tuple(r) for r in forward.records] == [
        ("cluster.local.", "NS", "ns.dns.cluster.local.", 5),
        ("_ent.empty.svc.cluster.local.", "TXT", '""', 5),
        ("_ent.pod.cluster.local.", "TXT", '""', 5),
        ("_ent.svc.cluster.local.", "TXT", '""', 5),
        ("dns-version.cluster.local.", "TXT", '"1.1.0"', 28800),
        ("ns.dns.cluster.local.", "A", "169.254.20.10", 5),
        ("ns.dns.cluster.local.", "AAAA", "fd00::53", 5),
    ]


def test_pods_have_names_only_if_asked_for() -> None:
    pods = [
        {
            "kind": "Pod",
            "metadata": {"namespace": "default", "name": name},
            "status": {"podIPs": [{"ip": ip}, {"ip": "fd00::99"}]},
        }
        for name, ip in (("a", "10.128.0.5"), ("b", "fd00::5"))
    ]
    below = "default.pod.cluster.local."
    assert records(zones(namespace(), *pods), below) == set()
    made = zones(namespace(), *pods, pods="verified")
    assert records(made, below) == {"10-128-0-5. A 10.128.0.5", "fd00--5. AAAA fd00::5"}
    assert "_ent.default.pod.cluster.local." in {r.owner for r in made.zones[0].records}


def test_pods_that_were_not_gathered_are_reported() -> None:
    assert [p.kind for p in zones(namespace(), pods="verified").problems] == ["Snapshot"]


def test_another_domain_and_ttl() -> None:
    made = zones(service("web", "10.96.0.10"), domain="k8s.example", ttl=30)
    assert ("web.default.svc.k8s.example.", "A", "10.96.0.10", 30) in {tuple(r) for r in made.zones[0].records}


# ---------------------------------------------------------------------------------------------------------- reverse


def pointers(made: dns.Zones) -> dict[str, set[str]]:
    return {zone.origin: {f"{r.owner} {r.data}" for r in zone.records if r.type == "PTR"} for zone in made.zones[1:]}


def test_addresses_have_names() -> None:
    made = zones(
        SERVICE_CIDR,
        service("web", "10.96.0.10", "fd00:10:96::a"),
        service("other", "10.97.0.10"),
    )
    assert pointers(made) == {
        "96.10.in-addr.arpa.": {"10.0.96.10.in-addr.arpa. web.default.svc.cluster.local."},
        "0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa.".replace(
            "0.0.0.0.0.0.0.0.0.0.0.", "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.", 1
        ): {"a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa. web.default.svc.cluster.local."},
    }


def test_a_cluster_ip_wins_over_endpoints_and_endpoints_share_an_address() -> None:
    made = zones(
        service("web", "10.96.0.10"),
        service("a", "None"),
        service("b", "None"),
        endpoint_slice("a", endpoint("10.96.0.10"), endpoint("10.96.0.11", hostname="one")),
        endpoint_slice("b", endpoint("10.96.0.11", hostname="two")),
        reverse_cidrs=["10.96.0.0/24"],
    )
    assert pointers(made)["0.96.10.in-addr.arpa."] == {
        "10.0.96.10.in-addr.arpa. web.default.svc.cluster.local.",
        "11.0.96.10.in-addr.arpa. one.a.default.svc.cluster.local.",
        "11.0.96.10.in-addr.arpa. two.b.default.svc.cluster.local.",
    }


def test_reverse_zones_can_be_left_out() -> None:
    assert pointers(zones(SERVICE_CIDR, service("web", "10.96.0.10"), reverse_cidrs=[])) == {}


# --------------------------------------------------------------------------------------------------------- problems


def problem(*objects: Any) -> str:
    made = zones(*objects, service("fine", "10.96.0.10"))
    assert "fine. A 10.96.0.10" in records(made)
    assert len(made.problems) == 1
    return str(made.problems[0])


@pytest.mark.parametrize("target", ["10.0.0.1", "fd00::1", "10.0.0.1."])
def test_an_address_as_external_name_is_reported(target: str) -> None:
    said = problem(service("ext", type="ExternalName", externalName=target))
    assert said.startswith("Service default/ext: externalName")
    assert "is an IP address" in said


def test_aliases_in_a_circle_are_reported_one_by_one() -> None:
    def alias(name: str, target: str) -> dict[str, Any]:
        return service(name, type="ExternalName", externalName=f"{target}.default.svc.cluster.local")

    made = zones(alias("a", "b"), alias("b", "c"), alias("c", "b"), alias("self", "self"), alias("fine", "web"))
    assert records(made) == {"fine. CNAME web.default.svc.cluster.local."}
    assert [(p.key, "loop" in p.reason) for p in made.problems] == [
        (f"default/{name}", True) for name in ("a", "b", "c", "self")
    ]


def test_a_long_chain_of_aliases_is_reported() -> None:
    chain = [
        service(f"s{i}", type="ExternalName", externalName=f"s{i + 1}.default.svc.cluster.local") for i in range(9)
    ]
    made = zones(*chain, service("s9", "10.96.0.1"))
    assert [p.key for p in made.problems] == ["default/s0"]


def test_a_chain_of_thousands_of_aliases_is_read() -> None:
    """Each is followed as far as a server would; to its end would be work by the third power of its length."""
    chain = [
        service(f"s{i}", type="ExternalName", externalName=f"s{i + 1}.default.svc.cluster.local") for i in range(3000)
    ]
    made = dns.build(build_snapshot(chain), dns.options(servers=["169.254.20.10"]))
    assert len(made.problems) == 2992
    assert str(made.problems[0]).endswith("more than the 8 aliases that a server follows; it is not served")


def test_hostnames_that_are_no_labels_are_reported_and_the_address_is_served() -> None:
    slices = endpoint_slice("db", endpoint("10.128.0.1", hostname="a.b"), endpoint("10.128.0.2", hostname="ok"))
    made = zones(service("db", "None"), slices)
    assert "Service default/db: the endpoint name 'a.b' is no DNS label" in str(made.problems[0])
    assert {"db. A 10.128.0.1", "db. A 10.128.0.2", "ok.db. A 10.128.0.2"} <= records(made)
    assert not any("a.b" in text for text in records(made))


def test_a_port_name_that_leaves_no_room_for_its_underscore_is_reported() -> None:
    made = zones(service("web", "10.96.0.10", ports=[{"name": "p" * 63, "port": 80}]))
    assert "too long" in str(made.problems[0])
    assert records(made) == {"web. A 10.96.0.10", "web. SRV 0 100 80 web.default.svc.cluster.local."}


def test_names_that_are_too_long_are_reported() -> None:
    long = ".".join(["d" * 60] * 3)
    made = zones(service("s" * 60, "10.96.0.10", space="n" * 60), service("web", "10.96.0.11"), domain=long)
    assert [p.key for p in made.problems] == ["n" * 60 + "/" + "s" * 60]
    assert "web. A 10.96.0.11" in records(made, f"default.svc.{long}.")


def test_more_addresses_than_an_answer_holds_are_reported() -> None:
    def database(count: int) -> dns.Zones:
        slices = [
            endpoint_slice(
                "db",
                *[endpoint(f"10.{128 + block}.{i >> 8}.{i & 255}") for i in range(count // 5)],
                ports=[],
                name=f"db-{block}",
            )
            for block in range(5)
        ]
        return zones(service("db", "None"), *slices)

    assert database(4000).problems == ()
    assert "Service default/db: 4500 ready IPv4 endpoints, but one DNS answer holds at most 409" in str(
        database(4500).problems[0]
    )


def test_more_ports_than_an_answer_holds_are_reported() -> None:
    slices = [
        endpoint_slice("db", *[endpoint(f"10.128.{block}.{i}") for i in range(100)], name=f"db-{block}")
        for block in range(5)
    ]
    made = zones(service("db", "None"), *slices)
    assert made.problems == ()
    slices.append(
        endpoint_slice("db", *[endpoint(f"10.129.0.{i}", hostname=f"{i:063}") for i in range(250)], name="db-5")
    )
    assert "SRV records" in str(zones(service("db", "None"), *slices).problems[0])


def test_a_broken_service_is_left_out_by_name() -> None:
    fine = build_snapshot([service("fine", "10.96.0.10")])
    broken = b'{"kind":"Service","metadata":{"namespace":"default","name":"bad"},"spec":{"clusterIPs":["10.96.0.300"]}}'
    unfinished = broken.replace(b'"bad"', b'"cut"')[:-3]
    odd = b'{"kind":"Service","metadata":{"namespace":"default","name":"odd"},"spec":["clusterIPs"]}'
    made = dns.build(
        fine._replace(lines=(broken, unfinished, odd, *fine.lines)), dns.options(servers=["169.254.20.10"])
    )
    assert [p.key for p in made.problems] == ["default/bad", "default/cut", "default/odd"]
    assert "fine. A 10.96.0.10" in records(made)


@pytest.mark.parametrize(
    "options",
    [{"ttl": 3601}, {"ttl": -1}, {"pods": "insecure"}, {"servers": []}, {"servers": ["x"]}, {"domain": "a b"}],
)
def test_options_that_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        zones(**options)


# ------------------------------------------------------------------------------------------------------ determinism


def test_the_order_of_objects_makes_no_difference() -> None:
    objects = [SERVICE_CIDR, namespace()]
    for i in range(20):
        objects.append(service(f"h{i}", "None"))
        objects.append(
            service(f"s{i}", f"10.96.0.{i + 1}", ports=[HTTP, {"name": "dns", "port": 53, "protocol": "UDP"}])
        )
        objects.append(endpoint_slice(f"h{i}", *[endpoint(f"10.128.{i}.{j}", hostname=f"x{j // 2}") for j in range(5)]))
    expected = zones(*objects)
    for seed in range(5):
        random.Random(seed).shuffle(objects)
        assert zones(*objects) == expected


def test_only_the_zone_that_changed_gets_a_new_serial() -> None:
    def written(*objects: Any, before: list[dns_zonefile.Update | None]) -> list[dns_zonefile.Update]:
        made = zones(SERVICE_CIDR, *objects).zones
        return [
            dns_zonefile.update(zone, old.text if old else None, 0, 100) for zone, old in zip(made, before, strict=True)
        ]

    first = written(service("web", "10.96.0.10"), before=[None, None, None])
    again = written(service("web", "10.96.0.10"), before=list(first))
    assert [u.text for u in again] == [None, None, None]
    other_port = service("web", "10.96.0.10", ports=[{"name": "http", "port": 81, "protocol": "TCP"}])
    assert [u.text is not None for u in written(other_port, before=list(first))] == [True, False, False]
