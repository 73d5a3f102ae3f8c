"""Degradation: none by default, reproducible from the seed, and monotonous in its strength."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ixc.cli.main import app
from ixc.errors import UsageError
from ixc.nano.data.character_images import CharacterImageConfig, text_image
from ixc.synth.dataset_folder import write_folder
from ixc.synth.degradation import Degradation, degraded, maybe_degraded, random_degradation
from ixc.synth.page_sampling import compose
from ixc.synth.render import paint

PAGE = paint(compose(3, kind="form", hd=1))


def distance(degradation: Degradation) -> float:
    other = degraded(PAGE, degradation, seed=1)
    assert other.size == PAGE.size
    assert other.mode == "RGB"
    return float(np.abs(np.asarray(other, int) - np.asarray(PAGE, int)).mean())


def test_degraded_changes_nothing_by_default() -> None:
    assert distance(Degradation()) == 0


@pytest.mark.parametrize(
    ("little", "much"),
    [
        (Degradation(jpeg=90), Degradation(jpeg=10)),
        (Degradation(blur=0.5), Degradation(blur=3)),
        (Degradation(noise=2), Degradation(noise=20)),
        (Degradation(shrink=0.8), Degradation(shrink=0.3)),
        (Degradation(rotate=0.5), Degradation(rotate=5)),
    ],
)
def test_degraded_grows_with_its_strength(little: Degradation, much: Degradation) -> None:
    assert 0 < distance(little) < distance(much)


def test_degraded_is_reproducible() -> None:
    first, second, other = (degraded(PAGE, Degradation(noise=9), seed=s).tobytes() for s in (4, 4, 5))
    assert first == second != other


@pytest.mark.parametrize("bad", [{"jpeg": 0}, {"blur": -1}, {"noise": 99}, {"shrink": 0}, {"rotate": 90}])
def test_degradation_refuses_numbers_out_of_range(bad: dict) -> None:
    with pytest.raises(UsageError, match=r"is -?\d+; use a number from"):
        Degradation(**bad)


def test_write_folder_degrades_images(tmp_path) -> None:
    out = tmp_path / "scans"
    *_, done = write_folder(out, count=2, seed=9, kind="invoice", hd=1, degradation=Degradation(noise=20))
    plain = paint(compose(9, kind="invoice", hd=1))
    with Image.open(out / "000009-invoice.png") as image:
        assert image.size == plain.size
        assert image.tobytes() != plain.tobytes()
    assert done == 2


def test_maybe_degraded_draws_nothing_at_zero() -> None:
    rng = np.random.default_rng(3)
    found = [random_degradation(rng) for _ in range(200)]
    assert {degradation.jpeg is None for degradation in found} == {True, False}
    assert Degradation() in found
    before = rng.bit_generator.state
    image = Image.new("RGB", (40, 30), "white")
    assert maybe_degraded(image, rng, 0.0) is image
    assert rng.bit_generator.state == before
    assert any(np.any(np.asarray(maybe_degraded(image, rng, 1.0)) != 255) for _ in range(20))


def test_text_image_dark_and_textured_shares() -> None:
    def brightness(**shares: float) -> list[float]:
        text_images = CharacterImageConfig(scrambled=0.0, **shares)
        return [float(text_image(np.random.default_rng(n), text_images=text_images)[0].mean()) for n in range(12)]

    assert min(brightness()) > 130
    assert max(brightness(dark=1.0)) < 130
    plain, rough = (
        text_image(np.random.default_rng(5), text_images=CharacterImageConfig(textured=t))[0] for t in (0.0, 1.0)
    )
    assert np.bincount(rough.reshape(-1)).max() < np.bincount(plain.reshape(-1)).max() / 2  # no one shade of paper


def test_synth_accepts_turn_with_a_note(tmp_path: Path) -> None:
    """The old spelling of --rotate: the same pixels, and one line on stderr."""
    common = ["-n", "1", "--kind", "form", "--hd", "1"]
    old = CliRunner().invoke(app, ["synth", str(tmp_path / "old"), *common, "--turn", "2.0"])
    new = CliRunner().invoke(app, ["synth", str(tmp_path / "new"), *common, "--rotate", "2.0"])
    assert (old.exit_code, new.exit_code) == (0, 0)
    assert "--rotate" in old.stderr
    assert "note" not in new.stderr
    before, after = ((tmp_path / name / "000000-form.png").read_bytes() for name in ("old", "new"))
    assert before == after
