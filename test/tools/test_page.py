"""What comes from topics, labels and recordings is text in a page, and the page runs nothing."""

from __future__ import annotations

import re

from argus_ros.tools import page

HOSTILE = """</title><script>alert("x")</script><img src=x onerror='alert(1)'>&"""


def test_hostile_text_stays_text() -> None:
    body = [
        page.section(HOSTILE, page.table([(HOSTILE, HOSTILE)])),
        page.bullets([HOSTILE]),
        page.gallery([(HOSTILE, b"jpeg")]),
    ]
    made = page.whole(HOSTILE, body)
    assert "<script" not in made
    assert [tag for tag in re.findall(r"<img [^>]*>", made) if "data:image/jpeg;base64" not in tag] == []
    assert made.count("&lt;script&gt;") == 8


def test_the_page_may_load_and_run_nothing() -> None:
    made = page.whole("A run", [])
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', made)
    assert policy
    assert policy[1] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
