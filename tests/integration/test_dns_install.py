# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ways in which the role cluster_dns gets CoreDNS onto a node: from a URL, as a package, built there."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab import Lab
from lab.names import enter_place
from lab.playbooks import PlaybookRun
from lab.waiting import wait_until

INSTALLED = "/usr/local/lib/downloaded"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """One node, and the client outside."""
    with Lab(nodes=1, pods=0) as built:
        yield built


def install(lab: Lab, environment: Mapping[str, str] | None = None, *options: str, **variables: Any) -> PlaybookRun:
    """Runs the role's installation alone, for a program in a directory of its own."""
    own = {"cluster_dns_supervisor": "process", "cluster_dns_binary": f"{INSTALLED}/coredns"}
    role = {"name": "kubenode.servicenet.cluster_dns", "tasks_from": "install"}
    tasks = [{"ansible.builtin.include_role": role, "vars": own | variables}]
    path = lab.directory / "install.yml"
    play = {"hosts": "servicenet_nodes", "gather_facts": False, "tasks": tasks, "environment": dict(environment or {})}
    path.write_text(yaml.safe_dump([play]))
    lab.node("node-a").run(["mkdir", "-p", INSTALLED])
    return lab.playbook(str(path), {}, "--limit=node-a", *options, check=False)


@pytest.fixture(scope="module")
def releases(lab: Lab) -> Iterator[tuple[Path, str]]:
    """A directory at the client outside, and the URL by which nodes see what is in it."""
    directory = lab.directory / "releases"
    directory.mkdir()
    server = [sys.executable, "-m", "http.server", "--directory", str(directory), "8000"]
    process = lab.spawn("releases", *enter_place(lab.prefix, "client"), *server)
    url = f"http://{lab.client_ips[0][0]}:8000"
    wait_until(lambda: lab.http("node-a", f"{url}/")[0] == 200, "the server of releases")
    yield directory, url
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("version", "checksum", "said"),
    [
        ("1.14.7", "", ""),
        ("1.12.4", "", "CoreDNS 1.13.0 or later is needed"),
        ("1.14.7", "sha256:" + "0" * 64, "The checksum for"),
    ],
)
def test_a_download_is_checked(lab: Lab, releases: tuple[Path, str], version: str, checksum: str, said: str) -> None:
    """With a program that only says its version."""
    directory, url = releases
    lab.node("node-a").run(["rm", "-rf", INSTALLED, "/var/lib/servicenet/download"])
    (directory / "coredns").write_text(f"#!/bin/sh\necho CoreDNS-{version}\n")
    (directory / "coredns").chmod(0o755)
    archive = directory / "coredns.tgz"
    subprocess.run(["tar", "-czf", str(archive), "-C", str(directory), "coredns"], check=True)
    given = {
        "cluster_dns_install": "url",
        "cluster_dns_install_url": f"{url}/{archive.name}",
        "cluster_dns_install_checksum": checksum or f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}",
    }
    looked = install(lab, None, "--check", **given)
    assert (looked.failed["node-a"], looked.changed["node-a"]) == (0, 1), looked.output
    assert not lab.node("node-a").path(f"{INSTALLED}/coredns").exists()
    run = install(lab, **given)
    assert run.failed["node-a"] == (1 if said else 0), run.output
    assert said in re.sub(r"\s+", " ", run.output)
    assert lab.node("node-a").path(f"{INSTALLED}/coredns").exists() == (not checksum)
    log = (lab.directory / "releases.log").read_text()
    assert f'"GET /{archive.name} HTTP' in log


def test_a_program_that_is_not_there_is_refused_with_what_to_do(lab: Lab) -> None:
    lab.node("node-a").run(["rm", "-rf", INSTALLED])
    for options in ((), ("--check",)):
        run = install(lab, None, *options, cluster_dns_install_path="")
        assert run.failed["node-a"] == 1
        said = re.sub(r"\s+", " ", run.output)
        assert (
            f"{INSTALLED}/coredns does not run on this node (there is no such program). Set cluster_dns_install" in said
        )


def test_a_package_that_the_distribution_lacks_is_refused_with_what_to_do(lab: Lab) -> None:
    run = install(lab, cluster_dns_install="package", cluster_dns_install_package="coredns-that-nobody-packed")
    assert run.failed["node-a"] == 1
    said = re.sub(r"\s+", " ", run.output)
    assert "The package coredns-that-nobody-packed can't be installed" in said
    assert "set cluster_dns_install to url, path or go" in said


def test_a_build_on_the_node_serves(lab: Lab, full_figures: bool) -> None:
    """Compiles for minutes, where building the peer has left nothing in Go's cache."""
    if not full_figures:
        pytest.skip("building CoreDNS on a node is one of the full figures")
    go = shutil.which("go")
    if go is None:
        pytest.skip("there is no Go on this machine")
    # There is no way out of the lab: the modules come from this machine's cache, which the node sees.
    known = subprocess.run(
        [go, "env", "GOMODCACHE", "GOCACHE"], capture_output=True, text=True, check=True
    ).stdout.split()
    environment = {
        **dict(zip(("GOMODCACHE", "GOCACHE"), known, strict=True)),
        "GOPROXY": f"file://{known[0]}/cache/download",
        "GOFLAGS": "-trimpath",
        "GOSUMDB": "off",
        "GOTOOLCHAIN": "local",
    }
    other = lab.node("node-a")
    other.run(["rm", "-rf", INSTALLED])
    other.run(["ln", "-sf", go, "/usr/local/bin/go"])  # where the node's own path leads
    run = install(lab, environment, cluster_dns_install="go")
    assert run.failed["node-a"] == 0, run.output
    assert other.run([f"{INSTALLED}/coredns", "-version"]).stdout.startswith("CoreDNS-1.14.7\n")
    assert install(lab, environment, cluster_dns_install="go").changed["node-a"] == 0
