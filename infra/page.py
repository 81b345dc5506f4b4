"""The frame of the HTML pages: self-contained, without scripts, nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib import resources


def framed(title: str, introduction: str, sections: Iterable[str]) -> str:
    """A whole page; `introduction` follows the title in its header, both of it and the sections are HTML."""
    style = resources.files("infra").joinpath("report.css").read_text("utf-8")
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{escape(title)} - driftline</title>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<style>{style}</style></head><body><main><header><p class=brand>driftline</p>"
        f"<h1>{escape(title)}</h1>{introduction}</header>{''.join(sections)}</main></body></html>\n"
    )
