"""Checks the documents: each link has a target, and each page is readable enough.

    python scripts/check_docs.py            # links
    python scripts/check_docs.py --reading  # and readability, which needs textstat (make docs installs it)

Readability is the Flesch reading ease of a page's sentences, from 0 to 100 (easy). Code, tables, headings and
figures do not count.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: Minimum reading ease of a page.
EASE = 50.0
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
    return [page for page in top if page.exists()] + sorted((ROOT / "docs").rglob("*.md"))


def without_code(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)


def anchors(text: str) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+?) *$", without_code(text), flags=re.M)
    found = set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    for heading in headings:
        words = re.sub(r"[^\w\- ]", "", LINK.sub(lambda link: link[0][1:].split("]")[0], heading).lower())
        anchor = words.replace(" ", "-")
        while anchor in found:
            anchor += "-1"
        found.add(anchor)
    return found


def broken_links(page: Path) -> Iterator[str]:
    """Links of a page to missing files, folders and headings of the repository."""
    for link in LINK.findall(without_code(page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists():
            yield f"{page.relative_to(ROOT)}: {link}: there is no {path}"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text()):
            yield f"{page.relative_to(ROOT)}: {link}: {target.name} has no heading #{anchor}"


def prose(text: str) -> str:
    """The sentences of a page, as plain text."""
    text = re.sub(r"<!--.*?-->", "", without_code(text), flags=re.S)
    text = re.sub(r"^ *(\||#|!\[|    ).*$", "", text, flags=re.M)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`", "it", text)
    text = re.sub(r"^ *([-*]|\d+\.) +", "\n", text, flags=re.M)
    return re.sub(r"[*_]|\([^()]*\d[^()]*\)", "", text)


def ease(page: Path) -> float:
    """The Flesch reading ease of a page; 100 without sentences."""
    from textstat import textstat

    words = prose(page.read_text())
    return textstat.flesch_reading_ease(words) if len(words.split()) > 50 else 100.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--reading", action="store_true", help="check readability, too")
    options = parser.parse_args()
    wrong = [sentence for page in pages() for sentence in broken_links(page)]
    if options.reading:
        for page in pages():
            name, value = str(page.relative_to(ROOT)), ease(page)
            print(f"{value:6.1f}  {name}")
            if value < EASE:
                wrong.append(f"{name}: reading ease {value:.1f}; write shorter sentences and plainer words")
    print("\n".join(wrong) or "all links are valid", file=sys.stderr if wrong else sys.stdout)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
