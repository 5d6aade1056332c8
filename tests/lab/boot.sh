#!/bin/sh
# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Becomes the first process of a machine (machine.py): in its own namespaces, it makes the machine's file system of the read-only ROOT and of
# what the machine wrote to DISK, and goes on as systemd. EXCHANGE is a directory that the machine sees at the same place as everybody else; SHARED are
# more of them, which it can't write to.
#
#     boot.sh ROOT DISK EXCHANGE [SHARED...]
set -eu
root=$1 disk=$2 exchange=$3
shift 3
new=$disk/mounted
mkdir -p "$disk/upper" "$disk/work" "$new"
mount --make-rprivate /
mount -t overlay -o "lowerdir=$root,upperdir=$disk/upper,workdir=$disk/work" servicenet-lab "$new"
mkdir -p "$new$exchange"
mount --bind "$exchange" "$new$exchange"
for shared; do
  mkdir -p "$new$shared"
  mount --bind "$shared" "$new$shared"
  mount -o remount,bind,ro "$new$shared"
done
mount -t tmpfs -o mode=755 servicenet-lab "$new/run"
# Of what all machines on this kernel share, nothing but its own network and its own control group can be changed here.
mount -t proc proc "$new/proc"
mount --bind "$new/proc/sys" "$new/proc/sys"
mount --bind "$new/proc/sys/net" "$new/proc/sys/net"
mount -o remount,bind,ro "$new/proc/sys"
[ ! -e "$new/proc/sysrq-trigger" ] || mount --bind /dev/null "$new/proc/sysrq-trigger"
mount -t sysfs -o ro sysfs "$new/sys"
mount -t cgroup2 cgroup2 "$new/sys/fs/cgroup"
mount -t tmpfs -o mode=755 servicenet-lab "$new/dev"
for device in null zero full random urandom tty; do
  : >"$new/dev/$device"
  mount --bind "/dev/$device" "$new/dev/$device"
done
mkdir "$new/dev/pts" "$new/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$new/dev/pts"
mount -t tmpfs servicenet-lab "$new/dev/shm"
ln -s pts/ptmx "$new/dev/ptmx"
ln -s /proc/self/fd "$new/dev/fd"
cd "$new"
pivot_root . run
umount -l /run
exec env -i container=servicenet-lab PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd </dev/null
