# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The versions of what computes: one changes whenever the same rules would give another program, or the same objects
another snapshot.

They stand apart, so that a run can tell that nothing has to be computed without the code that does it.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

IPTABLES = 2
NFTABLES = 1
SNAPSHOT = 1
