"""A page as a picture for documents: an SVG image. No browser is needed to make it."""

from __future__ import annotations

import re
from html import unescape

from markupsafe import escape

WIDTH, HEIGHT = 1200, 1500
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_MAIN = re.compile(r"<main>.*</main>", re.DOTALL)


def picture(page: str, title: str) -> str:
    """The head of a report's page, as high as the picture is. The page must be well-formed XML within its
    `main` element, which is what an image may hold."""
    style, main = _STYLE.search(page), _MAIN.search(page)
    if style is None or main is None:
        raise ValueError("a page of driftline has a style and a main element")
    # the page's `body` is a `div` here, and its root the image
    css = re.sub(r"^body \{", ".page {", style[1], flags=re.MULTILINE).replace("&", "&amp;")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img">\n'
        f"<title>{escape(title)}</title>\n"
        f'<foreignObject width="{WIDTH}" height="{HEIGHT}">\n'
        f'<div xmlns="http://www.w3.org/1999/xhtml" class="page" '
        f'style="height: {HEIGHT}px; overflow: hidden">\n'
        f"<style>{css.replace('<', '&lt;')}</style>\n"
        f"{_as_xml(main[0])}\n"
        "</div>\n</foreignObject>\n</svg>\n"
    )


def _as_xml(main: str) -> str:
    """XML knows no `&nbsp;`, and wants a value for every attribute (`<details open>`)."""
    whole = re.sub(r'(<[a-z]+(?: [a-z-]+="[^"]*")*) ([a-z]+)(?=[ >])', r'\1 \2="\2"', main)
    return re.sub(r"&(?!amp;|lt;|gt;|quot;)[a-z]+;", lambda found: unescape(found[0]), whole)
