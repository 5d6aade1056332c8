# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The userspace mode's half of a program: proxies, and the file of nginx that is made of them and read back."""

from __future__ import annotations

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import changes, text_nginx
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.resolve import NodeView
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.settings import Settings
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.table import (
    BALANCE,
    CLUSTER_IP,
    DROP,
    Backend,
    Frontend,
    PortRules,
    Target,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.text_nginx import Build, ProxyOptions
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.userspace import UserspaceCompiler

BACKENDS = (Backend("10.128.0.1", 8080, True), Backend("10.129.0.1", 8080, False))


def rules(protocol: str = "TCP", affinity: int = 0) -> PortRules:
    """A ClusterIP with two endpoints."""
    target = Target(BALANCE, BACKENDS)
    frontends = (Frontend(CLUSTER_IP, "10.96.0.1", 80),)
    return PortRules("shop/web", "http", protocol, 4, affinity, False, frontends, target, target, target, BACKENDS)


def compiler(*node_ips: str) -> UserspaceCompiler:
    """One whose ports are all 20000."""
    return UserspaceCompiler(Settings(NodeView("node-a", node_ips=node_ips)), ProxyOptions(), lambda _key: 20000)


def test_a_frontend_leads_to_its_proxy_and_the_proxy_to_the_endpoints() -> None:
    program = compiler("198.18.1.1").compile([rules()])
    assert program["4/service/10.96.0.1 . 6 . 80"] == "10.96.0.1 . 6 . 80 : goto internal_1"
    assert program["4/endpoint_tcp/10.96.0.1 . 80 . 0"] == "10.96.0.1 . 80 . 0 : 198.18.1.1 . 20000"
    block = program["proxy/4/tcp/cluster/shop/web:http"]
    assert text_nginx.backends_of(block) == [(b.address, b.port) for b in BACKENDS]
    assert text_nginx.port_of(block) == 20000
    assert program["reserved/20000"] == "reserved"
    assert "4/proxy_port/6 . 20000" in program


def test_what_no_proxy_relays_is_refused() -> None:
    for program in (compiler("198.18.1.1").compile([rules("SCTP")]), compiler("fd98::1").compile([rules()])):
        assert not any(name.startswith("proxy/") for name in program)
        assert any(name.startswith("4/rejected/") for name in program)


def test_what_a_policy_drops_is_dropped_with_and_without_a_proxy() -> None:
    for protocol, number in (("TCP", 6), ("SCTP", 132)):
        entry = rules(protocol)._replace(internal=Target(DROP, ()))
        assert compiler("198.18.1.1").compile([entry]) == {
            f"4/service/10.96.0.1 . {number} . 80": f"10.96.0.1 . {number} . 80 : drop",
            "4/cluster_address/10.96.0.1": "10.96.0.1",
        }


def test_affinity_goes_by_the_client_address() -> None:
    name = "proxy/4/tcp/cluster/shop/web:http"
    assert "hash $remote_addr consistent;" in compiler("198.18.1.1").compile([rules(affinity=10)])[name]
    assert "hash" not in compiler("198.18.1.1").compile([rules()])[name]


def test_a_configuration_reads_back_as_what_it_was_made_of() -> None:
    program = compiler("198.18.1.1").compile([rules(), rules("UDP")])
    made = {name: block for name, block in program.items() if name.startswith("proxy/")}
    made["nginx/head"] = text_nginx.head(2, ProxyOptions(), Build(), "/run/servicenet/userspace/error.log")
    assert text_nginx.parse(text_nginx.configuration(made)) == made
    assert text_nginx.configuration({"nginx/head": "anything"}) == ""


def test_a_port_that_nobody_wants_any_more_is_common_drift() -> None:
    assert changes.concerned({"reserved/20001": "reserved"}, [rules()], compiler("198.18.1.1")) == [changes.COMMON]
    name = "proxy/4/tcp/cluster/shop/web:http"
    assert changes.concerned({name: "another"}, [rules()], compiler("198.18.1.1")) == ["shop/web:http"]


def test_nginx_blames_a_proxy_by_a_line_or_a_port() -> None:
    blocks = {
        f"proxy/{number}": compiler("198.18.1.1").compile([rules()])["proxy/4/tcp/cluster/shop/web:http"]
        for number in (1, 2)
    }
    blocks = {name: block.replace("4/tcp/cluster/shop/web:http", name[6:]) for name, block in blocks.items()}
    blocks["proxy/2"] = blocks["proxy/2"].replace("20000", "20001")
    head = text_nginx.head(2, ProxyOptions(), Build(), "/run/servicenet/userspace/error.log")
    text = text_nginx.configuration({**blocks, "nginx/head": head})
    for name, block in blocks.items():
        line = text[: text.index(block)].count("\n") + 3
        assert text_nginx.blamed(text, f"nginx: [emerg] no such thing in /tmp/a/nginx.conf:{line}") == block
        port = text_nginx.port_of(block)
        assert text_nginx.blamed(text, f"nginx: [emerg] bind() to 0.0.0.0:{port} failed (98: in use)") == block, name
    assert text_nginx.blamed(text, "nginx: [emerg] no such thing in /tmp/a/nginx.conf:2") == ""
    assert text_nginx.blamed(text, "nginx: [emerg] out of memory") == ""
