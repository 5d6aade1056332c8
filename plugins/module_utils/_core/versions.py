# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The versions of the compilers: one changes whenever the same rules would give another program.

They stand apart, so that a run can tell that nothing has to be compiled without the code that compiles.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

IPTABLES = 1
NFTABLES = 1
