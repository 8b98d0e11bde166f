"""The page: a fixed skeleton, our own script and style, and the data as JSON. Nothing else is loaded.

Whatever a user named (a design, an axis, an error) is only ever data: the script writes it as text, never as
markup, and the content security policy runs no other script than this one and fetches nothing.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

SCRIPTS = (
    "dom.js",
    "model.js",
    "fronts.js",
    "scales.js",
    "panel.js",
    "panel_input.js",
    "parallel.js",
    "details.js",
    "controls.js",
    "table.js",
    "sections.js",
    "main.js",
)
DATA_ID = "segsweep-data"


def report_page(document: Mapping[str, Any]) -> str:
    """The whole file; ``document`` is what ``report_document`` gives."""
    script, style = _script(), _asset("report.css")
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"script-src '{_digest(script)}'; style-src '{_digest(style)}'"
    )
    parts = {
        "policy": policy,
        "title": html.escape(str(document["title"])),
        "style": style,
        "script": script,
        "data": _json_in_html(document),
        "fallback": _fallback(document["fallback"]),
    }
    page = _asset("page.html")
    head, *rest = page.split("{{")  # split first: what is filled in may hold braces
    return head + "".join(parts[name] + tail for name, _, tail in (part.partition("}}") for part in rest))


def _json_in_html(document: Mapping[str, Any]) -> str:
    """JSON that cannot end its script element, whatever the texts in it say."""
    shown = {key: value for key, value in document.items() if key != "fallback"}
    text = json.dumps(shown, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _fallback(table: Mapping[str, Any]) -> str:
    """The front as a plain table for readers without scripts."""

    def cells(kind: str, row: list[str]) -> str:
        return "<tr>" + "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in row) + "</tr>"

    rows = "".join(cells("td", row) for row in table["rows"])
    return f"<table><thead>{cells('th', table['header'])}</thead><tbody>{rows}</tbody></table>"


@functools.cache
def _script() -> str:
    body = "\n".join(_asset(name) for name in SCRIPTS)
    return f'\n(() => {{\n"use strict";\n{body}\n}})();\n'


@functools.cache
def _asset(name: str) -> str:
    return (files("segsweep.reporting.report") / "assets" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
