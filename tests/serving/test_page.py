"""The page: what it is made of, and (slow) what a browser does with it, driven over the DevTools protocol."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import devtools
import pytest
from talk import Running, wait

from ixc.inference.engine import Engine
from ixc.serving.app import PAGE


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


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[devtools.Page]:
    path = devtools.found()
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(devtools.NAMES)} is on the path")
    with devtools.browser(path, tmp_path / "profile") as found:
        yield found


DROP = """(() => {
  const bytes = Uint8Array.from(atob("%s"), (letter) => letter.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], "page.png", {type: "image/png"}));
  document.dispatchEvent(new DragEvent("drop", {dataTransfer: carried, bubbles: true, cancelable: true}));
})()"""


def until(tab: devtools.Page, expression: str, value: Any) -> None:
    wait(lambda: tab.value(expression) == value, seconds=60)


@pytest.mark.slow
def test_in_a_browser(server: Running, engine: Engine, page: Path, tab: devtools.Page, tmp_path: Path) -> None:
    """Drop a picture, see its grid, change HD and see the grid change, ask, read the answer, ask again."""
    tab.open(server.url)
    tab.value(DROP % base64.b64encode(page.read_bytes()).decode())
    until(tab, "document.querySelector('#plan').dataset.grid", "1x2")
    tab.value(
        "(() => { const e = document.querySelector('#hd'); e.value = 1; e.dispatchEvent(new Event('input')); })()"
    )
    until(tab, "document.querySelector('#plan').dataset.grid", "1x1")
    assert "1 × 1 = 1 tiles + overview" in tab.value("document.querySelector('#plan').textContent")

    tab.click("#question")
    tab.write("What is the title?")
    tab.click("#ask")
    until(tab, "document.querySelectorAll('.usage').length", 1)
    answer = engine.ask([page], "What is the title?", hd=1)
    assert tab.value("document.querySelector('.answered').firstChild.data") == answer.text
    assert f"{answer.prompt_tokens} tokens read" in tab.value("document.querySelector('.usage').textContent")

    tab.click("#question")
    tab.write("<b>What</b> is the date?")  # the page shows it as it was written
    tab.click("#ask")
    until(tab, "document.querySelectorAll('.usage').length", 2)
    again = engine.ask([page], "<b>What</b> is the date?", hd=1, history=[("What is the title?", answer.text)])
    assert tab.value("document.querySelectorAll('.answered')[1].firstChild.data") == again.text
    assert tab.value("document.querySelectorAll('#turns b').length") == 0

    shot = base64.b64decode(tab.send("Page.captureScreenshot")["data"])
    (tmp_path / "page.png").write_bytes(shot)
    assert len(shot) > 10_000
    asked = [address for address in tab.requests() if not address.startswith(("data:", "blob:", "about:"))]
    assert asked
    assert all(address.startswith(server.url) for address in asked), asked
    assert tab.complaints() == []
