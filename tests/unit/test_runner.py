# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runner with a mode that is a dictionary: when it reads, what it writes in which order, and what it trusts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils import _runner as runner
from ansible_collections.kubenode.servicenet.plugins.module_utils._core import snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import (
    GuardError,
    NetlinkError,
    PreflightError,
    ServicenetError,
    SnapshotError,
    ToolError,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.passes import Changes, Program
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.preflight_model import Report
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.resolve import NodeView
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.settings import Settings
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.stale_flows import Flow
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.table import PortRules
from ansible_collections.kubenode.servicenet.plugins.module_utils._mode import ModeDefaults, Step
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import generation, udp_flows
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.runner import (
    MissingInKernelError,
    MissingToolError,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._runner import Outcome, Request

FRAME = "frame"


class Killed(BaseException):
    """Stands for SIGKILL: nobody catches it."""


class DictCompiler:
    """A container for each service port, its content a tuple of lines."""

    version = 1

    def compile(self, rules: Iterable[PortRules]) -> Program:
        return {
            f"{entry.family}/{entry.name}": tuple(f"{entry.name} to {b.address}" for b in entry.cluster.backends)
            for entry in rules
        }

    def contributors(self, _containers: Iterable[str]) -> list[bytes]:
        return []


class Node:
    """What stands on a node: a kernel, and flows of connection tracking."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kernel: Program = {}
        self.generation: int | None = 1
        self.reads = 0
        self.commits: list[str] = []
        self.flows: list[Flow] = []
        self.installed = True
        self.fails_at = self.killed_before = self.killed_after = 0
        # Nothing can be taken back.
        self.keeps = False
        self.report = Report((), (), ())

    def give(self, **services: list[str]) -> None:
        """A new snapshot: the names of Services and their endpoints."""
        objects: list[dict[str, Any]] = []
        for number, (name, addresses) in enumerate(sorted(services.items()), 10):
            ports = [{"name": "dns", "protocol": "UDP", "port": 53}]
            metadata = {"namespace": "shop", "name": name}
            spec = {"clusterIP": f"10.96.0.{number}", "clusterIPs": [f"10.96.0.{number}"], "ports": ports}
            labels = {"kubernetes.io/service-name": name}
            objects += [
                {"kind": "Service", "metadata": metadata, "spec": spec},
                {
                    "kind": "EndpointSlice",
                    "metadata": {**metadata, "labels": labels},
                    "addressType": "IPv4",
                    "ports": ports,
                    "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
                },
            ]
        self.path.write_bytes(snapshot.dump(build_snapshot(objects)))

    @property
    def path(self) -> Path:
        return self.directory / "snapshot.jsonl.gz"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    def request(self, **fields: Any) -> Request:
        return Request(
            "nftables",
            str(self.path),
            str(self.state),
            str(self.directory / "run"),
            lambda _snapshot: Settings(NodeView("node-a", families=(4,))),
            lambda _settings: DictMode(self),
            lambda _mode, _settings, _done: self.report,
            {},
        )._replace(**fields)

    def run(self, **fields: Any) -> Outcome:
        self.reads, self.commits = 0, []
        return runner.present(self.request(**{"max_removed_percent": 100, **fields}))

    def remove(self, **fields: Any) -> Outcome:
        self.reads, self.commits = 0, []
        return runner.absent(self.request(**fields), DictMode(self))

    def flush(self, left: Program | None = None) -> None:
        """Another firewall begins with taking everything away."""
        self.kernel = dict(left or {})
        self.generation = self.generation and self.generation + 1

    def files(self) -> dict[str, tuple[int, int]]:
        found = [path for path in self.directory.rglob("*") if path.is_file()]
        return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


class DictMode(ModeDefaults):
    """One transaction a container, in the order of their names."""

    name = "nftables"
    iptables_variant = ""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.compiler = DictCompiler()
        self.warnings: list[str] = []

    def token(self) -> str:
        return "" if self.node.generation is None else str(self.node.generation)

    def read(self) -> Program:
        if not self.node.installed:
            raise MissingToolError("dict", "Install the package dict.")
        self.node.reads += 1
        return dict(self.node.kernel)

    def frontends(self, _program: Program) -> list[Any]:
        return []

    def complete(self, changes: Changes, current: Program | None) -> Changes:
        if current is not None and current.get(FRAME) != ("jump",):
            changes[FRAME] = (current.get(FRAME), ("jump",))
        elif current is not None:
            changes.pop(FRAME, None)
        return changes

    def steps(self, changes: Changes) -> list[Step]:
        return [
            Step(f"dict {name}", json.dumps([name, new]), json.dumps([name, old]))
            for name, (old, new) in sorted(changes.items())
        ]

    def test(self, step: Step) -> None:
        if "refused" in step.text:
            raise ToolError(["dict", "--check"], 1, "refused")

    def apply(self, step: Step, undo: bool = False) -> None:
        node = self.node
        number = len(node.commits) + 1
        if not undo and number == node.fails_at:
            raise ToolError(["dict"], 1, "no memory")
        if undo and node.keeps:
            raise ToolError(["dict"], 4, "locked")
        if number == node.killed_before:
            raise Killed
        name, content = json.loads(step.undo if undo else step.text)
        node.kernel.pop(name, None)
        if content is not None:
            node.kernel[name] = tuple(content)
        node.commits.append(name)
        if node.generation is not None:
            node.generation += 1
        if number == node.killed_after:
            raise Killed

    def culprit(self, _error: ToolError, step: Step) -> str:
        _name, content = json.loads(step.text)
        return str(content[0]) if content else ""


@pytest.fixture(params=["with a generation", "without"])
def node(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """A node never touched, whose kernel tells whether it was changed, or not."""
    made = Node(tmp_path)
    made.generation = 1 if request.param == "with a generation" else None

    def forget(flows: Iterable[Flow]) -> None:
        for flow in list(flows):
            made.flows.remove(flow)

    monkeypatch.setattr(udp_flows.addresses, "interfaces", list)
    monkeypatch.setattr(udp_flows.conntrack, "udp_flows", lambda family: list(made.flows) if family == 4 else [])
    monkeypatch.setattr(udp_flows.conntrack, "delete", forget)
    return made


def wanted(**services: list[str]) -> Program:
    """What the kernel is to hold."""
    ports = {f"4/shop/{name}:dns": tuple(f"shop/{name}:dns to {a}" for a in hosts) for name, hosts in services.items()}
    return {FRAME: ("jump",), **ports}


OLD = {"api": ["10.128.0.1"], "web": ["10.128.0.2"], "www": []}
NEW: dict[str, list[str]] = {"api": ["10.128.0.3"], "web": ["10.128.0.2"], "www": ["10.128.0.4", "10.128.0.5"]}


def test_a_run_makes_what_is_wanted_and_a_second_one_writes_nothing(node: Node) -> None:
    node.give(**OLD)
    assert node.run().changed
    assert node.kernel == wanted(**OLD)
    before = node.files()
    again = node.run()
    assert (again.changed, again.before, again.after, node.commits) == (False, [], [], [])
    assert node.files() == before
    # Where the kernel tells that nothing changed, nobody looks.
    assert node.reads == (0 if node.generation else 1)


def test_only_what_differs_is_committed(node: Node) -> None:
    node.give(**OLD)
    node.run()
    node.give(**NEW)
    outcome = node.run()
    assert node.commits == ["4/shop/api:dns", "4/shop/www:dns"]
    assert outcome.facts["services_changed"] == ["shop/api", "shop/www"]
    assert outcome.facts["full_pass"] is False
    assert node.kernel == wanted(**NEW)
    assert not node.run().changed


def test_check_mode_tells_the_same_and_does_nothing(node: Node) -> None:
    node.give(**OLD)
    told = node.run(check=True)
    assert node.kernel == {}
    assert [path.name for path in node.directory.iterdir()] == ["snapshot.jsonl.gz"]
    done = node.run()
    assert (told.changed, told.before, told.after, told.facts) == (True, done.before, done.after, done.facts)
    node.give(**NEW)
    before = node.files()
    told = node.run(check=True)
    assert (node.files(), node.kernel) == (before, wanted(**OLD))
    done = node.run()
    assert (told.before, told.after, told.facts) == (done.before, done.after, done.facts)


def test_check_mode_has_the_tool_judge(node: Node) -> None:
    node.give(refused=["10.128.0.1"])
    with pytest.raises(ToolError):
        node.run(check=True)


def test_a_tool_that_is_not_there_yet(node: Node) -> None:
    node.give(**OLD)
    node.installed = False
    told = node.run(check=True)
    assert told.changed
    assert "In check mode the node counts as empty" in told.warnings[0]
    with pytest.raises(MissingToolError):
        node.run()
    assert not node.remove().changed


@pytest.mark.parametrize("when", ["killed_before", "killed_after"])
@pytest.mark.parametrize("number", [1, 2])
def test_the_run_after_a_kill_heals(node: Node, when: str, number: int) -> None:
    node.give(**OLD)
    node.run()
    node.give(**NEW)
    setattr(node, when, number)
    with pytest.raises(Killed):
        node.run()
    setattr(node, when, 0)
    outcome = node.run()
    assert outcome.drift == []  # it was us
    assert node.reads > 0
    assert node.kernel == wanted(**NEW)
    assert not node.run().changed


def test_the_run_after_a_kill_does_not_trust_what_it_finds(node: Node) -> None:
    """Half a run, then the cluster is as it was: without a look, the second half of the old would be missing."""
    node.give(**OLD)
    node.run()
    node.give(**NEW)
    node.killed_after = 1
    with pytest.raises(Killed):
        node.run()
    node.killed_after = 0
    node.give(**OLD)
    node.run()
    assert node.kernel == wanted(**OLD)


def test_the_run_after_a_kill_forgets_the_flows(node: Node) -> None:
    stays = Flow("10.128.0.9", 4001, "10.96.0.11", 53, "10.128.0.2", 53, 0)
    goes = Flow("10.128.0.9", 4000, "10.96.0.10", 53, "10.128.0.1", 53, 0)
    node.give(**OLD)
    node.run()
    node.flows = [stays, goes]
    node.give(**NEW)
    node.killed_after = 2
    with pytest.raises(Killed):
        node.run()
    node.killed_after = 0
    assert node.kernel == wanted(**NEW)
    assert not node.run().changed
    assert node.flows == [stays]


def test_flows_that_may_not_be_seen_are_a_warning(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_family: int) -> None:
        raise NetlinkError("list connection tracking", 1)

    monkeypatch.setattr(udp_flows.conntrack, "udp_flows", refuse)
    node.give(**OLD)
    outcome = node.run()
    assert node.kernel == wanted(**OLD)
    assert any("UDP clients may keep talking" in warning for warning in outcome.warnings)


def test_lines_for_people_are_made_where_somebody_wants_them(node: Node) -> None:
    node.give(**OLD)
    quiet = node.run(diff=False)
    assert (quiet.changed, quiet.before, quiet.after) == (True, [], [])
    node.remove()
    told = node.run()
    assert told.after
    assert told._replace(after=[]) == quiet


def test_what_was_committed_before_a_refusal_is_taken_back(node: Node) -> None:
    node.give(**OLD)
    node.run()
    node.give(**NEW)
    node.fails_at = 2
    with pytest.raises(ServicenetError, match=r"a rule of Service shop/www:dns .* nothing was changed: .*no memory"):
        node.run()
    assert node.kernel == wanted(**OLD)
    node.fails_at = 0
    assert node.run().changed
    assert node.kernel == wanted(**NEW)


def test_what_cannot_be_taken_back_hides_no_refusal(node: Node) -> None:
    node.give(**OLD)
    node.run()
    node.give(**NEW)
    node.fails_at, node.keeps = 2, True
    with pytest.raises(ServicenetError) as told:
        node.run()
    for part in ("a rule of Service shop/www:dns ", "no memory", "can't be taken back", "locked"):
        assert part in str(told.value)
    assert "nothing was changed" not in str(told.value)
    node.fails_at, node.keeps = 0, False
    assert node.run().changed
    assert node.kernel == wanted(**NEW)


def test_drift_is_named_and_repaired(node: Node) -> None:
    node.give(**OLD)
    node.run()
    node.kernel["4/shop/api:dns"] = ()
    node.generation = node.generation and node.generation + 1
    outcome = node.run()
    assert outcome.drift == ["shop/api:dns"]
    assert "shop/api:dns (altered on the node)" in outcome.before
    assert node.kernel == wanted(**OLD)
    assert node.run().drift == []


def test_a_generation_that_moved_for_others_is_remembered(node: Node) -> None:
    node.give(**OLD)
    node.run()
    node.generation = node.generation and node.generation + 1
    assert not node.run().changed
    assert node.reads == 1
    node.run()
    assert node.reads == (0 if node.generation else 1)


@pytest.mark.parametrize("first", [True, False])
def test_what_is_flushed_while_flows_are_forgotten_is_repaired(
    node: Node, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    """Another firewall starts meanwhile: that a node with many flows takes a while must not make its flush ours."""
    if not first:
        node.give(**OLD)
        node.run()
    node.give(**NEW)
    with monkeypatch.context() as during:
        during.setattr(udp_flows.conntrack, "udp_flows", lambda _family: node.flush() or [])
        node.run()
    assert node.kernel == {}
    node.run()
    assert node.kernel == wanted(**NEW)


@pytest.mark.parametrize("emptied", [{}, dict.fromkeys(wanted(**OLD), ())])
def test_what_is_flushed_before_the_run_looks_is_repaired(
    node: Node, monkeypatch: pytest.MonkeyPatch, emptied: Program
) -> None:
    read = DictMode.read

    def late(mode: DictMode) -> Program:
        if node.commits:
            node.flush(emptied)
        return read(mode)

    node.give(**OLD)
    with monkeypatch.context() as during:
        during.setattr(DictMode, "read", late)
        node.run()
    assert node.kernel == emptied
    assert {"shop/api:dns", "shop/web:dns"} <= {*node.run().drift}
    assert node.kernel == wanted(**OLD)


@pytest.mark.parametrize("broken", [b"", b"{", b"[1]", b'{"record": 1}', b"\xff\xfe"])
def test_a_broken_state_file_costs_a_look(node: Node, broken: bytes) -> None:
    node.give(**OLD)
    node.run()
    (node.state / "nftables.json").write_bytes(broken)
    outcome = node.run()
    assert (outcome.changed, outcome.drift, node.commits) == (False, [], [])
    assert node.reads > 0
    assert node.run().warnings == []


def test_a_lost_copy_of_the_snapshot_costs_a_look(node: Node) -> None:
    node.give(**OLD)
    node.run()
    (node.state / "nftables.jsonl.gz").write_bytes(b"broken")
    assert not node.run().changed
    node.give(**NEW)
    (node.state / "nftables.jsonl.gz").unlink()
    assert node.run().changed
    assert node.kernel == wanted(**NEW)


def test_the_guard_keeps_the_old_rules(node: Node) -> None:
    node.give(**OLD)
    node.run()
    before = node.files()
    node.give(api=["10.128.0.1"])
    after = node.files()
    with pytest.raises(GuardError):
        node.run(max_removed_percent=50)
    assert (node.kernel, node.commits) == (wanted(**OLD), [])
    assert {k: v for k, v in after.items() if k != str(node.path)} == {
        k: v for k, v in before.items() if k != str(node.path)
    }
    assert node.run(max_removed_percent=70).changed


def test_a_node_that_is_not_fit_is_left_alone(node: Node) -> None:
    node.give(**OLD)
    node.report = Report(("A kube-proxy runs.",), (), ())
    with pytest.raises(PreflightError, match="A kube-proxy runs"):
        node.run()
    assert node.kernel == {}
    assert not node.state.exists()


def test_a_node_of_broken_json_is_a_sentence(node: Node) -> None:
    line = b'{"kind":"Node","metadata":{"name":"node-a"},"spec":'
    digest = hashlib.sha256(line + b"\n").hexdigest()
    node.path.write_bytes(snapshot.dump(snapshot.Snapshot((line,), {"ready_endpoints": 0, "services": 0}, digest)))

    def settings(read: snapshot.Snapshot) -> Settings:
        read.node("node-a")
        return Settings(NodeView("node-a", families=(4,)))

    with pytest.raises(SnapshotError, match="a line that is no JSON"):
        node.run(settings=settings)
    assert node.kernel == {}


def test_absent_takes_everything_once(node: Node) -> None:
    node.give(**OLD)
    node.run()
    flow = Flow("10.128.0.9", 4000, "10.96.0.10", 53, "10.128.0.1", 53, 0)
    node.flows = [flow]
    told = node.remove(check=True)
    assert (told.changed, node.kernel, node.commits) == (True, wanted(**OLD), [])
    done = node.remove()
    assert (done.changed, done.before, done.after) == (True, told.before, told.after)
    assert (node.kernel, node.flows, list(node.state.iterdir())) == ({}, [], [])
    assert not node.remove().changed


def test_rules_of_a_kernel_that_tells_no_token_are_not_gone_with_their_tool(
    node: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As with iptables-legacy and IPVS. Another boot has them no more."""
    node.give(**OLD)
    node.generation = None
    node.run()
    node.installed = False
    with pytest.raises(MissingToolError):
        node.remove()
    assert node.kernel == wanted(**OLD)
    (tmp_path / "boot_id").write_text("another\n")
    monkeypatch.setattr(generation, "BOOT_ID", str(tmp_path / "boot_id"))
    assert node.remove().changed
    assert list(node.state.iterdir()) == []


def test_a_kernel_that_can_hold_none_of_it_has_nothing_to_lose(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_mode: DictMode) -> Program:
        raise MissingInKernelError(["dict"], 1, "Protocol not supported")

    monkeypatch.setattr(DictMode, "read", read)
    assert not node.remove().changed
    node.give(**OLD)
    with pytest.raises(ToolError, match="Protocol not supported"):
        node.run()


def test_absent_after_a_kill_goes_on(node: Node) -> None:
    node.give(**OLD)
    node.run()
    node.killed_after = 2
    with pytest.raises(Killed):
        node.remove()
    node.killed_after = 0
    assert node.remove().changed
    assert (node.kernel, list(node.state.iterdir())) == ({}, [])


def test_absent_removes_what_another_run_made_while_it_waited(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.give(**OLD)
    node.run()

    class Late(runner.Lock):
        def __enter__(self) -> runner.Lock:
            super().__enter__()
            node.kernel["4/shop/late:dns"] = ("shop/late:dns to 10.128.0.7",)
            return self

    monkeypatch.setattr(runner, "Lock", Late)
    node.remove()
    assert node.kernel == {}


def test_of_two_runs_that_repair_the_same_one_does(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have seen the flush, and one gets the lock first. A second time would add to a chain what is in it."""
    node.give(**OLD)
    node.run()
    node.flush()

    class Late(runner.Lock):
        def __enter__(self) -> runner.Lock:
            with monkeypatch.context() as other:
                other.setattr(runner, "Lock", runner.Lock.__mro__[1])
                assert node.run().changed
            node.commits = []
            return super().__enter__()

    with monkeypatch.context() as first:
        first.setattr(runner, "Lock", Late)
        outcome = node.run()
    assert (outcome.changed, node.commits, node.kernel) == (False, [], wanted(**OLD))
