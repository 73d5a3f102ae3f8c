"""Take screenshots of the web page for the documents: `python dev/page_pictures.py`; it starts a model and a browser.

docs/page.png                 light, two settings side by side, with attention maps
docs/page-dark-phone.png      dark, on a phone of 390 x 844 px
"""

from __future__ import annotations

import base64
import sys
import tempfile
import threading
import time
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import devtools  # noqa: E402
from PIL import Image  # noqa: E402

from ixc.inference.cost import read_geometry  # noqa: E402
from ixc.inference.engine import load  # noqa: E402
from ixc.inference.model_folder import find_folder  # noqa: E402
from ixc.serving.server import Server, listen  # noqa: E402
from ixc.serving.service import ChatService, ServiceConfig  # noqa: E402

COLOURS = 64
"""Colours of the screenshots: a page of text needs few, and the files stay small."""

PICTURE = ROOT / "examples" / "receipt.png"

DROP = """(() => {
  const bytes = Uint8Array.from(atob("%s"), (letter) => letter.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], "receipt.png", {type: "image/png"}));
  document.dispatchEvent(new DragEvent("drop", {dataTransfer: carried, bubbles: true, cancelable: true}));
})()"""


def until(tab: devtools.Page, expression: str) -> None:
    """Wait until a JavaScript expression is true."""
    end = time.monotonic() + 60
    while not tab.value(expression):
        assert time.monotonic() < end, f"not true within 60 s: {expression}"
        time.sleep(0.05)


def ask(tab: devtools.Page, question: str, *, usages: int) -> None:
    tab.value("document.querySelector('#question').focus()")
    tab.write(question)
    tab.value("document.querySelector('#form').requestSubmit()")
    until(tab, f"document.querySelectorAll('.usage').length >= {usages} && !document.querySelector('#ask').disabled")


def shoot(tab: devtools.Page, name: str) -> None:
    shot = base64.b64decode(tab.send("Page.captureScreenshot")["data"])
    with Image.open(BytesIO(shot)) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(ROOT / "docs" / name, optimize=True)
    print(name, (ROOT / "docs" / name).stat().st_size, "bytes")


def opened(tab: devtools.Page, url: str, *, width: int, height: int, phone: bool, scheme: str) -> None:
    tab.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
    tab.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    tab.open(url)
    tab.value(DROP % base64.b64encode(PICTURE.read_bytes()).decode())
    until(tab, "Boolean(document.querySelector('#plan').dataset.grid)")


def main() -> None:
    listening = listen("127.0.0.1", 0)
    service = ChatService(load(device="cpu"), ServiceConfig(name="nano", geometry=read_geometry(find_folder(None))))
    server = Server(service, drain_seconds=5)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    path = devtools.found()
    assert path, f"no browser: none of {', '.join(devtools.NAMES)} is on the path"
    with tempfile.TemporaryDirectory() as profile, devtools.browser(path, Path(profile)) as tab:
        opened(tab, url, width=1280, height=860, phone=False, scheme="light")
        tab.value("document.querySelector('#compare').click()")
        until(tab, "Boolean(document.querySelector('#plan-b').dataset.grid)")
        ask(tab, "What is the Total?", usages=2)
        ask(tab, "What is the title?", usages=4)
        tab.value("document.querySelector('.look').click()")
        until(tab, "document.querySelector('.look').getAttribute('aria-pressed') === 'true'")
        shoot(tab, "page.png")
        opened(tab, url, width=390, height=844, phone=True, scheme="dark")
        ask(tab, "What is the title?", usages=1)
        tab.value("document.querySelector('header').scrollIntoView()")
        shoot(tab, "page-dark-phone.png")
    server.should_exit = True
    thread.join(20)


if __name__ == "__main__":
    main()
