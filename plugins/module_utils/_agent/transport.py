# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP and HTTPS with the standard library alone, for nodes that have nothing from PyPI.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from typing import Mapping
from urllib.parse import SplitResult, urlencode, urlsplit

from .._cluster.client import Answer, ConnectionFailedError, header_value
from .._core.errors import OptionError


def shown(url: str) -> str:
    """A URL for everybody: a query may be a signature, and before the host may stand a password."""
    return re.sub("//[^/]*@", "//", url.partition("?")[0])


class HttpTransport:
    """Implements ``_cluster.client.Transport``; redirects are not followed, so a token never goes elsewhere.

    :param server: the URL of the server; a path in it begins every path, and a query in it every query.
    :param token: a bearer token, "" for none.
    :param ca_cert: a file with the certificates to trust, "" for those of the system.
    :param seconds: how long to wait for an answer.
    """

    def __init__(self, server: str, token: str = "", ca_cert: str = "", seconds: float = 30) -> None:
        server = server.strip()
        # The standard library would show all of the URL or of the token in its error.
        no_url = OptionError(f"{shown(server)} is no URL such as https://198.18.0.1:6443.")
        if not server.isascii() or not server.isprintable() or " " in server:
            raise no_url
        try:
            self._url: SplitResult = urlsplit(server)
            port = self._url.port
        except ValueError:
            raise no_url from None
        if self._url.scheme not in ("http", "https") or not self._url.hostname or port == 0:
            raise no_url
        if self._url.username is not None:
            raise OptionError(f"The URL of {shown(server)} has a user in it, whom the agent can't log in as.")
        if token and self._url.scheme != "https":
            raise OptionError(f"{shown(server)} is not https: the token would be readable on its way.")
        self._headers = {"Authorization": header_value(f"Bearer {token}")} if token else {}
        self._seconds = seconds
        self._context = None
        if self._url.scheme == "https":
            try:
                self._context = ssl.create_default_context(cafile=ca_cert or None)
            except (OSError, ssl.SSLError) as wrong:
                raise OptionError(
                    f"The file {ca_cert} of ca_cert holds no certificates that can be used: {wrong}."
                ) from None

    def _connection(self) -> http.client.HTTPConnection:
        host = self._url.hostname or ""
        if self._context is None:
            return http.client.HTTPConnection(host, self._url.port, timeout=self._seconds)
        return http.client.HTTPSConnection(host, self._url.port, timeout=self._seconds, context=self._context)

    def __call__(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        """One request on a connection of its own."""
        connection = self._connection()
        asked = "&".join(filter(None, (self._url.query, urlencode(query))))
        target = (self._url.path.rstrip("/") + path if path else self._url.path or "/") + (asked and f"?{asked}")
        try:
            connection.request(method, target, body, {**headers, **self._headers})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        except ssl.SSLCertVerificationError as failed:
            reason = f"has no certificate that can be trusted ({failed.verify_message}): give its CA with ca_cert"
            raise ConnectionFailedError(reason, False) from None
        except (ConnectionRefusedError, socket.gaierror) as failed:
            reason = f"can't be reached ({failed.strerror}): check its address, and that it runs"
            raise ConnectionFailedError(reason, False) from None
        except socket.timeout:
            raise ConnectionFailedError("does not answer in time: see whether it is overloaded", False) from None
        except (OSError, http.client.HTTPException) as failed:
            raise ConnectionFailedError(f"breaks the connection ({failed})", False) from None
        finally:
            connection.close()
