# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All modes, for what works with whichever the node has. A module of one mode must not import this: it would ship all.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from . import _mode_iptables, _mode_ipvs, _mode_nftables, _mode_userspace
from ._services import Makers

MAKERS: Makers = {
    "iptables": _mode_iptables.make_mode,
    "nftables": _mode_nftables.make_mode,
    "ipvs": _mode_ipvs.make_mode,
    "userspace": _mode_userspace.make_mode,
}
