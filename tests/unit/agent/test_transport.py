# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What servicenet-agent asks a server for is what its settings say."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._agent import source
from ansible_collections.kubenode.servicenet.plugins.module_utils._agent.config import Config
from ansible_collections.kubenode.servicenet.plugins.module_utils._agent.transport import HttpTransport
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import OptionError, SnapshotError


class Listener(http.server.BaseHTTPRequestHandler):
    """Writes down what it is asked for."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """Its URL, and what it is asked for."""
    asked: list[str] = []
    listener = type("Own", (Listener,), {"asked": asked})
    with http.server.HTTPServer(("127.0.0.1", 0), listener) as made:
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}", asked
        made.shutdown()


@pytest.mark.parametrize(
    ("url", "path", "query", "wanted"),
    [
        ("", "", {}, "/"),
        ("/snapshot.jsonl.gz", "", {}, "/snapshot.jsonl.gz"),
        ("/s?X-Signature=a%2Bb&X-Expires=60", "", {}, "/s?X-Signature=a%2Bb&X-Expires=60"),
        ("/latest/", "", {}, "/latest/"),
        ("/cluster/", "/api/v1/services", {"limit": "500"}, "/cluster/api/v1/services?limit=500"),
        ("", "/api/v1/services", {}, "/api/v1/services"),
        ("/s\n", "", {}, "/s"),
    ],
)
def test_the_whole_url_is_asked_for(
    server: tuple[str, list[str]], url: str, path: str, query: dict[str, str], wanted: str
) -> None:
    where, asked = server
    assert HttpTransport(where + url, seconds=30)("GET", path, query, {}, None).status == 204
    assert asked == [wanted]


def test_a_signature_in_a_url_is_told_to_nobody(server: tuple[str, list[str]]) -> None:
    """What came of a run stands in a file that everybody may read."""
    where, _asked = server
    config = Config(source="url", url=f"{where}/s?X-Signature=secret")
    with pytest.raises(SnapshotError) as wrong:
        source.fetch(config)
    assert str(wrong.value) == f"{where}/s answers 204, and not with a snapshot."
    nobody = config._replace(url="http://127.0.0.1:1/s?X-Signature=secret")
    for ask in (source.fetch, source.reach):
        with pytest.raises(source.UnreachableError, match=r"^http://127.0.0.1:1/s can't be reached"):
            ask(nobody)


@pytest.mark.parametrize("token", ["secret\nmore", "secret\u00e9", "secret\x00"])
def test_what_no_token_is_is_refused_and_told_to_nobody(token: str) -> None:
    with pytest.raises(OptionError, match="The token has a character that no token has") as wrong:
        HttpTransport("https://127.0.0.1:1", token)
    assert "secret" not in str(wrong.value)


@pytest.mark.parametrize("wrong", ["{}/s?X-Signature=secret more", "{}/s?X-Signature=secret\u00e9"])
def test_a_url_with_a_character_that_no_url_has_is_refused(server: tuple[str, list[str]], wrong: str) -> None:
    where, asked = server
    config = Config(source="url", url=wrong.format(where))
    for ask in (source.fetch, source.reach):
        with pytest.raises(OptionError, match=f"^{where}/s is no URL") as said:
            ask(config)
        assert not isinstance(said.value, source.UnreachableError)
        assert "secret" not in str(said.value)
    assert not asked


@pytest.mark.parametrize(
    "url", ["https://me:secret@127.0.0.1:1/s", "127.0.0.1/s?X-Signature=secret", "ftp://me:secret@x/s"]
)
def test_a_url_that_is_refused_is_told_without_its_secret(url: str) -> None:
    with pytest.raises(OptionError) as wrong:
        HttpTransport(url)
    assert "secret" not in str(wrong.value)
    assert "127.0.0.1" in str(wrong.value) or "ftp://x/s" in str(wrong.value)
