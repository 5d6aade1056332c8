# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way to an API server: what the options say, and what goes over the wire."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from fixtures import malformed
from fixtures.fake_api import FakeApi, Handler

from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster import client as client_module
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster import connection
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.client import ClusterError
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.connection import Options, connect
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.lists import objects_of, read_list
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.resources import SERVICES
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import OptionError


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the machine knows of clusters does not count, and pauses are short."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(client_module, "FIRST_PAUSE", 0.001)


def kubeconfig(path: Path, server: str, proxy: str = "", **user: Any) -> str:
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "lab",
                "clusters": [{"name": "lab", "cluster": {"server": server, **({"proxy-url": proxy} if proxy else {})}}],
                "users": [{"name": "reader", "user": user}],
                "contexts": [
                    {"name": name, "context": {"cluster": "lab", "user": "reader"}} for name in ("lab", "two")
                ],
            }
        )
    )
    return str(path)


def authorization(api: FakeApi) -> str | None:
    headers = {name.lower(): value for name, value in api.requests[-1][1].items()}
    return headers.get("authorization")


def test_pages_come_over_the_wire_with_the_token() -> None:
    services = [malformed.service(f"s{number}") for number in range(5)]
    with FakeApi(services) as api:
        client = connect(Options(host=f"{api.url}/", api_key="secret"))
        found = read_list(client, SERVICES, "", 2)
        assert [raw["metadata"]["name"] for raw in objects_of(found, client.server, [])] == [
            "s0",
            "s1",
            "s2",
            "s3",
            "s4",
        ]
        assert [path for path, _headers in api.requests] == [
            "/api/v1/services?limit=2",
            "/api/v1/services?limit=2&continue=2",
            "/api/v1/services?limit=2&continue=4",
        ]
        assert authorization(api) == "Bearer secret"


def test_a_kubeconfig_says_where_and_who(tmp_path: Path) -> None:
    with FakeApi() as api:
        path = kubeconfig(tmp_path / "config", api.url, token="from-file")
        for options in (Options(kubeconfig=path), Options(kubeconfig=path, context="two")):
            connect(options).request("list", SERVICES)
            assert authorization(api) == "Bearer from-file"
        connect(Options(kubeconfig=path, api_key="mine")).request("list", SERVICES)
        assert authorization(api) == "Bearer mine"


def test_a_host_beside_a_kubeconfig_is_asked_by_every_request(tmp_path: Path) -> None:
    with FakeApi() as own, FakeApi() as given:
        path = kubeconfig(tmp_path / "config", own.url, token="from-file")
        client = connect(Options(kubeconfig=path, host=given.url))
        for _time in range(3):
            client.request("list", SERVICES)
        assert (len(own.requests), len(given.requests)) == (0, 3)
        assert authorization(given) == "Bearer from-file"


def test_the_kubeconfig_of_the_environment_and_the_usual_one_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeApi() as api:
        (tmp_path / ".kube").mkdir()
        kubeconfig(tmp_path / ".kube" / "config", api.url, token="usual")
        monkeypatch.setattr("os.path.expanduser", lambda path: path.replace("~", str(tmp_path)))
        connect(Options()).request("list", SERVICES)
        assert authorization(api) == "Bearer usual"
        monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "other", api.url, token="environment"))
        connect(Options()).request("list", SERVICES)
        assert authorization(api) == "Bearer environment"


def test_a_password_in_an_address_is_sent_nowhere_and_shown_nowhere(tmp_path: Path) -> None:
    with FakeApi() as api:
        address = api.url.replace("//", "//admin:s3cret/@")
        path = kubeconfig(tmp_path / "config", address)
        for options in (Options(host=address), Options(kubeconfig=path)):
            client = connect(options)
            client.request("list", SERVICES)
            assert client.server == api.url
            assert authorization(api) is None


@pytest.mark.parametrize(
    "host",
    ["admin:s3cret@198.18.0.1:6443", "htps://admin:s3cret@198.18.0.1", "https://admin:s3cret@[198.18.0.1", "s3cret@"],
)
def test_a_password_in_what_is_no_address_is_not_shown(host: str) -> None:
    with pytest.raises(OptionError, match="host must be a URL such as") as caught:
        connect(Options(host=host)).request("list", SERVICES)
    assert "s3cret" not in str(caught.value)


def test_a_host_alone_takes_nothing_from_a_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeApi() as api:
        monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "config", "https://198.18.0.9", token="not-for-you"))
        connect(Options(host=api.url)).request("list", SERVICES)
        assert authorization(api) is None


def test_in_a_pod_the_service_account_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    token = tmp_path / "token"
    token.write_text("x")
    monkeypatch.setattr(connection, "TOKEN_FILE", str(token))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")

    def load(client_configuration: Any) -> None:
        used.append(client_configuration)
        client_configuration.host = "https://10.96.0.1:443"

    monkeypatch.setattr("kubernetes.config.load_incluster_config", load)
    assert connect(Options()).server == "https://10.96.0.1:443"
    assert len(used) == 1
    assert connect(Options(host="https://198.18.0.1:6443")).server == "https://198.18.0.1:6443"
    assert len(used) == 1


def test_without_any_option_the_sentence_names_them() -> None:
    with pytest.raises(OptionError, match="give kubeconfig, or host with api_key and ca_cert"):
        connect(Options())


def test_a_file_of_something_else_is_no_kubeconfig(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("hello")
    with pytest.raises(OptionError, match=f"{path} can't be used: it does not have the form of one"):
        connect(Options(kubeconfig=str(path)))


@pytest.mark.parametrize("text", ["[", "{}", "kind: Config\ncontexts: 5\n", "", "kind: Config\nclusters: [5]\n"])
def test_a_broken_kubeconfig_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(OptionError, match=f"{path} can't be used"):
        connect(Options(kubeconfig=str(path)))


def login(command: str, *arguments: str) -> dict[str, Any]:
    """A user that logs in by a program."""
    return {"apiVersion": "client.authentication.k8s.io/v1", "command": command, "args": list(arguments)}


def test_a_program_logs_a_user_in(tmp_path: Path) -> None:
    said = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "made"}}
    with FakeApi() as api:
        path = kubeconfig(tmp_path / "config", api.url, exec=login("echo", json.dumps(said)))
        connect(Options(kubeconfig=path)).request("list", SERVICES)
        assert authorization(api) == "Bearer made"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (login("/nowhere/cloud-login"), "No such file or directory: '/nowhere/cloud-login'"),
        (login("sh", "-c", "echo the session has expired >&2; exit 3"), "returned 3. the session has expired"),
        (login("echo", "no JSON"), "failed to decode process output"),
        (
            login("echo", '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "", "status": {}}'),
            "missing token or clientCertificateData",
        ),
    ],
)
def test_a_program_that_logs_nobody_in_is_told_of_and_nothing_is_asked_anonymously(
    program: dict[str, Any], reason: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with FakeApi() as api:
        path = kubeconfig(tmp_path / "config", api.url, exec=program)
        with pytest.raises(OptionError, match=rf"{path} can't be used: its user can't log in \(.*{reason}.*\)\.$"):
            connect(Options(kubeconfig=path))
        assert api.requests == []
        connect(Options(kubeconfig=path, api_key="mine")).request("list", SERVICES)
        assert authorization(api) == "Bearer mine"
    assert capfd.readouterr() == ("", "")


def test_wrong_options_are_named(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "config", "https://198.18.0.1:6443")
    with pytest.raises(OptionError, match=r"can't be used: .*nowhere"):
        connect(Options(kubeconfig=path, context="nowhere"))
    with pytest.raises(OptionError, match="/nothing can't be read"):
        connect(Options(kubeconfig="/nothing"))
    with pytest.raises(OptionError, match="must be a URL"):
        connect(Options(host="198.18.0.1:6443"))
    with pytest.raises(OptionError, match="/nothing of ca_cert can't be read"):
        connect(Options(host="https://198.18.0.1:6443", ca_cert="/nothing"))
    for timeout in (0, -1, 3601):
        with pytest.raises(OptionError, match=f"timeout must be from 1 to 3600, not {timeout}"):
            connect(Options(host="https://198.18.0.1:6443", timeout=timeout))
    (tmp_path / "ca").write_text("no certificate")
    with pytest.raises((OptionError, ClusterError), match=r"https://127\.0\.0\.1:1"):
        connect(Options(host="https://127.0.0.1:1", ca_cert=str(tmp_path / "ca"))).request("list", SERVICES)


@pytest.mark.parametrize(
    "host",
    ["https://fd00::1:6443", "https://198.18.0.1:port", "https://198.18.0.1:65536", "https://a b", "https://a..b:6443"],
)
def test_what_is_no_url_is_no_server_that_is_down(host: str) -> None:
    with pytest.raises(OptionError, match="host must be a URL such as"):
        connect(Options(host=host)).request("list", SERVICES)


def test_the_line_end_of_a_token_is_no_part_of_it(tmp_path: Path) -> None:
    with FakeApi() as api:
        for options in (
            Options(host=api.url, api_key="secret\r\n"),
            Options(kubeconfig=kubeconfig(tmp_path / "config", api.url, token="secret\n")),
        ):
            connect(options).request("list", SERVICES)
            assert authorization(api) == "Bearer secret"


@pytest.mark.parametrize("token", ["two\nlines", "one\r\nX-More: two", "typographic\u2019", "\x00"])
def test_what_is_no_token_is_never_sent(token: str) -> None:
    with FakeApi() as api:
        client = connect(Options(host=api.url, api_key=token))
        with pytest.raises(OptionError, match="The token has a character that no token has") as told:
            client.request("list", SERVICES)
        assert token not in str(told.value)
        assert api.requests == []


def test_nobody_there_is_said_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ClusterError, match=rf"The API server {url} can't be reached \(Connection refused\)"):
            connect(Options(host=url)).request("list", SERVICES)


def test_a_proxy_is_used_and_named_where_it_fails(tmp_path: Path) -> None:
    with FakeApi() as proxy:
        for url, expected in (
            (proxy.url, None),
            (proxy.url.replace("//", "//me:p%40ss@"), "Basic bWU6cEBzcw=="),
        ):
            path = kubeconfig(tmp_path / "config", "http://198.18.0.1:6443", url)
            connect(Options(kubeconfig=path)).request("list", SERVICES)
            asked, headers = proxy.requests[-1]
            assert asked == "http://198.18.0.1:6443/api/v1/services"
            assert {name.lower(): value for name, value in headers.items()}.get("proxy-authorization") == expected
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{unused.getsockname()[1]}"
        for server in ("http://198.18.0.1:6443", "https://198.18.0.1:6443"):
            path = kubeconfig(tmp_path / "config", server, f"http://me:secret@{place}")
            with pytest.raises(ClusterError, match=rf"{server} can't be reached through the proxy {place} \(C") as told:
                connect(Options(kubeconfig=path)).request("list", SERVICES)
            assert "secret" not in str(told.value)


@pytest.mark.filterwarnings("ignore:SOCKS support")
def test_a_socks_proxy_without_the_library_for_it_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socks", None)
    path = kubeconfig(tmp_path / "config", "https://198.18.0.1:6443", "socks5://127.0.0.1:1080")
    with pytest.raises(OptionError, match="is a SOCKS proxy, which takes the Python library PySocks"):
        connect(Options(kubeconfig=path))


def test_a_server_that_says_nothing_is_not_waited_for_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ClusterError, match="does not answer in time"):
            connect(Options(host=url, timeout=0.05)).request("list", SERVICES)


def test_an_answer_that_is_cut_off_is_asked_for_again() -> None:
    def cut_off(handler: Handler, path: str, query: dict[str, str]) -> None:
        if len(handler.server.requests) > 2:
            handler.server.list_objects(handler, path, query)
            return
        handler.send_response(200)
        handler.send_header("content-length", "5000")
        handler.end_headers()
        handler.wfile.write(b'{"kind": "ServiceList", "metadata": {')
        handler.close_connection = True

    with FakeApi(play=cut_off) as api:
        assert json.loads(connect(Options(host=api.url)).request("list", SERVICES))["items"] == []
        assert len(api.requests) == 3


def test_a_token_is_not_carried_to_another_server() -> None:
    with FakeApi() as other:

        def elsewhere(handler: Handler, _path: str, _query: dict[str, str]) -> None:
            handler.answer(b"", 302, location=f"{other.url}/api/v1/services")

        with FakeApi(play=elsewhere) as api, pytest.raises(ClusterError, match="answers 302"):
            connect(Options(host=api.url, api_key="secret")).request("list", SERVICES)
        assert other.requests == []


def test_tls_to_a_server_without_is_explained() -> None:
    with FakeApi() as api:
        url = api.url.replace("http://", "https://")
        with pytest.raises(ClusterError, match="has no certificate that can be trusted"):
            connect(Options(host=url)).request("list", SERVICES)
