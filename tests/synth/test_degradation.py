"""Worn pictures: nothing by default, the same from the same seed, and worse the more is asked."""

import numpy as np
import pytest
from PIL import Image

from ixc.errors import UsageError
from ixc.nano.data.character_images import TextImageConfig, text_canvas
from ixc.synth.dataset_folder import write_folder
from ixc.synth.degradation import Degradation, degraded, maybe_degraded, random_degradation
from ixc.synth.page_sampling import compose
from ixc.synth.render import paint

PAGE = paint(compose(3, kind="form", hd=1))


def distance(wear: Degradation) -> float:
    other = degraded(PAGE, wear, seed=1)
    assert other.size == PAGE.size
    assert other.mode == "RGB"
    return float(np.abs(np.asarray(other, int) - np.asarray(PAGE, int)).mean())


def test_nothing_by_default() -> None:
    assert distance(Degradation()) == 0


@pytest.mark.parametrize(
    ("little", "much"),
    [
        (Degradation(jpeg=90), Degradation(jpeg=10)),
        (Degradation(blur=0.5), Degradation(blur=3)),
        (Degradation(noise=2), Degradation(noise=20)),
        (Degradation(shrink=0.8), Degradation(shrink=0.3)),
        (Degradation(turn=0.5), Degradation(turn=5)),
    ],
)
def test_more_is_worse(little: Degradation, much: Degradation) -> None:
    assert 0 < distance(little) < distance(much)


def test_the_same_seed_gives_the_same_noise() -> None:
    first, second, other = (degraded(PAGE, Degradation(noise=9), seed=s).tobytes() for s in (4, 4, 5))
    assert first == second != other


@pytest.mark.parametrize("bad", [{"jpeg": 0}, {"blur": -1}, {"noise": 99}, {"shrink": 0}, {"turn": 90}])
def test_a_number_out_of_range_is_refused_with_its_limits(bad: dict) -> None:
    with pytest.raises(UsageError, match=r"is -?\d+; use a number from"):
        Degradation(**bad)


def test_a_folder_of_worn_documents(tmp_path) -> None:
    out = tmp_path / "scans"
    *_, done = write_folder(out, count=2, seed=9, kind="invoice", hd=1, wear=Degradation(noise=20))
    plain = paint(compose(9, kind="invoice", hd=1))
    with Image.open(out / "000009-invoice.png") as image:
        assert image.size == plain.size
        assert image.tobytes() != plain.tobytes()
    assert done == 2


def test_wear_by_chance_is_within_limits_and_draws_nothing_at_zero() -> None:
    rng = np.random.default_rng(3)
    found = [random_degradation(rng) for _ in range(200)]
    assert {wear.jpeg is None for wear in found} == {True, False}
    assert Degradation() in found
    before = rng.bit_generator.state
    image = Image.new("RGB", (40, 30), "white")
    assert maybe_degraded(image, rng, 0.0) is image
    assert rng.bit_generator.state == before
    assert any(np.any(np.asarray(maybe_degraded(image, rng, 1.0)) != 255) for _ in range(20))


def test_canvases_are_dark_or_textured_where_the_lettering_says_so() -> None:
    def brightness(**shares: float) -> list[float]:
        lettering = TextImageConfig(scrambled=0.0, **shares)
        return [float(text_canvas(np.random.default_rng(n), lettering=lettering)[0].mean()) for n in range(12)]

    assert min(brightness()) > 130
    assert max(brightness(dark=1.0)) < 130
    plain, rough = (text_canvas(np.random.default_rng(5), lettering=TextImageConfig(textured=t))[0] for t in (0.0, 1.0))
    assert np.bincount(rough.reshape(-1)).max() < np.bincount(plain.reshape(-1)).max() / 2  # no one shade of paper
