# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of Pods: asking for them is enough, the snapshot then has what they are made of."""

from __future__ import annotations

import yaml
from lab import Lab

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import dns, snapshot

SNAPSHOT = "/var/lib/servicenet/snapshot.jsonl.gz"


def pod_names(lab: Lab, **variables: str) -> set[str]:
    """The names below pod.cluster.local that a node's snapshot gives."""
    play = {
        "hosts": "servicenet_nodes",
        "gather_facts": False,
        "roles": [{"role": "kubenode.servicenet.cluster_snapshot"}],
    }
    path = lab.directory / "snapshot.yml"
    path.write_text(yaml.safe_dump([play]))
    lab.playbook(str(path), variables, "--limit=node-a")
    found = snapshot.load(lab.node("node-a").path(SNAPSHOT).read_bytes())
    made = dns.build(found, dns.options(servers=["127.0.0.1"], pods="verified"))
    return {r.owner for zone in made.zones for r in zone.records if r.type == "A" and ".pod.cluster.local." in r.owner}


def test_names_of_pods_bring_their_pods_along(lab: Lab) -> None:
    assert pod_names(lab) == set()
    assert "10-128-1-11.shop.pod.cluster.local." in pod_names(lab, cluster_dns_pods="verified")
