# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random clusters: one seed always makes the same Services, EndpointSlices, Nodes and options of the proxy.

What kube-proxy itself does by chance is not made: one endpoint of a Service port in two slices with other conditions,
and two Services that claim one address and port.
"""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

from conformance.packets.packet_lab import NODE_B_IPS, NODE_IPS, NODE_SECOND_IPS, PODS, PORTS, family

SERVICES = 5
NAMESPACES = ("shop", "infra")
FAMILIES = {4: "IPv4", 6: "IPv6"}
ZONES = {"node-a": "z1", "node-b": "z2", "node-c": "z2"}
POD_CIDRS = {
    "node-a": ["10.128.0.0/24", "fd80:0:0:a::/64"],
    "node-b": ["10.129.0.0/24", "fd80:0:0:b::/64"],
    "node-c": ["10.130.0.0/24", "fd80:0:0:c::/64"],
}
NODE_ADDRESSES = {"node-a": NODE_IPS, "node-b": NODE_B_IPS, "node-c": ["198.18.2.3", "fd98:2::3"]}
# (IPv4, IPv6, node) of everything that may be an endpoint; pod-a3 and pod-b3 are clients alone.
ENDPOINTS = [
    (*PODS["pod-a1"][:2], "node-a"),
    (*PODS["pod-a2"][:2], "node-a"),
    (*PODS["pod-b1"][:2], "node-b"),
    (*PODS["pod-b2"][:2], "node-b"),
    (*PODS["pod-c1"][:2], "node-c"),
    (*NODE_IPS, "node-a"),
    (*NODE_B_IPS, "node-b"),
]
SOURCE_RANGES = {
    4: ["198.18.1.20/32", "198.18.1.0/24", "10.128.0.0/24", "10.129.0.0/16", "198.18.1.1/32", "0.0.0.0/0"],
    6: ["fd98:1::20/128", "fd98:1::/64", "fd80:0:0:a::/64", "fd80:0:0:b::/64", "fd98:1::1/128", "::/0"],
}
NODE_PORT_ADDRESSES = [
    ["primary"],
    ["198.18.1.0/24", "fd98:1::/64"],
    ["198.18.0.0/16"],
    ["198.18.2.0/24", "fd98:2::/64"],
]
# Conditions (ready, serving, terminating) by what sort of endpoints a Service has.
READY, UNREADY = (True, True, False), (False, False, False)
LEAVING, GONE, NEW = (False, True, True), (False, False, True), (None, None, None)
CONDITIONS = {
    "ready": [READY, READY, READY, NEW],
    "mixed": [READY, READY, UNREADY, LEAVING, GONE, (True, None, None), (False, True, False)],
    "leaving": [LEAVING, LEAVING, GONE, UNREADY],
    "unready": [UNREADY, (False, None, None)],
}


class Cluster(NamedTuple):
    """What both proxies are given.

    `manifests` is the state that is compared. `before` is one in which some Services look otherwise, or are not there:
    ours passes through it on its way, so that it comes to `manifests` by a change. A Service that is the same in both
    is written the same.
    """

    name: str
    options: dict[str, Any]
    manifests: list[dict[str, Any]]
    before: list[dict[str, Any]]


def generate(seed: int) -> Cluster:
    """The cluster of a seed."""
    options = proxy_options(Random(f"options/{seed}"))
    nodes = [node(name, options) for name in ZONES]
    change = Random(f"change/{seed}")
    now, before = [*nodes], [*nodes]
    for number in range(SERVICES):
        today = service(Random(f"service/{seed}/{number}"), number)
        now += today
        fate = change.random()
        if fate < 0.4:
            before += today
        elif fate < 0.85:
            before += service(Random(f"before/{seed}/{number}"), number)
    return Cluster(f"{traits(options, now)}random-{seed}", options, now, before)


def traits(options: dict[str, Any], manifests: list[dict[str, Any]]) -> str:
    """The beginning of a cluster's name, by which the lists of deviations know what may happen in it."""
    limited = any("loadBalancerSourceRanges" in m["spec"] for m in manifests if m["kind"] == "Service")
    return ("nodeport-addresses-" if options["nodeport_addresses"] else "") + ("source-ranges-" if limited else "")


def proxy_options(rng: Random) -> dict[str, Any]:
    """As a recorded case has them (packets/README.md)."""
    detect = rng.choice([*["ClusterCIDR"] * 3, "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix", None])
    return {
        "node_name": "node-a",
        "zone": rng.choice(["z1", "z1", "z1", None]),
        "node_ips": NODE_IPS,
        "pod_cidrs": POD_CIDRS["node-a"],
        "detect_local_mode": detect,
        "cluster_cidrs": ["10.128.0.0/9", "fd80::/16"] if detect == "ClusterCIDR" else [],
        "bridge_interface": "pod0" if detect == "BridgeInterface" else None,
        "interface_name_prefix": "pod" if detect == "InterfaceNamePrefix" else None,
        "masquerade_all": rng.random() < 0.12,
        "nodeport_addresses": rng.choice([*[None] * 6, *NODE_PORT_ADDRESSES]),
        "localhost_nodeports": rng.random() < 0.75,
    }


def node(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """A Node; only node-a may be without a zone."""
    zone = options["zone"] if name == "node-a" else ZONES[name]
    cidrs = POD_CIDRS[name]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name} | ({"topology.kubernetes.io/zone": zone} if zone else {}),
        },
        "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
        "status": {"addresses": [{"type": "InternalIP", "address": a} for a in NODE_ADDRESSES[name]]},
    }


# --------------------------------------------------------------------------------------------------------- Services


def service(rng: Random, number: int) -> list[dict[str, Any]]:
    """A Service with its EndpointSlices; `number` says which addresses and node ports are its own."""
    families = rng.choice([[4]] * 6 + [[6]] + [[4, 6]] * 3 + [[6, 4]])
    kind = rng.choice(["ClusterIP", "NodePort", "NodePort", "LoadBalancer", "LoadBalancer"])
    ports = service_ports(rng, number, kind, families)
    spec: dict[str, Any] = {
        "type": kind,
        "clusterIPs": [{4: f"10.96.1.{number + 1}", 6: f"fd00:10:96::1:{number + 1:x}"}[v] for v in families],
        "ipFamilies": [FAMILIES[v] for v in families],
        "ipFamilyPolicy": "RequireDualStack" if len(families) > 1 else "SingleStack",
        "ports": ports,
        "internalTrafficPolicy": rng.choice(["Cluster", "Local"]),
        "sessionAffinity": "None",
    }
    spec["clusterIP"] = spec["clusterIPs"][0]
    status: dict[str, Any] = {"loadBalancer": {}}
    if rng.random() < 0.3:
        spec["externalIPs"] = [{4: f"198.19.2.{number + 1}", 6: f"fd98:19::2:{number + 1:x}"}[v] for v in families]
    if kind != "ClusterIP" or "externalIPs" in spec:
        spec["externalTrafficPolicy"] = rng.choice(["Cluster", "Local"])
    if kind == "LoadBalancer":
        balance(rng, number, families, spec, status)
    if rng.random() < 0.25:
        spec |= {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}}
    if rng.random() < 0.1:
        spec["publishNotReadyAddresses"] = True
    metadata: dict[str, Any] = {"name": f"web-{number}", "namespace": rng.choice(NAMESPACES), "labels": {"app": "web"}}
    if rng.random() < 0.05:
        metadata["labels"]["service.kubernetes.io/service-proxy-name"] = "another"
    if rng.random() < 0.05:
        metadata["labels"]["service.kubernetes.io/headless"] = ""
    made = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec, "status": status}
    return [made, *(piece for v in families for piece in slices(rng, made, v))]


def service_ports(rng: Random, number: int, kind: str, families: list[int]) -> list[dict[str, Any]]:
    """One to three ports, sometimes one number for two protocols."""
    ports: list[dict[str, Any]] = []
    numbers = rng.sample([80, 443, 53, 5353, 8080, 9090], rng.choice([1, 1, 1, 2, 3]))
    protocols = ["TCP"] * 7 + ["UDP"] * 3 + (["SCTP"] if 4 in families else [])
    wanted = [(n, rng.choice(protocols)) for n in numbers]
    if rng.random() < 0.1:
        wanted.append((wanted[0][0], "TCP" if wanted[0][1] == "UDP" else "UDP"))
    for place, (port, protocol) in enumerate(wanted):
        one = {"name": f"p{place}", "protocol": protocol, "port": port, "targetPort": port}
        if kind != "ClusterIP":
            one["nodePort"] = 30000 + number * 10 + place
        ports.append(one)
    if len(ports) == 1 and rng.random() < 0.3:
        del ports[0]["name"]
    return ports


def balance(rng: Random, number: int, families: list[int], spec: dict[str, Any], status: dict[str, Any]) -> None:
    """Makes the load balancer of a Service: its addresses, source ranges, with or without node ports."""
    if rng.random() < 0.25:
        spec["allocateLoadBalancerNodePorts"] = False
        for port in spec["ports"]:
            del port["nodePort"]
    if rng.random() < 0.35:
        limited = rng.choice([families, families[:1]])
        ranges = [rng.sample(SOURCE_RANGES[v], rng.choice([1, 1, 2])) for v in limited]
        spec["loadBalancerSourceRanges"] = [cidr for some in ranges for cidr in some]
    ingress: list[dict[str, Any]] = []
    for v in families:
        for which in range(rng.choice([0, 1, 1, 1, 2])):
            address = {4: f"198.19.1.{number * 4 + which + 1}", 6: f"fd98:19::1:{number * 4 + which + 1:x}"}[v]
            ingress.append({"ip": address, "ipMode": rng.choice(["VIP", "VIP", "VIP", "Proxy"])})
    if rng.random() < 0.1:
        ingress.append({"hostname": "balancer.example.org"})
    if ingress:
        status["loadBalancer"]["ingress"] = ingress


# -------------------------------------------------------------------------------------------------------- endpoints


def slices(rng: Random, made: dict[str, Any], v: int) -> list[dict[str, Any]]:
    """The EndpointSlices of one family of a Service: none, one or two."""
    chosen = rng.sample(ENDPOINTS, rng.choice([0, 1, 1, 2, 2, 3, 4, 5]))
    conditions = CONDITIONS[rng.choice(["ready"] * 10 + ["mixed"] * 6 + ["leaving"] * 3 + ["unready"])]
    hints = rng.choice(["none"] * 6 + ["zones", "zones", "some zones", "nodes", "some nodes", "both"])
    endpoints = [endpoint(rng, addresses, v, conditions, hints) for addresses in chosen]
    ports = [
        {"name": port.get("name", ""), "protocol": port["protocol"], "port": rng.choice(PORTS)}
        for port in made["spec"]["ports"]
        if rng.random() < 0.93
    ]
    cut = rng.randint(0, len(endpoints)) if rng.random() < 0.4 else len(endpoints)
    parts = [part for part in (endpoints[:cut], endpoints[cut:]) if part] or ([[]] if rng.random() < 0.5 else [])
    name, namespace = made["metadata"]["name"], made["metadata"]["namespace"]
    return [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{name}-v{v}-{place}",
                "namespace": namespace,
                "labels": {
                    "kubernetes.io/service-name": name,
                    "endpointslice.kubernetes.io/managed-by": "conformance.example",
                }
                | ({"service.kubernetes.io/headless": ""} if rng.random() < 0.03 else {}),
            },
            "addressType": FAMILIES[v],
            "endpoints": part,
            "ports": ports,
        }
        for place, part in enumerate(parts)
    ]


def endpoint(rng: Random, addresses: tuple[str, str, str], v: int, conditions: list[Any], hints: str) -> dict[str, Any]:
    """One endpoint; `hints` says what sort of hints those of this Service have."""
    where = addresses[2]
    known = {
        name: value
        for name, value in zip(("ready", "serving", "terminating"), rng.choice(conditions), strict=True)
        if value is not None
    }
    made: dict[str, Any] = {
        "addresses": [next(a for a in addresses[:2] if family(a) == v)],
        "conditions": known,
        "zone": ZONES[where],
    }
    if rng.random() < 0.96:
        made["nodeName"] = where
    given: dict[str, Any] = {}
    if hints in ("zones", "both") or (hints == "some zones" and rng.random() < 0.6):
        given["forZones"] = [{"name": rng.choice([ZONES[where], ZONES[where], "z1", "z2", "z3"])}]
    if hints in ("nodes", "both") or (hints == "some nodes" and rng.random() < 0.6):
        given["forNodes"] = [{"name": rng.choice([where, where, "node-a"])}]
    if given:
        made["hints"] = given
    return made


# ----------------------------------------------------------------------------------------------------------- probes

CLIENTS = ("pod", "pod-self", "host", "ext", "remote-pod")
UNDEFINED_PORT = 9999
TRIES = 4


def probes(cluster: Cluster) -> list[dict[str, Any]]:
    """Every virtual address, protocol and port of the cluster from every client, and what nobody serves."""
    found: list[dict[str, Any]] = []
    rng = Random(f"probes/{cluster.name}")
    for made in cluster.manifests:
        if made["kind"] == "Service":
            found += service_probes(rng, made)
    for address in ("10.96.200.1", "fd00:10:96::c8:1"):
        port = {"port": 80, "protocol": "TCP"}
        found += [probe("nobody/nothing ClusterIP", client, address, port) for client in ("pod", "ext")]
    return found


def service_probes(rng: Random, made: dict[str, Any]) -> list[dict[str, Any]]:
    """The probes of one Service."""
    spec = made["spec"]
    name = f"{made['metadata']['namespace']}/{made['metadata']['name']}"
    sticky = spec["sessionAffinity"] == "ClientIP"
    addresses = [("ClusterIP", a) for a in spec["clusterIPs"]]
    addresses += [("externalIP", a) for a in spec.get("externalIPs", [])]
    addresses += [("load balancer IP", i["ip"]) for i in made["status"]["loadBalancer"].get("ingress", []) if "ip" in i]
    found: list[dict[str, Any]] = []
    for port in spec["ports"]:
        for kind, address in addresses:
            found += [probe(f"{name} {kind}", client, address, port, sticky) for client in CLIENTS]
        if "nodePort" in port:
            number = port | {"port": port["nodePort"]}
            for first, second, loopback in zip(NODE_IPS, NODE_SECOND_IPS, ("127.0.0.1", "::1"), strict=True):
                served = FAMILIES[family(first)] in spec["ipFamilies"]
                asking = CLIENTS if served else ("ext",)
                found += [probe(f"{name} NodePort", client, first, number, sticky) for client in asking]
                where = f"{name} NodePort, second node address"
                found += [probe(where, client, second, number, sticky) for client in ("ext", "host")]
                found.append(probe(f"{name} NodePort, loopback", "host", loopback, number, sticky))
    undefined = {"port": UNDEFINED_PORT, "protocol": rng.choice(["TCP", "UDP"])}
    for kind, address in addresses:
        where = f"{name} {kind}, undefined port"
        found += [probe(where, client, address, undefined) for client in rng.sample(CLIENTS, 2)]
    # SCTP is spoken over IPv4 alone (packets/README.md).
    return [p for p in found if p["proto"] != "SCTP" or family(p["address"]) == 4]


def probe(target: str, client: str, address: str, port: dict[str, Any], sticky: bool = False) -> dict[str, Any]:
    """As a recorded case has it (packets/README.md)."""
    return {
        "client": client,
        "address": address,
        "port": port["port"],
        "proto": port["protocol"],
        "count": TRIES,
        "target": target,
        "affinity": sticky,
    }
