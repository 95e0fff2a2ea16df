"""People's notes, in Markdown, as HTML that can do no harm.

markdown-it-py with HTML switched off: tags are shown as text, and links that run something are none. Images
are left out of it, since the page asks nobody for anything.
"""

from __future__ import annotations

from collections.abc import Mapping

_MOST_CHARACTERS = 20_000


def rendered(note: str) -> str:
    """A note as safe HTML; one longer than the page should hold is cut, and says so."""
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table").disable("image")
    cut = f"\n\n*… {len(note) - _MOST_CHARACTERS:,} characters more are in the database.*"
    text = note if len(note) <= _MOST_CHARACTERS else note[:_MOST_CHARACTERS] + cut
    # A note stands under the page's own headings, so none of its own outranks them.
    tokens = markdown.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 3)}"
        for inner in token.children or ():
            if inner.type == "link_open":
                inner.attrSet("rel", "noreferrer noopener")
    return str(markdown.renderer.render(tokens, markdown.options, {}))


def noted(notes: Mapping[int, str]) -> list[tuple[int, str]]:
    """Trials with a note, in number order, each as safe HTML."""
    return [(number, rendered(note)) for number, note in sorted(notes.items()) if note.strip()]
