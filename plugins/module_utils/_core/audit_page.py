# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of an audit as one page of HTML: no scripts, nothing loaded, and everything from outside escaped.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .audit import RIGHT, STATES

_STYLE = """
:root{color-scheme:light dark;--ink:#1b2330;--soft:#4d5a6b;--page:#f4f6f9;--card:#fff;--line:#d5dce5;--good:#0f6b3a;
--bad:#a81c1c;--tint:#fdeceb;--mint:#e6f5ec}
@media (prefers-color-scheme:dark){:root{--ink:#e8edf4;--soft:#aab6c5;--page:#11161d;--card:#1a212b;--line:#33404f;
--good:#6fdc9d;--bad:#ff9a91;--tint:#3a1d1d;--mint:#15301f}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,"DejaVu Sans",sans-serif;
overflow-wrap:anywhere}
main{max-width:72rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.25rem;margin:2.2rem 0 .8rem}h3{font-size:1.05rem;margin:0}
p{margin:.3rem 0}.soft{color:var(--soft)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.7rem;margin:1.2rem 0;padding:0;
list-style:none}
.tiles li,.card{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.8rem 1rem}
.tiles b{display:block;font-size:1.7rem;line-height:1.2}
.card{margin:0 0 .8rem}.card ul,td ul{margin:.2rem 0;padding-left:1.1rem}
.state{display:inline-block;padding:0 .6rem;border-radius:1rem;font-size:.85rem;font-weight:600}
.good{color:var(--good);background:var(--mint)}.bad{color:var(--bad);background:var(--tint)}
.head{display:flex;flex-wrap:wrap;gap:.3rem .8rem;align-items:center}
code{font:.88em/1.5 ui-monospace,"DejaVu Sans Mono",monospace}
table{width:100%;border-collapse:collapse;background:var(--card);border:1px solid var(--line)}
th,td{text-align:left;vertical-align:top;padding:.5rem .8rem;border-bottom:1px solid var(--line)}
thead th{color:var(--soft);font-size:.85rem}
@media (max-width:40rem){thead{position:absolute;left:-99rem}tr,th,td{display:block;border:0;padding:.2rem .8rem}
table,tbody{display:block}tbody tr{border-bottom:1px solid var(--line);padding:.5rem 0}
td::before{content:attr(data-label);display:block;color:var(--soft);font-size:.8rem}}
"""


def page(report: Mapping[str, Any], title: str) -> str:
    """The page of a report that ``audit.report`` made."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    summary = report["summary"]
    nodes, services = report["nodes"], report["services"]
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta http-equiv="Content-Security-Policy"',
            f"content=\"default-src 'none'; style-src 'sha256-{digest}'\">",
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>",
            f'<header><h1>{_text(title)}</h1><p class="soft">Made {_text(report["generated"])}</p></header>',
            '<section aria-labelledby="fleet"><h2 id="fleet">Fleet</h2><ul class="tiles">',
            *_tiles(summary),
            f"</ul>{_digests(summary['digests'])}</section>",
            '<section aria-labelledby="nodes"><h2 id="nodes">Nodes</h2>',
            *(_node(node) for node in sorted(nodes, key=lambda one: (STATES.index(one["state"]), one["name"]))),
            '</section>\n<section aria-labelledby="services"><h2 id="services">Services</h2>',
            _table(services) if services else '<p class="soft">No node told of a Service.</p>',
            "</section>\n</main>\n</body>\n</html>\n",
        ]
    )


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _tiles(summary: Mapping[str, Any]) -> Iterable[str]:
    counts = [("nodes", summary["nodes"]), *((f"nodes {state}", summary["states"][state]) for state in STATES)]
    counts += [("Services", summary["services"]), ("Services altered", summary["services_altered"])]
    for name, count in counts:
        if count or name in ("nodes", f"nodes {RIGHT}", "Services", "Services altered"):
            yield f"<li><b>{int(count)}</b>{_text(name)}</li>"


def _digests(digests: Sequence[str]) -> str:
    if len(digests) < 2:
        return ""
    shown = ", ".join(f"<code>{_text(digest[:12])}</code>" for digest in digests)
    return f'<p class="soft">The nodes hold {len(digests)} different snapshots: {shown}</p>'


def _node(node: Mapping[str, Any]) -> str:
    tone = "good" if node["state"] == RIGHT else "bad"
    facts = [node["mode"] and f"mode {_text(node['mode'])}"]
    if node["digest"]:
        age = "" if node["age_seconds"] is None else f", applied {_age(node['age_seconds'])} ago"
        facts.append(f"snapshot <code>{_text(node['digest'][:12])}</code>{age}")
        facts.append(f"{int(node['frontends'])} frontends")
    if node["probed"]:
        facts.append(f"{int(node['probed'])} probed")
    more = int(node["drift_count"]) - len(node["drift"])
    drift = [*node["drift"], *([f"and {more} more"] if more > 0 else [])]
    return "".join(
        [
            f'<article class="card"><div class="head"><h3>{_text(node["name"])}</h3>',
            f'<span class="state {tone}">{_text(node["state"])}</span></div>',
            f'<p class="soft">{" · ".join(filter(None, facts))}</p>' if any(facts) else "",
            f"<p>{_text(node['message'])}</p>" if node["message"] else "",
            _list("Altered on the node", drift),
            _list("Wanted by the snapshot and not programmed", node["missing"]),
            _list("Programmed and not wanted by the snapshot", node["surplus"]),
            _list("Does not answer every time", node["failing"]),
            "</article>",
        ]
    )


def _list(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return f"<p>{_text(title)}:</p><ul>{''.join(f'<li><code>{_text(line)}</code></li>' for line in lines)}</ul>"


def _table(services: Sequence[Mapping[str, Any]]) -> str:
    heads = ("Service port", "Frontends", "State", "Who answered")
    rows = "".join(
        f'<tr role="row"><th role="rowheader" scope="row">{_text(one["name"])}</th>'
        f'<td role="cell" data-label="{heads[1]}">{_lines(one["frontends"])}</td>'
        f'<td role="cell" data-label="{heads[2]}">{_state(one)}</td>'
        f'<td role="cell" data-label="{heads[3]}">{_lines(one["answers"]) or "not asked"}</td></tr>'
        for one in services
    )
    head = "".join(f'<th role="columnheader" scope="col">{name}</th>' for name in heads)
    return (
        f'<table role="table" aria-labelledby="services"><thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{rows}</tbody></table>'
    )


def _lines(lines: Sequence[str]) -> str:
    return "<br>".join(f"<code>{_text(line)}</code>" for line in lines)


def _state(service: Mapping[str, Any]) -> str:
    wrong = [f"{what} on {', '.join(service[key])}" for what, key in _WRONG if service[key]]
    if not wrong:
        return f'<span class="state good">{RIGHT}</span>'
    return "<br>".join(f'<span class="state bad">{_text(one)}</span>' for one in wrong)


_WRONG = (("altered", "altered_on"), ("not answering", "failing_on"))


def _age(seconds: int) -> str:
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{seconds} second{'' if seconds == 1 else 's'}"
