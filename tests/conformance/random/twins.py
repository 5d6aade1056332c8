# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Twin labs: the real kube-proxy on one node, our module on its twin, one real API server for both."""

from __future__ import annotations

import concurrent.futures
import contextlib
import shutil
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Self

from lab.claim import kill_and_wait
from lab.control_plane import Api, ControlPlane
from lab.modules import ModuleServer

from conformance.packets.adapter_servicenet import Servicenet
from conformance.packets.outcome import classify, difference
from conformance.packets.packet_lab import CLIENTS, PacketLab
from conformance.packets.reference import KubeProxy
from conformance.random.clusters import NAMESPACES


class Variant(NamedTuple):
    """Our mode, our variant of iptables, and the mode of kube-proxy."""

    ours: str
    iptables: str
    theirs: str


VARIANTS = {
    "nftables": Variant("nftables", "auto", "nftables"),
    "iptables-nft": Variant("iptables", "nft", "iptables"),
    "iptables-legacy": Variant("iptables", "legacy", "iptables"),
    # kube-proxy has no such mode any more.
    "userspace": Variant("userspace", "auto", "nftables"),
}
# Where the twins differ, chance or a busy machine may be why: they are asked again, at last with this many tries.
ASK_AGAIN = (5, 16)
PATIENCE = 1.5
# Seconds until kube-proxy has heard of a change.
WATCH = 1.0


class Answers(NamedTuple):
    """What one probe showed on both twins: the last outcome of each, and what differs ("" if nothing does)."""

    probe: dict[str, Any]
    theirs: dict[str, Any]
    ours: dict[str, Any]
    wrong: str

    @property
    def label(self) -> str:
        """As in deviations.yaml."""
        p = self.probe
        return f"{p['target']} from {p['client']} to {p['address']} {p['port']}/{p['proto']}"


class Original(contextlib.ExitStack):
    """A lab for the real kube-proxy, and the API server; a context manager."""

    def __init__(self) -> None:
        super().__init__()
        self.proxy: KubeProxy | None = None
        self.objects: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.build()
        except BaseException:
            self.close()
            raise
        return self

    def build(self) -> None:
        """Starts everything; what was started is on the stack."""
        self.plane = self.enter_context(ControlPlane())
        self.api: Api = self.plane.api
        self.api.create_all({"kind": "Namespace", "metadata": {"name": name}} for name in NAMESPACES)
        self.theirs = self.enter_context(PacketLab())
        self.callback(self.stop_kube_proxy)

    # ---- the cluster

    def fill(self, manifests: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Makes these objects the cluster; returns them as the API server completed them, ServiceCIDRs with them."""
        self.api.clear()
        self.api.create_all(manifests)
        return self.read()

    def read(self) -> list[dict[str, Any]]:
        """The cluster as the API server has it."""
        self.objects = self.api.call("GET", "/apis/networking.k8s.io/v1/servicecidrs")["items"]
        for item in self.objects:
            item["kind"] = "ServiceCIDR"
        for kind in ("Node", "Service", "EndpointSlice"):
            for item in self.api.list(kind):
                if item["metadata"].get("namespace") != "default":
                    self.objects.append(item | {"kind": kind})
        return self.objects

    def completed(self, manifests: Iterable[dict[str, Any]], filled: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Another state of the cluster: what is the same as in `filled` looks as the API server completed that."""
        given = {key(manifest): manifest for manifest in filled}
        made = {key(item): item for item in self.objects}
        return [made[key(m)] if given.get(key(m)) == m else m for m in manifests]

    # ---- kube-proxy

    def start_kube_proxy(self, mode: str, options: dict[str, Any]) -> None:
        """kube-proxy on an empty node; returns once it has written its rules."""
        self.stop_kube_proxy()
        self.theirs.reset()
        self.proxy = KubeProxy(self.theirs.node, self.theirs.directory / "kube-proxy", str(self.plane.socket))
        self.proxy.start(mode, options)

    def stop_kube_proxy(self) -> None:
        """Ends it; the rules stay."""
        if self.proxy:
            kill_and_wait(process.pid for process in self.proxy.processes)
            for process in self.proxy.processes:
                process.wait()
        self.proxy = None

    def wait_for_kube_proxy(self, changed: float = 0) -> None:
        """Until it has written what it was told, if it runs.

        :param changed: when one object was changed, of which it has to hear; 0 if nobody knows what it has to hear of.
        """
        if self.proxy:
            if not changed:
                # It waits for a moment before it so much as queues what was changed.
                time.sleep(WATCH)
            self.proxy.wait_synced(changed)


class Twins(Original):
    """Both labs and the API server; a context manager."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = concurrent.futures.ThreadPoolExecutor(4)
        self.variant = ""
        self.serving: Servicenet | None = None

    def build(self) -> None:
        """The twin, too."""
        super().build()
        self.ours = self.enter_context(PacketLab())
        self.modules = self.enter_context(ModuleServer(self.ours.node))
        self.callback(self.stop_ours)
        self.callback(self.pool.shutdown)

    # ---- the proxies

    def stop_ours(self) -> None:
        """Ends the proxies of our userspace mode, if they run."""
        if self.serving:
            self.serving.cleanup()
        self.serving = None

    def start_ours(self, variant: str, options: dict[str, Any], states: Iterable[list[dict[str, Any]]]) -> None:
        """Our module on an empty node, run on each of the states of the cluster in turn."""
        self.stop_ours()
        self.ours.reset()
        shutil.rmtree(self.ours.directory / "node", ignore_errors=True)
        for objects in states:
            self.run_ours(variant, options, objects)

    def run_ours(self, variant: str, options: dict[str, Any], objects: list[dict[str, Any]]) -> None:
        """Our module, as a resync runs it."""
        mode, of_iptables, _theirs = VARIANTS[variant]
        scratch = self.ours.directory / "node"
        scratch.mkdir(exist_ok=True)
        proxy = Servicenet(self.modules, mode, of_iptables, options, scratch)
        if proxy.arguments.get("localhost_nodeports"):
            self.ours.sysctl("node-a", {"net.ipv4.conf.all.route_localnet": 1})
        if mode == "userspace":
            self.serving = proxy
        proxy.program(objects)

    def program(self, variant: str, options: dict[str, Any], states: list[list[dict[str, Any]]]) -> None:
        """Both proxies, each on an empty node. `states`: what ours passes through; the API server has the last one."""
        self.variant = variant
        theirs = self.pool.submit(self.start_kube_proxy, VARIANTS[variant].theirs, options)
        try:
            self.start_ours(variant, options, states)
        finally:
            theirs.result()

    def follow(self, variant: str, options: dict[str, Any], changed: float = 0) -> None:
        """Both catch up with what the API server has by now, see `wait_for_kube_proxy`."""
        self.run_ours(variant, options, self.read())
        self.wait_for_kube_proxy(changed)

    # ---- the packets

    def ask(self, probes: list[dict[str, Any]]) -> list[Answers]:
        """The same probes on both twins at the same time."""
        labs = (self.theirs, self.ours)
        raw = [done.result() for done in [self.pool.submit(lab.probe, probes) for lab in labs]]
        answers = []
        for p, theirs, ours in zip(probes, *raw, strict=True):
            seen, got = classify(p, theirs), classify(p, ours)
            # A proxy of ours is itself the client of the backends.
            proxied = VARIANTS[self.variant].ours == "userspace"
            compared = (others(seen, ["drop"]), others(got)) if proxied and p["client"] == "pod-self" else (seen, got)
            answers.append(Answers(p, seen, got, unlike(*compared, compare_source=not proxied)))
        return answers

    def compare(
        self, probes: list[dict[str, Any]], expected: Callable[[int, Answers], bool] = lambda _place, _answer: False
    ) -> list[Answers]:
        """Probes both twins; where they differ, again and with more tries, until chance can no longer be the cause.

        :param expected: says of the place of a probe and its answers whether they may differ so.
        """
        answers = self.ask(probes)
        # Whatever any try of either twin met, by place.
        met = [self.met(answer) for answer in answers]
        for count in ASK_AGAIN:
            doubtful = [i for i, answer in enumerate(answers) if answer.wrong and not expected(i, answer)]
            last = count == ASK_AGAIN[-1]
            if doubtful and last:
                # On a busy machine kube-proxy may hear of the ServiceCIDRs after all else.
                self.wait_for_kube_proxy()
            while doubtful:
                until = {i: sorted(met[i]) for i in doubtful}
                again = [probes[i] | {"count": count, "timeout": PATIENCE, "until": until[i]} for i in doubtful]
                # At last one client at a time: several take turns at a proxy that goes round.
                parts = [[p] for p in again] if last else [again]
                for i, answer in zip(doubtful, (one for part in parts for one in self.ask(part)), strict=True):
                    answers[i] = answer
                    met[i] |= self.met(answer)
                # Only tries that waited for all of it can tell that something is missing.
                doubtful = [i for i in doubtful if answers[i].wrong and len(met[i]) > len(until[i])]
        return answers

    def met(self, answer: Answers) -> set[str]:
        """The backends that one of the twins met; and "drop", where a Pod that is one of them may have met itself: if
        its slice does not say that it is the node's own, the rules of both lose what it sends to itself."""
        sides = (answer.theirs, answer.ours)
        found = {name for side in sides for name in side.get("backends", ())}
        loses = answer.probe["client"] == "pod-self" and VARIANTS[self.variant].ours != "userspace"
        return found | {"drop" for side in sides if loses and "drop" in side.get("failures", ())}


def key(manifest: dict[str, Any]) -> tuple[str, str, str]:
    """What names an object."""
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace", ""), metadata["name"]


def others(outcome: dict[str, Any], lost: list[str] | None = None) -> dict[str, Any]:
    """What a Pod saw of others than itself. Where the slice does not say that it is the node's own, kube-proxy's mode
    nftables loses what it sends to itself.

    :param lost: how such a loss looks; any other failure stays.
    """
    own = CLIENTS["pod-self"][0]
    backends = {name: source for name, source in outcome.get("backends", {}).items() if name.partition(":")[0] != own}
    if not backends or outcome.get("failures") not in (None, lost):
        return outcome
    return {key: value for key, value in outcome.items() if key != "failures"} | {
        "result": "answer",
        "backends": backends,
    }


def unlike(theirs: dict[str, Any], ours: dict[str, Any], compare_source: bool = True) -> str:
    """What is wrong with our outcome, "" if nothing is. Which backends a client sticks to is chance."""
    if not theirs.get("any_of"):
        return difference(theirs, ours, compare_source) or ""
    shared = set(theirs["backends"]) & set(ours.get("backends", ()))
    alike = theirs | {"backends": {name: theirs["backends"][name] for name in shared}, "spread": False}
    meant = ours | ({"backends": {name: ours["backends"][name] for name in shared}} if "backends" in ours else {})
    return difference(alike, meant, compare_source) or ""
