#!/bin/sh
# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The first process of a User Mode Linux (machine.py): mounts, loads what the modes and the lab need, runs the job, powers off.
# The kernel hands over UML_EXCHANGE, UML_MODULES and UML_PYTHON as variables.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /run/tmp /run/netns
ln -s "$UML_MODULES" /run/modules
for module in ip_vs ip_vs_rr ip_vs_wrr ip_vs_lc ip_vs_wlc ip_vs_sh ip_vs_dh ip_vs_sed ip_vs_nq ip_vs_mh dummy veth nf_conntrack_netlink \
  ip_set_hash_ip ip_set_hash_ipport ip_set_hash_netport ip_set_hash_ipportnet iptable_filter iptable_mangle iptable_nat ip6table_filter \
  ip6table_mangle ip6table_nat ipt_REJECT ip6t_REJECT xt_set xt_ipvs xt_conntrack xt_addrtype xt_mark xt_nat xt_MASQUERADE xt_bpf \
  xt_statistic xt_recent xt_tcpudp xt_sctp xt_comment xt_REDIRECT nf_tables nft_chain_nat nft_compat nft_ct nft_fib_ipv4 nft_fib_ipv6 nft_masq \
  nft_nat nft_numgen nft_redir nft_reject_ipv4 nft_reject_ipv6; do
  modprobe -d /run/modules "$module" || echo "there is no module $module"
done
ip link set lo up
"$UML_PYTHON" - "$UML_EXCHANGE" <<'PYTHON'
import ctypes, json, os, pathlib, subprocess, sys

exchange = pathlib.Path(sys.argv[1])
job = json.loads((exchange / "job.json").read_text())
with (exchange / "output").open("wb") as output:
    ended = subprocess.run(
        job["command"], cwd=job["directory"], env=job["environment"], stdin=subprocess.DEVNULL, stdout=output, stderr=output
    )
(exchange / "status").write_text(str(ended.returncode))
os.sync()
ctypes.CDLL(None).reboot(0x4321FEDC)
PYTHON
