# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests to an API server: each retried where that helps, and failing with a sentence on what is missing.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import OptionError, ServicenetError

from .resources import Resource

METHODS = {"get": "GET", "list": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}
ATTEMPTS = 6
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0
MAX_MESSAGE = 400


class ClusterError(ServicenetError):
    """An API server can't be used; ``status`` is its HTTP status, 0 if it gave none. ``unreachable``: it is down or
    overloaded, as far as one can tell, and what is wrong is not what was asked of it. ``causes``: the reasons that it
    gives by their names."""

    def __init__(self, message: str, status: int = 0, unreachable: bool = False, causes: Collection[str] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.unreachable = unreachable
        self.causes = causes


class ConnectionFailedError(Exception):
    """No answer came. The text is the end of a sentence; ``passing``: trying again may help."""

    def __init__(self, reason: str, passing: bool) -> None:
        super().__init__(reason)
        self.passing = passing


class Answer(NamedTuple):
    """What an API server said; the names of ``headers`` are in lower case."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class Transport(Protocol):
    """Sends one request."""

    def __call__(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes | None, /
    ) -> Answer:
        """Raises ``ConnectionFailedError`` if no answer comes."""


class Streams(Protocol):
    """Sends one request whose answer comes bit by bit."""

    def __call__(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str], /
    ) -> tuple[int, Iterator[bytes]]:
        """The status, as soon as it is there, and what follows. Raises ``ConnectionFailedError``, the iterator too."""


class Client:
    """An API server.

    :param transport: sends one request.
    :param server: its URL, for messages.
    :param sleep: waits for some seconds.
    :param streams: sends a request for a watch; without it there is no ``watch``.
    """

    def __init__(
        self,
        transport: Transport,
        server: str,
        sleep: Callable[[float], None] = time.sleep,
        streams: Streams | None = None,
    ) -> None:
        self._transport = transport
        self.server = server
        self._sleep = sleep
        self._streams = streams

    def watch(self, resource: Resource, namespace: str, version: str, seconds: int) -> Iterator[bytes]:
        """What happened since a resource version, for at most that many seconds, as bytes of JSON lines.

        The first item is empty and comes with the answer. Nothing is tried again; raises ``ClusterError``.
        """
        if self._streams is None:
            raise ClusterError(f"The API server {self.server} can't be watched by this client.")
        query = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        try:
            status, data = self._streams(resource.path(namespace), query, {"Accept": "application/json"})
            if status != 200:
                raise ClusterError(f"The API server {self.server} answers {status} to watch {resource.shown}.", status)
            yield b""
            yield from data
        except ConnectionFailedError as failed:
            raise ClusterError(f"The API server {self.server} {failed}.", 0, not failed.passing) from None

    def request(
        self,
        verb: str,
        resource: Resource,
        namespace: str = "",
        name: str = "",
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        """Does what ``verb`` (a verb of RBAC) says and returns the body of the answer; raises ``ClusterError``.

        429 is always tried again. 5xx and a broken connection are for reading only: a write may have been done.
        """
        headers = {"Accept": "application/json"}
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = json.dumps(body, separators=(",", ":")).encode()
        reading = METHODS[verb] == "GET"
        pause = FIRST_PAUSE
        for remaining in reversed(range(ATTEMPTS)):
            answer = None
            try:
                answer = self._transport(METHODS[verb], resource.path(namespace, name), query or {}, headers, data)
            except ConnectionFailedError as failed:
                if not (failed.passing and reading and remaining):
                    raise ClusterError(f"The API server {self.server} {failed}.", 0, True) from None
            else:
                if answer.status < 300:
                    return answer.data
                again = answer.status == 429 or (answer.status >= 500 and reading)
                if not (again and remaining):
                    raise self._refusal(answer, verb, resource, namespace)
            self._sleep(_retry_after(answer, pause))
            pause *= 2
        raise ClusterError(f"The API server {self.server} was asked {ATTEMPTS} times in vain.")

    def _refusal(self, answer: Answer, verb: str, resource: Resource, namespace: str) -> ClusterError:
        """The sentence for an HTTP status that is none of success."""
        said = _message(answer.data)
        where = f"in namespace {namespace}" if namespace else "in all namespaces" if resource.namespaced else ""
        action = " ".join(part for part in (verb, resource.shown, where) if part)
        if answer.status == 401:
            text = "does not accept the credentials (401): the token or the client certificate is wrong or has expired."
        elif answer.status == 403:
            text = f"forbids to {action} (403): grant the verb {verb} on the resource {resource.shown} to the user."
        elif answer.status == 404 and verb == "list" and resource.since:
            text = f"does not serve {resource.shown} (404): it must be {resource.since} or later."
        elif answer.status == 404 and verb == "list":
            text = f"does not serve {resource.shown} (404): the address is not that of a Kubernetes API server."
        elif answer.status == 429 or answer.status >= 500:
            text = f"can't {action} at the moment ({answer.status}), even after some pauses: try again later."
        else:
            text = f"answers {answer.status} to {action}."
        if said and answer.status != 401:
            text += f" It said: {said.rstrip('.')}."
        down = answer.status == 429 or answer.status >= 500
        return ClusterError(f"The API server {self.server} {text}", answer.status, down, _causes(answer.data))


def header_value(value: str) -> str:
    """Credentials without the line end that a file of a token has; raises ``OptionError`` for what no token is."""
    text = value.strip()
    if not (text.isascii() and text.isprintable()):
        raise OptionError("The token has a character that no token has: look for a line end or a quote inside it.")
    return text


def _message(data: bytes) -> str:
    """What a server says of a failure, on one line: the message of a Status object, or plain text; else ""."""
    try:
        status = json.loads(data)
    except (ValueError, RecursionError):
        message: object = data[:MAX_MESSAGE].decode(errors="replace")
    else:
        message = status.get("message") if isinstance(status, dict) else None
    said = " ".join(message.split())[:MAX_MESSAGE] if isinstance(message, str) else ""
    # A web page says nothing in a sentence.
    return said if said.isprintable() and not said.startswith("<") else ""


def _causes(data: bytes) -> list[str]:
    """The names of the reasons that a Status object gives."""
    try:
        return [str(cause["reason"]) for cause in json.loads(data)["details"]["causes"]]
    except (ValueError, RecursionError, KeyError, TypeError):
        return []


def _retry_after(answer: Answer | None, pause: float) -> float:
    """Seconds to wait: what the server asks for, else ``pause``, and never longer than LONGEST_PAUSE."""
    asked = answer.headers.get("retry-after", "") if answer else ""
    return min(float(asked) if asked.isdecimal() else pause, LONGEST_PAUSE)
