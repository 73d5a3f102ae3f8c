"""The page: what it is made of, and (slow) what a browser does with it, driven over the DevTools protocol."""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import devtools
import pytest
from PIL import Image, ImageDraw
from talk import Running, data_url, image_part, text_part, wait

from ixc.inference.engine import Engine
from ixc.serving.web_ui import PAGE, PAGE_KINDS


def test_web_ui_names_no_other_host() -> None:
    for path in PAGE.iterdir():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"https?://|//[a-z]+\.|@import|innerHTML|eval\(|\son[a-z]+=|style=", text), path.name


def test_web_ui_files_are_served(server: Running) -> None:
    assert {path.name for path in PAGE.iterdir()} == {"index.html", *PAGE_KINDS}
    for path, kind in (("/", "text/html"), *((f"/page/{name}", kind) for name, kind in PAGE_KINDS.items())):
        status, text, headers = server.call("GET", path)
        assert (status, headers["content-type"].split(";")[0]) == (200, kind)
        assert text == (PAGE / (Path(path).name or "index.html")).read_text(encoding="utf-8")


def test_service_plan_is_what_the_answer_uses(server: Running) -> None:
    status, plan, _ = server.call("GET", "/plan?width=400&height=300")
    assert (status, plan["hd"], plan["partition"], plan["grid_h"], plan["grid_w"]) == (200, 9, "native", 1, 2)
    one = server.call("GET", "/plan?width=400&height=300&hd=1&partition=original")[1]
    assert (one["tiles"], one["picture_box"][2] - one["picture_box"][0]) == (1, 336)
    assert 0 < one["seconds"] < plan["seconds"]  # a guess from the start, before anything has been read


def looked(page: Path, said: str, **fields: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": [image_part(data_url(page.read_bytes())), text_part()]}]
    turns += [{"role": "assistant", "content": said}] if said else []
    continued = {"add_generation_prompt": False, "continue_final_message": True, "max_tokens": 1} if said else {}
    return {"model": "tiny", "messages": turns, **continued, **fields}


def test_service_attention_of_an_answer(server: Running, page: Path) -> None:
    """Route and shapes; the numbers are tested in `test_attention_maps`. A letter is a token of the tiny model."""
    status, found, _ = server.call("POST", "/attention", looked(page, "Delivery", hd=4))
    assert (status, found["answer_tokens"]) == (200, 8)
    (image,) = found["images"]
    rows = image["local"]
    assert (len(rows), len(rows[0])) == (12 * image["grid_h"], 12 * image["grid_w"])
    assert (len(image["overview"]), len(image["overview"][0])) == (12, 12)
    assert max(max(row) for row in (*rows, *image["overview"])) == 1
    assert 0 < image["tiles_share"] + image["overview_share"] < 1
    for each in image["boxes"]:
        left, top, right, bottom = each["box"]
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        assert 0 < each["share"] <= 1
    assert server.call("GET", "/v1/models")[1]["data"][0]["attention"] is True
    assert server.call("POST", "/attention", looked(page, ""))[0] == 400


def test_service_attention_needs_the_prefix_cache(engine: Engine, tiny_folder: Path, page: Path) -> None:
    from talk import running

    blind = Engine(model=engine.model, processor=engine.processor, prefix_cache=0)
    with running(blind, tiny_folder) as server:
        assert server.call("GET", "/v1/models")[1]["data"][0]["attention"] is False
        status, found, _ = server.call("POST", "/attention", looked(page, "x"))
    assert (status, found["error"]["code"]) == (501, "no_attention")


def pages(*words: str) -> bytes:
    """A PDF of pages of 3 x 2 inches."""
    out, drawn = BytesIO(), [Image.new("RGB", (600, 400), "white") for _ in words]
    for image, word in zip(drawn, words, strict=True):
        ImageDraw.Draw(image).text((40, 40), word, fill="black", font_size=60)
    drawn[0].save(out, "PDF", save_all=True, append_images=drawn[1:], resolution=200)
    return out.getvalue()


def asked(file: bytes, page: Any = 1) -> dict[str, Any]:
    return {"file": f"data:application/pdf;base64,{base64.b64encode(file).decode()}", "page": page}


def test_service_pdf_page(server: Running) -> None:
    pytest.importorskip("pypdfium2", reason="the extra pdf is not installed")
    status, found, _ = server.call("POST", "/pdf", asked(pages("One", "Two"), 2))
    assert (status, found["pages"], found["page"]) == (200, 2, 2)
    with Image.open(BytesIO(base64.b64decode(found["image"].split(",")[1]))) as image:
        assert image.size == (600, 400)
        assert image.convert("L").getextrema() == (0, 255)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"file": "data:image/png;base64,AA=="}, "no PDF"),
        ({"file": "data:application/pdf;base64,!!"}, "'!' at character 1 of 2"),
        (asked(b"no PDF"), "is no PDF"),
        (asked(b"%PDF-1.7\nbroken"), "cannot be read"),
        (asked(b"%PDF-", "1"), "a whole number"),
        ([1], "a JSON object is needed"),
    ],
)
def test_service_pdf_refusals(server: Running, body: Any, words: str) -> None:
    pytest.importorskip("pypdfium2", reason="the extra pdf is not installed")
    status, found, _ = server.call("POST", "/pdf", body)
    assert status == 400
    assert words in found["error"]["message"]
    assert "--" not in found["error"]["message"]


def test_service_pdf_without_the_extra(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    status, found, _ = server.call("POST", "/pdf", asked(b"%PDF-"))
    assert (status, found["error"]["message"]) == (
        400, "pypdfium2 is missing, which reads PDFs; pip install 'ixc-4khd[pdf]'"
    )  # fmt: skip


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


SET = "(() => {{ const e = document.querySelector('{0}'); e.value = {1}; e.dispatchEvent(new Event('input')); }})()"
CHECK = "document.querySelector('{0}').click()"


def ask(tab: devtools.Page, question: str) -> None:
    tab.click("#question")
    tab.write(question)
    tab.click("#ask")


@pytest.mark.slow
def test_web_ui_in_a_browser(server: Running, engine: Engine, page: Path, tab: devtools.Page) -> None:
    """Drop a picture, see its grid, change HD and see the grid change, ask, read the answer, ask again."""
    tab.open(server.url)
    tab.value(DROP % base64.b64encode(page.read_bytes()).decode())
    until(tab, "document.querySelector('#plan').dataset.grid", "1x2")
    tab.value(SET.format("#hd", 1))
    until(tab, "document.querySelector('#plan').dataset.grid", "1x1")
    words = tab.value("document.querySelector('#plan').textContent")
    assert re.search(r"1 × 1 = 1 tiles \+ overview, 313 tokens, about [\d.e-]+ s to read$", words), words

    ask(tab, "What is the title?")
    until(tab, "document.querySelectorAll('.usage').length", 1)
    answer = engine.ask([page], "What is the title?", hd=1)
    assert tab.value("document.querySelector('.answered').firstChild.data") == answer.text
    assert f"{answer.prompt_tokens} tokens read" in tab.value("document.querySelector('.usage').textContent")

    ask(tab, "<b>What</b> is the date?")  # the page shows it as it was written
    until(tab, "document.querySelectorAll('.usage').length", 2)
    again = engine.ask([page], "<b>What</b> is the date?", hd=1, history=[("What is the title?", answer.text)])
    assert tab.value("document.querySelectorAll('.answered')[1].firstChild.data") == again.text
    assert tab.value("document.querySelectorAll('#turns b').length") == 0
    assert "known already" in tab.value("document.querySelectorAll('.usage')[1].textContent")
    assert_requests_stay_on_the_server(tab, server)


def assert_requests_stay_on_the_server(tab: devtools.Page, server: Running) -> None:
    addresses = [address for address in tab.requests() if not address.startswith(("data:", "blob:", "about:"))]
    assert addresses
    assert all(address.startswith(server.url) for address in addresses), addresses
    assert tab.complaints() == []


@pytest.mark.slow
def test_web_ui_shows_tiles_overview_and_attention(server: Running, page: Path, tab: devtools.Page) -> None:
    """Zoom by keyboard and button, overview, where an answer looked, two settings side by side."""
    tab.open(server.url)
    tab.value(DROP % base64.b64encode(page.read_bytes()).decode())
    until(tab, "document.querySelector('#plan').dataset.grid", "1x2")
    width = "document.querySelector('#view').getBoundingClientRect().width"
    fitted = tab.value(width)
    tab.value("document.querySelector('#frame').focus()")
    for _ in range(3):
        tab.key("+")
    assert tab.value(width) > 1.8 * fitted
    assert tab.value("document.querySelector('#zoom-shown').textContent").endswith("%")
    tab.click("#zoom-fit")
    assert tab.value(width) == fitted
    assert tab.value("document.querySelector('#whole').getBoundingClientRect().width") == 0
    tab.click("#show-overview")
    assert tab.value("document.querySelector('#whole').getBoundingClientRect().width") > 100

    ask(tab, "What is the title?")
    until(tab, "document.querySelectorAll('.look').length", 1)
    warm = (
        "(() => { const v = document.querySelector('#view'); const k = document.createElement('canvas');"
        "[k.width, k.height] = [v.width, v.height]; const pen = k.getContext('2d', {willReadFrequently: true});"
        "pen.drawImage(v, 0, 0); const d = pen.getImageData(0, 0, k.width, k.height).data; let n = 0;"
        "for (let i = 0; i < d.length; i += 4) n += d[i] > d[i + 2] + 20; return n; })()"
    )
    tiles_alone = tab.value(warm)
    tab.click(".look")
    until(tab, "document.querySelector('.look').getAttribute('aria-pressed')", "true")
    assert tab.value(warm) > 5 * tiles_alone
    tab.click(".look")
    until(tab, warm, tiles_alone)

    tab.click("#compare")
    tab.value(SET.format("#hd-b", 1))
    until(tab, "document.querySelector('#plan-b').dataset.grid", "1x1")
    assert tab.value("document.querySelector('#plan').dataset.grid") == "1x2"
    ask(tab, "What is the date?")
    until(tab, "document.querySelectorAll('.usage').length", 3)
    settings = "[...document.querySelectorAll('[data-setting]')].map((e) => e.dataset.setting)"
    assert tab.value(settings) == ["HD-9 native", "HD-1 native"]
    assert_requests_stay_on_the_server(tab, server)


@pytest.mark.slow
def test_web_ui_pdf_in_a_browser(server: Running, tab: devtools.Page) -> None:
    pytest.importorskip("pypdfium2", reason="the extra pdf is not installed")
    tab.open(server.url)
    file = DROP.replace("page.png", "page.pdf").replace("image/png", "application/pdf")
    tab.value(file % base64.b64encode(pages("One", "Two")).decode())
    until(tab, "Boolean(document.querySelector('#plan').dataset.grid)", True)
    assert tab.value("document.querySelector('#page-count').textContent") == "2"
    tab.click("#page-on")
    until(tab, "document.querySelector('#page-number').value", "2")
    until(tab, "document.querySelector('#plan').textContent.startsWith('600 × 400 px')", True)
    assert_requests_stay_on_the_server(tab, server)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_web_ui_on_a_phone(server: Running, page: Path, tab: devtools.Page, scheme: str) -> None:
    """Nothing is wider than the screen, and fingers find the buttons; by keyboard alone an answer comes."""
    tab.send("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
    tab.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    tab.open(server.url)
    tab.value(DROP % base64.b64encode(page.read_bytes()).decode())
    until(tab, "document.querySelector('#plan').dataset.grid", "1x2")
    tab.click("#compare")
    assert tab.value("document.documentElement.scrollWidth") <= 390
    low = (
        "[...document.querySelectorAll('button')].filter((b) => b.offsetParent && b.offsetHeight < 40).map((b) => b.id)"
    )
    assert tab.value(low) == []
    tab.click("#compare")
    tab.value("document.querySelector('#question').focus()")
    tab.write("What is the title?")
    tab.send("Input.dispatchKeyEvent", type="keyDown", key="Enter", windowsVirtualKeyCode=13)
    until(tab, "document.querySelectorAll('.usage').length", 1)
    back = tab.value("getComputedStyle(document.body).backgroundColor")
    assert back == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 22, 26)"}[scheme]
    assert_requests_stay_on_the_server(tab, server)
