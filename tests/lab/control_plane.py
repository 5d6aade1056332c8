# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real control plane on loopback: etcd, kube-apiserver and, if asked, the controllers that keep endpoint records.

The Kubernetes programs are looked for in KUBE_APISERVER and KUBE_CONTROLLER_MANAGER, or below
~/.cache/servicenet/peers/bin (`make peers` builds them there); etcd is Debian's.
"""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.claim import Claim, LabError, kill_and_wait, sh

PEERS = Path.home() / ".cache" / "servicenet" / "peers" / "bin"
SERVICE_CIDRS = "10.96.0.0/12,fd00:10:96::/108"
CONTROLLERS = "endpoints-controller,endpointslice-controller,endpointslice-mirroring-controller"
CONNECTIONS = 16
# kube-apiserver closes a connection on which nothing was asked for 90 seconds.
IDLE = 60.0

# kind -> (path of its API group, name in paths, has a namespace)
KINDS = {
    "Namespace": ("/api/v1", "namespaces", False),
    "Node": ("/api/v1", "nodes", False),
    "ServiceAccount": ("/api/v1", "serviceaccounts", True),
    "Pod": ("/api/v1", "pods", True),
    "Service": ("/api/v1", "services", True),
    "Endpoints": ("/api/v1", "endpoints", True),
    "ConfigMap": ("/api/v1", "configmaps", True),
    "EndpointSlice": ("/apis/discovery.k8s.io/v1", "endpointslices", True),
    "ClusterRole": ("/apis/rbac.authorization.k8s.io/v1", "clusterroles", False),
    "ClusterRoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings", False),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles", True),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings", True),
}
# What keeps a port that is handed out, until a server has started and while it is started anew.
_kept_ports: list[socket.socket] = []
# What a server adds; it refuses or ignores these in a new object.
SERVER_FIELDS = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields")


def peer(variable: str, name: str) -> str:
    """The path of one of the real programs: from the environment, or where `make peers` leaves it."""
    path = os.environ.get(variable) or str(PEERS / name)
    if not os.access(path, os.X_OK):
        raise LabError(f"There is no {name} at {path}; build it with `make peers`, or set {variable}.")
    return path


def has_peers(*names: str) -> bool:
    """Whether these of the real programs have been built."""
    return all(os.access(PEERS / name, os.X_OK) for name in names) and bool(shutil.which("etcd"))


def free_port() -> int:
    """A TCP port of loopback that nobody uses, and that nobody gets as long as this process runs.

    Who means to listen on it may do so beside the socket that keeps it: with SO_REUSEADDR, as servers do.
    """
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    _kept_ports.append(sock)
    return int(sock.getsockname()[1])


class ApiError(Exception):
    """The API server said no. `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def path_of(kind: str, namespace: str = "", name: str = "") -> str:
    """The path of a collection, or of one object."""
    group, plural, namespaced = KINDS[kind]
    parts = [group, f"namespaces/{namespace}" if namespaced and namespace else "", plural, name]
    return "/".join(part for part in parts if part)


class Api:
    """As much of a Kubernetes client as tests need; every thread has a connection of its own."""

    def __init__(self, port: int, token: str) -> None:
        self.port, self.token = port, token
        self._threads = threading.local()

    def _connection(self) -> http.client.HTTPSConnection:
        if not hasattr(self._threads, "connection"):
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self._threads.connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=60)
        elif time.monotonic() - self._threads.used > IDLE:
            self._threads.connection.close()
        self._threads.used = time.monotonic()
        return self._threads.connection  # type: ignore[no-any-return]

    def text(self, path: str) -> str:
        """What the server says to a GET, as it is: its metrics are no JSON."""
        return self._request("GET", path).decode()

    def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """One request -> the answer's JSON; ApiError where the status says so, OSError without a server."""
        return json.loads(self._request(method, path, body, content_type))

    def _request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> bytes:
        connection = self._connection()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type}
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise ConnectionError(f"{method} {path}: {error}") from error
        if answer.status >= 400:
            try:
                message = json.loads(data)["message"]
            except (ValueError, KeyError, TypeError):
                message = data.decode(errors="replace")
            raise ApiError(answer.status, f"{method} {path}: {answer.status} {message}")
        return data

    def create(self, manifest: Mapping[str, Any]) -> Any:
        """Creates one object with its status; returns it as the server shows it, without managedFields."""
        metadata = {k: v for k, v in manifest["metadata"].items() if k not in SERVER_FIELDS}
        wanted = {k: v for k, v in manifest.items() if k != "status"} | {"metadata": metadata}
        kind, namespace = manifest["kind"], metadata.get("namespace", "")
        if KINDS[kind][2] and not namespace:
            namespace = metadata["namespace"] = "default"
        made = self.call("POST", path_of(kind, namespace), wanted)
        if manifest.get("status") and manifest["status"] != made.get("status"):
            made = self.patch(kind, namespace, metadata["name"], {"status": manifest["status"]}, "/status")
        made["metadata"].pop("managedFields", None)
        return made

    def patch(self, kind: str, namespace: str, name: str, change: Mapping[str, Any], subresource: str = "") -> Any:
        """Merges `change` into one object."""
        return self.call("PATCH", path_of(kind, namespace, name) + subresource, change, "application/merge-patch+json")

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Deletes one object."""
        self.call("DELETE", path_of(kind, namespace, name))

    def list(self, kind: str, namespace: str = "") -> list[Any]:
        """All objects of a kind, of one namespace or of all."""
        return list(self.call("GET", path_of(kind, namespace))["items"])

    def may(self, user: str, verb: str, group: str, resource: str, name: str = "") -> bool:
        """Whether the authorizer lets a user do this now: it learns of roles a moment after they were written."""
        resource, _slash, subresource = resource.partition("/")
        attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource, "name": name}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": attributes},
        }
        made = self.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        return bool(made["status"]["allowed"])

    def create_all(self, manifests: Iterable[Mapping[str, Any]], connections: int = CONNECTIONS) -> int:
        """Creates many, side by side: Namespaces and Nodes first. A Namespace that exists is fine. Returns how many."""
        manifests = list(manifests)
        count = len(manifests)
        for kinds in (("Namespace", "Node", "ClusterRole"), tuple(KINDS)):
            batch = [m for m in manifests if m["kind"] in kinds]
            manifests = [m for m in manifests if m["kind"] not in kinds]
            with concurrent.futures.ThreadPoolExecutor(connections) as pool:
                list(pool.map(self._create_if_new, batch))
        if manifests:
            raise LabError(f"The lab does not know the kind {manifests[0]['kind']}.")
        return count

    def _create_if_new(self, manifest: Mapping[str, Any]) -> None:
        try:
            self.create(manifest)
        except ApiError as error:
            if error.status != 409 or manifest["kind"] != "Namespace":
                raise

    def clear(self) -> None:
        """Removes all Services, endpoint records, Pods and Nodes; the server's own `kubernetes` Service stays."""
        for namespace in [n["metadata"]["name"] for n in self.list("Namespace")]:
            if namespace.startswith("kube-"):
                continue
            for kind in ("Pod", "Service", "EndpointSlice", "Endpoints"):
                for item in self.list(kind, namespace):
                    if (namespace, item["metadata"]["name"]) != ("default", "kubernetes"):
                        self.delete(kind, namespace, item["metadata"]["name"])
        self.call("DELETE", path_of("Node"))


class ControlPlane(Claim):
    """etcd and kube-apiserver on free loopback ports, everything they write in a directory of their own.

    :param users: names of users beside the administrator; they may do nothing until a role binding says so.
    :param controllers: run the endpoint controllers, too.
    """

    def __init__(
        self, users: Sequence[str] = ("reader", "nobody"), controllers: bool = False, prefix: str | None = None
    ) -> None:
        super().__init__(prefix)
        self.users, self.controllers = list(users), controllers
        self.port = 0
        self._etcd_url = ""
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def build(self) -> None:
        """Starts everything and waits until it answers."""
        sh("openssl", "genrsa", "-out", self.directory / "sa.key", "2048")
        tokens = [f"{self.token('admin')},admin,admin,system:masters\n"]
        tokens += [f"{self.token(user)},{user},{user}\n" for user in self.users]
        (self.directory / "tokens.csv").write_text("".join(tokens))
        self._etcd_url, peers = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
        self.port = free_port()
        self._processes["etcd"] = self.spawn(
            "etcd",
            os.environ.get("ETCD", "etcd"),
            "--data-dir",
            self.directory / "etcd",
            "--listen-client-urls",
            self._etcd_url,
            "--advertise-client-urls",
            self._etcd_url,
            "--listen-peer-urls",
            peers,
            "--initial-advertise-peer-urls",
            peers,
            "--initial-cluster",
            f"default={peers}",
            "--unsafe-no-fsync",
        )
        self.start_api()
        self._processes["relay"] = self.spawn(
            "relay", "socat", f"UNIX-LISTEN:{self.socket},fork", f"TCP:127.0.0.1:{self.port}"
        )
        if self.controllers:
            self.start_controllers()

    @property
    def socket(self) -> Path:
        """A UNIX socket that leads to the API server, for namespaces: see `Lab.reach`."""
        return self.directory / "api.sock"

    @property
    def api(self) -> Api:
        """A client with all rights."""
        return Api(self.port, self.token("admin"))

    @property
    def certificate(self) -> Path:
        """What a client must trust."""
        return self.directory / "certs" / "apiserver.crt"

    @staticmethod
    def token(user: str) -> str:
        """The bearer token of a user."""
        return f"{user}-token"

    def start_api(self, seconds: float = 300) -> None:
        """Starts kube-apiserver, on the same port with the same state each time, and waits until it answers.

        Its own Service is the last that it makes, some time after its first answer.
        """
        key = self.directory / "sa.key"
        process = self._processes["kube-apiserver"] = self.spawn(
            "kube-apiserver",
            peer("KUBE_APISERVER", "kube-apiserver"),
            f"--etcd-servers={self._etcd_url}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--cert-dir={self.directory}/certs",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--authorization-mode=RBAC",
            f"--token-auth-file={self.directory}/tokens.csv",
            f"--service-cluster-ip-range={SERVICE_CIDRS}",
            # There is no controller that would give each namespace its ServiceAccount.
            "--disable-admission-plugins=ServiceAccount",
        )
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and process.poll() is None:
            try:
                self.api.call("GET", path_of("Service", "default", "kubernetes"))
                # One that starts again has that Service at once, and its authorizer knows no role yet.
                self.api.text("/readyz")
                return
            except (OSError, ApiError, ValueError):
                time.sleep(0.2)
        raise LabError(f"The API server did not come up; it said: {self.log('kube-apiserver')}")

    def stop_api(self) -> None:
        """Ends kube-apiserver, as an outage does."""
        process = self._processes.pop("kube-apiserver")
        kill_and_wait([process.pid])
        process.wait()

    def start_controllers(self, max_endpoints: int = 100, lease: bool = False) -> None:
        """Starts kube-controller-manager with the endpoint controllers alone.

        :param max_endpoints: of a slice.
        :param lease: it holds one while it runs, as in a cluster; the next one then waits until that has expired.
        """
        self._processes["kube-controller-manager"] = self.spawn(
            "kube-controller-manager",
            peer("KUBE_CONTROLLER_MANAGER", "kube-controller-manager"),
            f"--controllers={CONTROLLERS}",
            f"--max-endpoints-per-slice={max_endpoints}",
            f"--leader-elect={str(lease).lower()}",
            "--secure-port=0",
            f"--kubeconfig={self.kubeconfig()}",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        )

    def kubeconfig(self, user: str = "admin", path: Path | None = None, server: str | None = None) -> Path:
        """Writes a kubeconfig that verifies the server's certificate, and returns its path.

        :param server: another address than the loopback one; its name is not verified then.
        """
        path = path or self.directory / f"{user}.kubeconfig"
        trust = {"insecure-skip-tls-verify": True} if server else {"certificate-authority": str(self.certificate)}
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "lab",
                    "clusters": [
                        {"name": "lab", "cluster": {"server": server or f"https://127.0.0.1:{self.port}"} | trust}
                    ],
                    "users": [{"name": user, "user": {"token": self.token(user)}}],
                    "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
                },
                indent=1,
            )
        )
        path.chmod(0o600)
        return path

    def log(self, name: str, lines: int = 5) -> str:
        """The last lines that one of the programs wrote."""
        return "\n".join((self.directory / f"{name}.log").read_text(errors="replace").splitlines()[-lines:])
