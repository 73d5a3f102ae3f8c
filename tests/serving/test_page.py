"""The page: what it is made of, and (slow) what a browser does with it, driven over the DevTools protocol."""

from __future__ import annotations

import re
from pathlib import Path

from ixc.serving.app import PAGE
from tests.serving.conftest import Running


def test_the_page_names_no_other_host() -> None:
    for path in PAGE.iterdir():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"https?://|//[a-z]+\.|@import|innerHTML|eval\(|\son[a-z]+=|style=", text), path.name


def test_its_files_are_served(server: Running) -> None:
    for path, kind in (("/", "text/html"), ("/page/page.css", "text/css"), ("/page/page.js", "text/javascript")):
        status, text, headers = server.call("GET", path)
        assert (status, headers["content-type"].split(";")[0]) == (200, kind)
        assert text == (PAGE / (Path(path).name or "index.html")).read_text(encoding="utf-8")


def test_the_plan_is_what_the_answer_uses(server: Running) -> None:
    status, plan, _ = server.call("GET", "/plan?width=400&height=300")
    assert (status, plan["hd"], plan["partition"], plan["grid_h"], plan["grid_w"]) == (200, 9, "native", 1, 2)
    one = server.call("GET", "/plan?width=400&height=300&hd=1&partition=original")[1]
    assert (one["tiles"], one["picture_box"][2] - one["picture_box"][0]) == (1, 336)
