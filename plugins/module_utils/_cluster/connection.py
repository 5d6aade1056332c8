# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How an API server is reached: the kubeconfig, an address with a token, or the service account of the Pod we run in.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import logging
import os
import re
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote, urlencode

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import OptionError

from .client import MAX_MESSAGE, Answer, Client, ConnectionFailedError, header_value

try:
    import kubernetes
    import kubernetes.config
    import urllib3
    import yaml
except ImportError:
    KUBERNETES_IMPORT_ERROR: str | None = traceback.format_exc()
else:
    KUBERNETES_IMPORT_ERROR = None

TOKEN_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/token"
POOL_SIZE = 8
LONGEST_TIMEOUT = 3600


class Options(NamedTuple):
    """The options of the same names; None where the user gives none."""

    kubeconfig: str | None = None
    context: str | None = None
    host: str | None = None
    api_key: str | None = None
    ca_cert: str | None = None
    validate_certs: bool = True
    timeout: float = 30.0


def check_timeout(options: Options) -> None:
    """Raises ``OptionError`` for a time that nobody can wait."""
    if not 0 < options.timeout <= LONGEST_TIMEOUT:
        raise OptionError(f"timeout must be from 1 to {LONGEST_TIMEOUT}, not {options.timeout:g}.")


def connect(options: Options) -> Client:
    """A client for the API server that the options name; no request is sent yet. Raises ``OptionError``."""
    check_timeout(options)
    configuration = _configuration(options)
    if not configuration.host.startswith(("https://", "http://")):
        raise _no_url(configuration.host)
    if options.ca_cert is not None:
        if not os.access(options.ca_cert, os.R_OK):
            raise OptionError(f"The file {options.ca_cert} of ca_cert can't be read.")
        configuration.ssl_ca_cert = options.ca_cert
        if hasattr(configuration, "ca_cert_data"):
            configuration.ca_cert_data = None
    if not options.validate_certs:
        configuration.verify_ssl = False
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    # Retries are the client's, which knows the server's answers; the pool must not multiply them.
    configuration.retries = False
    configuration.connection_pool_maxsize = POOL_SIZE
    try:
        _log_in_at_proxy(configuration)
        api = kubernetes.client.ApiClient(configuration)
    except (OSError, ValueError) as wrong:
        raise OptionError(f"The connection to {configuration.host} can't be set up: {wrong}.") from None
    except ImportError:
        raise OptionError(
            "The proxy of the API server is a SOCKS proxy, which takes the Python library PySocks."
        ) from None
    pool = _Pool(api, options)
    return Client(pool, configuration.host, streams=pool.stream)


def _without_user(host: str) -> str:
    """An address without a user and a password: nothing logs in by them, and every message shows the address."""
    return re.sub(r"(?s)\A(\w+://)?.*@", r"\1", host)


def _log_in_at_proxy(configuration: Any) -> None:
    """User and password of the proxy's URL as the header that it expects: the library leaves that to its caller."""
    url = str(configuration.proxy or "")
    known = urllib3.util.parse_url(url).auth if url.startswith(("http://", "https://")) else None
    if known and not configuration.proxy_headers:
        configuration.proxy_headers = urllib3.make_headers(proxy_basic_auth=unquote(known))


def _configuration(options: Options) -> Any:
    configuration = kubernetes.client.Configuration()
    if options.kubeconfig or options.context:
        _load_kubeconfig(configuration, options)
    elif options.host:
        configuration.api_key = {}
    elif os.path.exists(TOKEN_FILE) and os.environ.get("KUBERNETES_SERVICE_HOST"):
        try:
            kubernetes.config.load_incluster_config(client_configuration=configuration)
        except (kubernetes.config.ConfigException, OSError) as wrong:
            raise OptionError(f"The service account of this Pod can't be used: {wrong}.") from None
    else:
        _load_kubeconfig(configuration, options)
    host = _without_user(options.host.rstrip("/") if options.host else str(configuration.host))
    try:
        configuration.host = host
    except ValueError as wrong:
        raise _no_url(host, f" ({wrong})") from None
    return configuration


def _load_kubeconfig(configuration: Any, options: Options) -> None:
    path = options.kubeconfig or os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
    present = [part for part in path.split(os.pathsep) if part and os.access(os.path.expanduser(part), os.R_OK)]
    if not present:
        if options.kubeconfig or options.context:
            raise OptionError(f"The kubeconfig {path} can't be read.")
        raise OptionError(
            "Nothing says which API server to read: give kubeconfig, or host with api_key and ca_cert. "
            f"There is no {path}, and this is not a Pod with a service account."
        )
    complaints = _Complaints()
    logging.getLogger().addHandler(complaints)
    try:
        kubernetes.config.load_kube_config(
            config_file=path, context=options.context, client_configuration=configuration, persist_config=False
        )
    except (kubernetes.config.ConfigException, yaml.YAMLError, OSError, ValueError) as wrong:
        raise OptionError(f"The kubeconfig {path} can't be used: {' '.join(str(wrong).split())}.") from None
    except (TypeError, KeyError, AttributeError):
        raise OptionError(f"The kubeconfig {path} can't be used: it does not have the form of one.") from None
    finally:
        logging.getLogger().removeHandler(complaints)
    if complaints.texts and not (options.api_key or configuration.api_key or configuration.cert_file):
        said = " ".join(" ".join(complaints.texts).split())[:MAX_MESSAGE].rstrip(".")
        raise OptionError(f"The kubeconfig {path} can't be used: its user can't log in ({said}).")


class _Complaints(logging.Handler):
    """What the library only logs: that the program or the provider a user logs in by failed. It then goes on without
    credentials, and the server would forbid to somebody anonymous what the user may do."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


class _Pool:
    """Sends requests through the connection pool of the library; nothing of an answer is turned into model objects."""

    def __init__(self, api: Any, options: Options) -> None:
        self._configuration = api.configuration
        # Whenever the library is asked for a token it puts back the address that the kubeconfig has.
        self._host = str(api.configuration.host)
        self._pool = api.rest_client.pool_manager
        self._token = options.api_key
        self._timeout = urllib3.Timeout(connect=options.timeout, read=options.timeout)
        proxy = getattr(self._pool, "proxy", None)
        # Not its whole URL: that may have a password.
        self._way = f" through the proxy {proxy.host}:{proxy.port}" if proxy is not None else ""

    def __call__(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        try:
            response = self._request(method, path, query, headers, body)
            data = response.read()
            response.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as failed:
            raise _failure(failed, self._way) from None
        return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, data)

    def stream(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, Iterator[bytes]]:
        """``client.Streams``: a GET whose answer is handed on as it comes."""
        try:
            response = self._request("GET", path, query, headers, None)
        except (urllib3.exceptions.HTTPError, OSError) as failed:
            raise _failure(failed, self._way) from None
        return response.status, self._pieces(response)

    def _pieces(self, response: Any) -> Iterator[bytes]:
        try:
            # In chunks, as they are sent; what is not chunked ends at once, as an error does, or in one piece.
            yield from response.stream(1 << 16)
        except (urllib3.exceptions.HTTPError, OSError) as failed:
            raise _failure(failed, self._way) from None

    def _request(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes | None
    ) -> Any:
        url = self._host + path + (f"?{urlencode(query)}" if query else "")
        try:
            # redirect: credentials must not follow one to another server.
            return self._pool.request(
                method, url, headers={**headers, **self._credentials()}, body=body, timeout=self._timeout,
                preload_content=False, redirect=False,
            )  # fmt: skip
        except urllib3.exceptions.LocationValueError as wrong:
            # No server that is down: what was kept of one must not be used on for it.
            raise _no_url(self._host, f" ({_innermost(wrong)})") from None

    def _credentials(self) -> dict[str, str]:
        if self._token is not None:
            return {"authorization": header_value(f"Bearer {self._token}")}
        # Asking each time lets the library renew a token that has expired.
        settings = self._configuration.auth_settings().values()
        return {
            entry["key"]: header_value(entry["value"])
            for entry in settings
            if entry["in"] == "header" and entry["value"]
        }


def _no_url(host: object, reason: str = "") -> OptionError:
    return OptionError(f"host must be a URL such as https://198.18.0.1:6443, not {host!r}{reason}.")


def _failure(failed: BaseException, way: str) -> ConnectionFailedError:
    """What a failed request means to a user; ``way``: through which proxy it went."""
    errors = urllib3.exceptions
    reason = _innermost(failed)
    if isinstance(failed, errors.MaxRetryError) and failed.reason is not None:
        failed = failed.reason
    if isinstance(failed, errors.SSLError):
        return ConnectionFailedError(
            f"has no certificate that can be trusted ({reason}): give its CA with ca_cert, or the right host", False
        )
    if isinstance(failed, (errors.NewConnectionError, errors.ConnectTimeoutError, errors.ProxyError)):
        return ConnectionFailedError(f"can't be reached{way} ({reason}): check its address, and that it runs", False)
    if isinstance(failed, errors.TimeoutError):
        return ConnectionFailedError("does not answer in time: see whether it is overloaded, or raise timeout", True)
    return ConnectionFailedError(f"breaks the connection ({reason})", True)


def _innermost(failed: BaseException) -> str:
    """The error at the bottom: the one of the operating system or of TLS, without what wraps it."""
    while True:
        below = getattr(failed, "reason", None)
        if not isinstance(below, BaseException):
            below = failed.__cause__
        if below is None or below is failed:
            break
        failed = below
    text = failed.strerror if isinstance(failed, OSError) and failed.strerror else str(failed)
    return " ".join(str(text).split()).rstrip(".")
