"""The page in a real browser, without a network: radar, filters by mouse, keyboard and address, tiles, the policy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import devtools
import pytest
from report_fakes import fake_run

from ixc.evals.report import write

pytestmark = pytest.mark.slow

SHOWN = "[...document.querySelectorAll('.card')].filter((c) => c.offsetParent)"
CASES = 16 * 6


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    write([fake_run(), fake_run("theirs", scores=(1.0, 0.5, 0.0, 1.0, 1.0, 1.0), skip=("mmvet",))], out=folder)
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[devtools.Page]:
    path = devtools.found()
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(devtools.NAMES)} is on the path")
    profile: Path = tmp_path_factory.mktemp("profile")
    with devtools.browser(path, profile) as tab:
        yield tab


def count(page: devtools.Page) -> int:
    return page.value(f"{SHOWN}.length")


def test_radar_is_drawn(page: devtools.Page, report: str) -> None:
    page.open(report)
    assert page.value("document.querySelectorAll('#radar .axis').length") == 16
    assert page.value("document.querySelectorAll('#radar .series').length") == 5
    assert page.value("document.querySelector('#radar').getBoundingClientRect().width") > 400
    assert page.value("document.querySelectorAll('#radar .run-0 .dot').length") == 15  # a rule scored MM-Vet: a gap


def test_radar_line_is_hidden_by_its_name(page: devtools.Page, report: str) -> None:
    page.open(report)
    page.click(".key[data-series=published-0]")
    assert page.value("document.querySelector('#radar .published-0').classList.contains('off')")
    page.click(".key[data-series=published-0]")
    assert not page.value("document.querySelector('#radar .published-0').classList.contains('off')")


def test_case_browser_filter_by_mouse(page: devtools.Page, report: str) -> None:
    page.open(report)
    whole = count(page)
    page.click(".verdict.wrong")
    wrong = count(page)
    assert 0 < wrong < whole
    assert page.value(f"{SHOWN}.every((c) => c.dataset.verdict === 'wrong')")
    assert page.value("location.hash") == "#verdict=wrong"
    assert page.value("document.getElementById('count').textContent") == f"{wrong} of {whole} cases"
    page.click(".verdict.all")
    assert count(page) == whole


def test_case_browser_filter_by_address(page: devtools.Page, report: str) -> None:
    page.open(f"{report}#wrong")
    assert page.value(f"{SHOWN}.every((c) => c.dataset.verdict === 'wrong')")
    page.open(f"{report}#verdict=right&task=chart&q=room+3")
    assert page.value(f"{SHOWN}.map((c) => c.dataset.task + c.dataset.verdict)") == ["chartright"] * 2
    page.open(f"{report}#nonsense&verdict=%FF&task=[")
    assert page.value("document.documentElement.dataset.ready") == "yes"


def test_case_browser_keyboard(page: devtools.Page, report: str) -> None:
    page.open(report)
    page.key("j")
    page.key("j")
    assert page.value("document.activeElement.id") == "case-1"
    page.key("k")
    assert page.value("document.activeElement.id") == "case-0"
    page.key("/")
    page.write("room 5")
    assert page.value("document.getElementById('find').value") == "room 5"
    assert 0 < count(page) < CASES


def test_case_browser_tiles_lie_over_the_pictures(page: devtools.Page, report: str) -> None:
    page.open(report)
    drawn = "document.querySelector('.card .tiles').getBoundingClientRect()"
    assert page.value(f"{drawn}.width") > 100
    shown = "document.querySelector('.card use').getBoundingClientRect()"
    assert page.value(f"{shown}.width") > 100
    page.click("#grid")
    assert page.value(f"{drawn}.width") == 0


def test_case_browser_pictures_are_decoded(page: devtools.Page, report: str) -> None:
    page.open(report)
    page.value(
        "window.got = 0; document.querySelectorAll('symbol image').forEach((i) => { const x = new Image(); "
        "x.onload = () => { window.got += x.naturalWidth > 0; }; x.src = i.getAttribute('href'); })"
    )
    every = page.value("document.querySelectorAll('symbol image').length")
    for _ in range(200):
        if page.value("window.got") == every:
            break
    assert every == 3  # shared by 186 cases
    assert page.value("window.got") == every


def test_report_requests_nothing_and_runs_no_text_of_a_model(page: devtools.Page, report: str) -> None:
    page.open(report)
    assert "owned" not in page.value("document.title")
    assert page.value("document.querySelectorAll('.card img, .card script').length") == 0
    left = [url for url in page.requests() if not url.startswith(("file:", "data:", "about:"))]
    assert left == []
    assert page.complaints() == []
    page.value("fetch('http://192.0.2.1/x').catch(() => {})")
    page.value("document.body.append(Object.assign(new Image(), {src: 'http://192.0.2.1/x.png'}))")
    refused = page.complaints()
    assert any("Content Security Policy" in line for line in refused)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_words_stand_out_in_light_and_dark(page: devtools.Page, report: str, scheme: str) -> None:
    page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.open(report)
    contrast = """(() => {
      const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).map((v) => { v /= 255;
        return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
      const of = (s, p) => light(getComputedStyle(document.querySelector(s))[p]);
      const back = {'.card': of('.card', 'backgroundColor'), body: of('body', 'backgroundColor')};
      return [['body', 'body', 'color'], ['.note', 'body', 'color'], ['.wrong .badge', '.card', 'color'],
        ['.right .badge', '.card', 'color'], ['.partly .badge', '.card', 'color'], ['td.ours', '.card', 'color'],
        ['nav a', 'body', 'color'], ['#radar .axis-figure', 'body', 'fill']].map(([s, on, p]) => {
          const a = of(s, p), b = back[on]; return [s, (Math.max(a, b) + .05) / (Math.min(a, b) + .05)]; });
    })()"""
    for name, ratio in page.value(contrast):
        assert ratio >= 4.5, (scheme, name, ratio)  # WCAG 2, level AA
