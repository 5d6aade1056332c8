# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import corefile
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.corefile import (
    CorefileOptions,
    Directive,
    ServerBlock,
    ZoneSource,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import OptionError

FROM_FILES = CorefileOptions(
    mode="zones",
    domain="cluster.local.",
    listen_addresses=("169.254.20.10", "10.96.0.10"),
    port=53,
    zones=(
        ZoneSource("cluster.local.", "/var/lib/servicenet/zones/cluster.local"),
        ZoneSource("96.10.in-addr.arpa.", "/var/lib/servicenet/zones/96.10.in-addr.arpa"),
    ),
    upstreams=("198.18.0.53",),
)

TEXT = """\
# Written by kubenode.servicenet. Changes are lost.
.:53 {
    bind 169.254.20.10 10.96.0.10
    errors
    health 127.0.0.1:9254 {
        lameduck 5s
    }
    ready 127.0.0.1:9255
    prometheus 127.0.0.1:9253
    cache 30 {
        success 9984 30
        denial 9984 5
        disable success cluster.local. 96.10.in-addr.arpa.
        disable denial cluster.local. 96.10.in-addr.arpa.
    }
    loadbalance
    file /var/lib/servicenet/zones/cluster.local cluster.local. {
        reload 2s
    }
    file /var/lib/servicenet/zones/96.10.in-addr.arpa 96.10.in-addr.arpa. {
        reload 2s
        fallthrough in-addr.arpa. ip6.arpa.
    }
    loop
    forward . 198.18.0.53 {
        max_concurrent 1000
    }
    reload 10s
}
"""


def names(options: CorefileOptions) -> list[str]:
    return [d.name for d in corefile.build(options)[0].directives]


def test_zones_from_files() -> None:
    assert corefile.render(corefile.build(FROM_FILES)) == TEXT


def test_zones_from_the_api_server() -> None:
    options = FROM_FILES._replace(
        mode="kubernetes", zones=(), kubeconfig="/etc/servicenet/coredns.kubeconfig", pods="verified", ttl=30
    )
    text = corefile.render(corefile.build(options))
    assert (
        """\
    kubernetes cluster.local. in-addr.arpa. ip6.arpa. {
        kubeconfig /etc/servicenet/coredns.kubeconfig
        pods verified
        ttl 30
        fallthrough in-addr.arpa. ip6.arpa.
    }
"""
        in text
    )
    assert "file " not in text
    assert "disable success cluster.local.\n" in text


def test_without_upstreams_nothing_is_passed_on() -> None:
    options = FROM_FILES._replace(upstreams=())
    assert not {"forward", "loop", "cache"} & set(names(options))
    assert "fallthrough" not in corefile.render(corefile.build(options))


def test_parts_that_can_be_left_out() -> None:
    options = FROM_FILES._replace(cache_seconds=0, health_port=0, ready_port=0, metrics_port=0)
    assert not {"cache", "health", "ready", "prometheus"} & set(names(options))


@pytest.mark.parametrize("word", ["a b", "a{b", "}", '"x"', "#", "", "a\nb", "{$HOME}", "a;b", "`"])
def test_a_word_that_would_be_read_otherwise_is_refused(word: str) -> None:
    with pytest.raises(OptionError):
        corefile.render([ServerBlock((".:53",), (Directive("file", (word,)),))])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"port": 0}, "port 0 is not in 1 to 65535"),
        ({"port": 65536}, "port 65536 is not in 1 to 65535"),
        ({"health_port": -1}, "health_port -1 is not in 0 to 65535"),
        ({"metrics_port": 70000}, "metrics_port 70000 is not in 0 to 65535"),
        ({"cache_seconds": -5}, "cache_seconds -5 is not in 0 to 86400"),
        ({"zone_reload_seconds": 0}, "zone_reload_seconds 0 is not in 1 to 86400"),
        ({"ready_port": 9254}, "health_port, ready_port, metrics_port need a port each"),
    ],
)
def test_a_number_with_which_coredns_would_not_start_is_refused(given: dict[str, int], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        corefile.build(FROM_FILES._replace(**given))
    assert corefile.build(FROM_FILES._replace(health_port=0, ready_port=0, metrics_port=0))


def test_listen_addresses_are_single_and_canonical() -> None:
    assert corefile.listeners(["169.254.20.10", "FD00::0053", "fd00::53"]) == ("169.254.20.10", "fd00::53")
    for wrong in ([], ["0.0.0.0"], ["::"], ["eth0"], [53]):
        with pytest.raises(OptionError, match="listen_addresses"):
            corefile.listeners(wrong)


def test_upstreams_are_written_in_one_form() -> None:
    given = ["198.18.0.53", "198.18.0.53:53", "198.18.0.54:5353", "fd00::53", "[fd00::53]:53", "[fd00::54]:5353"]
    assert corefile.forwarders(given, ["169.254.20.10"], 53) == (
        "198.18.0.53",
        "198.18.0.54:5353",
        "fd00::53",
        "[fd00::54]:5353",
    )


def test_more_upstreams_than_coredns_takes_are_refused() -> None:
    many = [f"198.18.0.{number}" for number in range(1, 17)]
    assert len(corefile.forwarders([*many[:15], "198.18.0.1"], [], 53)) == 15
    with pytest.raises(OptionError, match="16 servers"):
        corefile.forwarders(many, [], 53)


@pytest.mark.parametrize(
    "upstream", ["169.254.20.10", "169.254.20.10:53", "127.0.0.53", "127.0.0.1:53", "::1", "[::1]:53", "0.0.0.0"]
)
def test_an_upstream_that_would_ask_back_is_refused(upstream: str) -> None:
    with pytest.raises(OptionError, match=r"itself|ask this server back"):
        corefile.forwarders([upstream], ["169.254.20.10"], 53)


def test_a_resolver_of_the_node_on_another_port_is_no_loop() -> None:
    assert corefile.forwarders(["127.0.0.1:5353"], ["127.0.0.1"], 53) == ("127.0.0.1:5353",)


@pytest.mark.parametrize(
    "upstream", ["", "dns.example", "198.18.0.53:", "198.18.0.53:0", "198.18.0.53:x", "[198.18.0.53", "1.2.3.4 5", None]
)
def test_an_upstream_that_is_no_address_is_refused(upstream: object) -> None:
    with pytest.raises(OptionError, match="upstreams"):
        corefile.forwarders([upstream], [], 53)
