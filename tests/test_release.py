"""`dev/release.py` and the README's status line, with steps that take no time."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def script(name: str) -> ModuleType:
    """A file of dev/ as a module."""
    spec = spec_from_file_location(f"dev_{name}", ROOT / "dev" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[spec.name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool, figures = script("release"), script("figures")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository of two folders."""
    if shutil.which("git") is None:
        pytest.skip("git is not here")
    found = tmp_path / "project"
    for name in ("src", "tests"):
        (found / name).mkdir(parents=True)
        (found / name / "a.py").write_text("")
    (found / ".gitignore").write_text("*.pyc\n")
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"]):
        subprocess.run(["git", "-C", str(found), *command], check=True)
    return found


def fake(name: str, code: str, **more: Any) -> Any:
    """A step that runs a line of Python."""
    return tool.Step(
        name=name, title=name.title(), commands=((sys.executable, "-c", code),), **{"read": tool.read_line, **more}
    )


def prints(passed: int, failed: int = 0, *, end: int = 0) -> str:
    counts = {"passed": passed, "failed": failed, "skipped": 1, "versions": {"torch": "2.13.0"}}
    return f"print('line'); print({json.dumps(counts)!r}); raise SystemExit({end})"


def release(root: Path, steps: list[Any], *named: str, check: bool = False) -> tuple[int, dict[str, Any]]:
    """Exit code and what the file says."""
    file = root.parent / "release.json"
    code = tool.release(steps, named, check=check, root=root, file=file, logs=root.parent / "logs")
    return code, json.loads(file.read_text())["steps"]


def test_release_writes_results(root: Path) -> None:
    code, found = release(root, [fake("slow", f"import time; time.sleep(0.2); {prints(3)}"), fake("wheel", prints(2))])
    assert code == 0
    assert {name: entry["passed"] for name, entry in found.items()} == {"slow": 3, "wheel": 2}
    entry = found["slow"]
    assert (entry["failed"], entry["skipped"], entry["exit"], entry["stale"]) == (0, 1, 0, False)
    assert entry["versions"] == {"torch": "2.13.0"}
    assert entry["commit"] == tool.git("rev-parse", "--short", "HEAD", root=root)
    assert entry["seconds"] >= 0.2
    assert (root.parent / "logs" / "slow.log").read_text().startswith("line\n")


@pytest.mark.parametrize(
    "code",
    [prints(3, 1), prints(3, end=1), prints(0), "print('nothing of the kind')", "raise SystemExit(4)"],
    ids=["failed test", "failed command", "no test", "no result", "no tests begun"],
)
def test_release_red(root: Path, code: str) -> None:
    status, found = release(root, [fake("slow", code), fake("wheel", prints(2))])
    assert status == 1
    assert found["wheel"]["passed"] == 2, "a red step does not keep the others from running"
    assert tool.state(found["slow"], fake("slow", code), root=root) == "red"


def test_release_goes_on_with_what_is_not_green(root: Path, tmp_path: Path) -> None:
    """A red, a missing and a stale step run again; a green one only by its name."""
    count = f"open({str(tmp_path / 'count')!r}, 'a').write('x'); "
    green, red = fake("green", count + prints(1)), fake("red", prints(1, 1))
    assert release(root, [green, red], "green")[0] == 1, "red is missing"
    assert release(root, [green, red])[0] == 1
    assert (tmp_path / "count").read_text() == "x"
    code, found = release(root, [green, fake("red", prints(1))])
    assert code == 0
    assert found["red"]["failed"] == 0
    assert release(root, [green, red], "green")[0] == 0, "the other entry is kept"
    assert (tmp_path / "count").read_text() == "xx"


def test_release_stale(root: Path) -> None:
    """By the inputs of each step, committed or not."""
    slow, wheel = fake("slow", prints(1)), fake("wheel", prints(1), inputs=("src", "pyproject.toml"))
    release(root, [slow, wheel])
    (root / "tests" / "a.py").write_text("1")
    (root / "src" / "a.pyc").write_text("ignored")
    assert release(root, [slow, wheel], check=True)[0] == 0
    (root / "pyproject.toml").write_text("")
    code, found = release(root, [slow, wheel], check=True)
    assert (code, found["slow"]["stale"], found["wheel"]["stale"]) == (1, False, True)
    (root / "src" / "new.py").write_text("")
    code, found = release(root, [slow, wheel], check=True)
    assert (code, found["slow"]["stale"], found["wheel"]["stale"]) == (1, True, True)
    (root / "src" / "new.py").unlink()
    assert release(root, [slow, wheel])[0] == 0
    (root / "src" / "a.py").write_text("changed")
    code, found = release(root, [slow, wheel])
    assert (code, found["slow"]["modified"], found["slow"]["stale"]) == (0, True, False)


def test_release_broken_off_keeps_what_ended(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tool.stream

    def stream(command: list[str], *rest: Any, **more: Any) -> Any:
        if "second" in command[-1]:
            raise KeyboardInterrupt
        return before(command, *rest, **more)

    monkeypatch.setattr(tool, "stream", stream)
    steps = [fake("first", prints(1)), fake("second", "'second'")]
    with pytest.raises(KeyboardInterrupt):
        release(root, steps)
    code, found = release(root, steps, check=True)
    assert (code, found["first"]["passed"], found["second"]) == (1, 1, None)


def test_run_stops_at_the_first_command_that_fails(root: Path, tmp_path: Path) -> None:
    step = tool.Step(
        name="vllm",
        title="vLLM",
        commands=((str(tmp_path / "none"),), (sys.executable, "-c", prints(1))),
        read=tool.read_line,
    )
    code, found = release(root, [step])
    assert (code, found["vllm"]["exit"], found["vllm"]["passed"]) == (1, 127, 0)


def test_read_report_counts(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)  # options of this suite's own conftest, which those tests lack
    """Of a real run of pytest."""
    (root / "tests" / "test_it.py").write_text(
        "import pytest\n\n@pytest.mark.parametrize('n', range(5))\ndef test_good(n): pass\n"
        "def test_bad(): assert 0\ndef test_not_here(): pytest.skip('no GPU')\n"
        "@pytest.fixture\ndef broken(): raise OSError\ndef test_not_set_up(broken): pass\n"
    )
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", "--junitxml={report}")
    step = tool.Step(name="slow", title="slow tests", commands=(command,), read=tool.read_report)
    code, found = release(root, [step])
    entry = found["slow"]
    assert (code, entry["passed"], entry["failed"], entry["skipped"], entry["exit"]) == (1, 5, 2, 1, 1)
    assert entry["failures"] == ["tests.test_it::test_bad", "tests.test_it::test_not_set_up"]
    assert {"python", "torch", "transformers"} <= entry["versions"].keys()


def test_steps_of_a_release(tmp_path: Path) -> None:
    """What CI cannot run, each with a place in the file; an environment of vLLM is made where there is none."""
    first = {step.name: step for step in tool.steps(tmp_path)}
    assert first.keys() == {"slow", "vllm", "lowest", "newest", "wheel"}
    assert [command[0] for command in first["vllm"].commands] == ["sh", str(tmp_path / "bin" / "python")]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "vllm").touch()
    again = {step.name: step for step in tool.steps(tmp_path)}["vllm"].commands
    assert [command[:3] for command in again] == [
        (str(tmp_path / "bin" / "python"), "-m", "pip"),
        (str(tmp_path / "bin" / "python"), "-m", "pytest"),
    ]


@pytest.mark.parametrize(("arguments", "words"), [(["slwo"], "no step slwo"), (["slow", "--check"], "runs nothing")])
def test_main_refuses(arguments: list[str], words: str) -> None:
    done = subprocess.run(
        [sys.executable, "dev/release.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert words in done.stderr


def test_status_says_what_was_run_and_what_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry = {
        "title": "slow tests", "date": "2026-11-29", "commit": "abc", "modified": False, "stale": False, "exit": 0,
        "passed": 1234, "failed": 0, "skipped": 0, "versions": {"torch": "2.13.0", "numpy": "2.4"},
    }  # fmt: skip
    steps = {
        "slow": entry,
        "vllm": {**entry, "title": "vLLM", "failed": 2, "skipped": 3, "exit": 1, "stale": True},
        "wheel": {**entry, "title": "wheel", "passed": 0, "exit": 4, "modified": True, "versions": {}},
        "newest": None,
    }
    monkeypatch.setattr(figures, "RELEASE", tmp_path / "release.json")
    figures.RELEASE.write_text(json.dumps({"steps": steps}))
    assert figures.status().removeprefix("Status: ").removesuffix(".").split("; ") == [
        "slow tests 1,234 passed (torch 2.13.0) on 2026-11-29, commit abc",
        "vLLM 1,234 passed, **2 failed**, 3 skipped (torch 2.13.0) on 2026-11-29, commit abc, "
        "**before the code changed**",
        "wheel 0 passed, **ended with exit code 4** on 2026-11-29, commit abc with changes",
        "newest **not run**",
    ]


def test_readme_has_the_status_line() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"<!-- figures: status -->\n{figures.status()}\n<!-- end -->" in text
