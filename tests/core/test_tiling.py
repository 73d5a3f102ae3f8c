"""Properties every partition keeps, whatever the size, the budget and the rule; the published cases are in parity/."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ixc.core.tiling import AUTO, AUTO_MOST, RULES, TILE, Partition, check_budget, partition, resolve_hd
from ixc.errors import GeometryError

SIDES = st.integers(1, 12_000)
BUDGETS = st.integers(1, 84)
NAMES = st.sampled_from(sorted(RULES))


def partition_or_none(width: int, height: int, *, hd: int, rule: str, tile: int = TILE) -> Partition | None:
    """None only where the aspect ratio really is too long."""
    try:
        return partition(width, height, hd=hd, rule=rule, tile=tile)
    except GeometryError:
        assert max(width, height) / min(width, height) > tile * hd
        return None


@given(SIDES, SIDES, BUDGETS, NAMES, st.sampled_from([28, 224, TILE]))
def test_partition_sizes_add_up(width: int, height: int, hd: int, rule: str, tile: int) -> None:
    part = partition_or_none(width, height, hd=hd, rule=rule, tile=tile)
    if part is None:
        return
    assert 1 <= part.tiles <= hd
    assert part.pad_left + part.resized_width + part.pad_right == part.canvas_width == part.grid_w * tile
    assert part.pad_top + part.resized_height + part.pad_bottom == part.canvas_height == part.grid_h * tile
    assert min(part.resized_width, part.resized_height) >= 1
    # The odd pixel goes after, and no whole tile is padding.
    assert 0 <= part.pad_right - part.pad_left <= 1
    assert 0 <= part.pad_bottom - part.pad_top <= 1
    assert part.pad_left + part.pad_right < tile
    assert part.pad_top + part.pad_bottom < tile


@given(SIDES, SIDES, BUDGETS, NAMES)
def test_partition_of_a_portrait_is_its_landscape_transposed(width: int, height: int, hd: int, rule: str) -> None:
    one, other = (partition_or_none(*size, hd=hd, rule=rule) for size in ((width, height), (height, width)))
    if one is None or other is None:
        assert one is other
        return
    assert (one.grid_h, one.resized_height, one.pad_top, one.pad_bottom) == (
        other.grid_w,
        other.resized_width,
        other.pad_left,
        other.pad_right,
    )
    assert one.transposed == (width < height)


@given(SIDES, SIDES, BUDGETS)
def test_partition_original_pads_one_side_only(width: int, height: int, hd: int) -> None:
    part = partition_or_none(width, height, hd=hd, rule="original")
    if part is not None:
        assert part.resized_height == part.canvas_height if part.transposed else part.resized_width == part.canvas_width


@given(SIDES, SIDES, BUDGETS)
def test_partition_native_never_enlarges(width: int, height: int, hd: int) -> None:
    part = partition_or_none(width, height, hd=hd, rule="native")
    if part is None:
        return
    assert part.resized_width <= width
    assert part.resized_height <= height
    if -(-width // TILE) * -(-height // TILE) <= hd:
        assert (part.resized_width, part.resized_height) == (width, height)


@given(SIDES, SIDES, BUDGETS)
def test_partition_fit_keeps_at_least_the_pixels_of_original(width: int, height: int, hd: int) -> None:
    ours, theirs = (partition_or_none(width, height, hd=hd, rule=rule) for rule in ("fit", "original"))
    if ours is None or theirs is None:
        assert ours is theirs
    else:
        assert ours.pixels_kept >= theirs.pixels_kept


@given(st.integers(100, 12_000), st.integers(100, 12_000), BUDGETS, NAMES)
def test_partition_keeps_the_aspect_ratio(width: int, height: int, hd: int, rule: str) -> None:
    part = partition_or_none(width, height, hd=hd, rule=rule)
    if part is None:
        return
    scale = max(part.resized_width / width, part.resized_height / height)
    # One pixel of truncation, one of float64 rounding just under a whole number.
    assert abs(part.resized_width - scale * width) < 2
    assert abs(part.resized_height - scale * height) < 2


def test_partition_fit_uses_hd_better_on_documents() -> None:
    """Letter at 300 dpi, HD-55: the published rule leaves 13 of 55 tiles unused."""
    page = {"width": 2550, "height": 3300, "hd": 55}
    original, fit = partition(**page), partition(**page, rule="fit")
    assert (original.grid_h, original.grid_w, original.resized_width, original.resized_height) == (7, 6, 1817, 2352)
    assert fit.pixels_kept / original.pixels_kept > 1.1
    assert fit.pad_left + fit.pad_right + fit.pad_top + fit.pad_bottom > 0


@given(SIDES, SIDES, BUDGETS)
def test_partition_fit_keeps_the_most_of_all_scales(width: int, height: int, hd: int) -> None:
    part = partition_or_none(max(width, height), min(width, height), hd=hd, rule="fit")
    if part is None:
        return
    ratio = part.width / part.height
    sizes = [(336 * s, int(336 * s / ratio)) for s in range(1, hd + 1)]
    sizes += [(int(336 * s * ratio), 336 * s) for s in range(1, hd + 1)]
    assert part.pixels_kept == max(w * h for w, h in sizes if h and -(-w // TILE) * -(-h // TILE) <= hd)


def test_partition_huge_hd_is_fast() -> None:
    assert partition(3000, 4000, hd=10**9, rule="fit").tiles <= 10**9


def test_partition_enlarges_small_images_except_native() -> None:
    kept = {rule: partition(100, 50, hd=25, rule=rule).resized_width for rule in RULES}
    assert kept["native"] == 100
    assert kept["original"] == 2016
    assert kept["fit"] >= 2016


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"width": 336, "height": 336, "hd": 0}, ["at least 1", "got 0", "use 25"]),
        ({"width": 336, "height": 336, "hd": -1}, ["at least 1", "got -1", "use 25"]),
        ({"width": 336, "height": 336, "hd": 2.5}, ["at least 1", "got 2.5", "use 25"]),
        ({"width": 336, "height": 336, "hd": "9"}, ["at least 1", "got '9'", "use 25"]),
        ({"width": 0, "height": 5, "hd": 9}, ["1 x 1", "0 x 5"]),
        ({"width": 5, "height": -3, "hd": 9}, ["1 x 1", "5 x -3"]),
        ({"width": 40_000, "height": 10, "hd": 9}, ["4000 : 1", "3024 : 1", "hd >= 12"]),
        ({"width": 1, "height": 100_000, "hd": 55}, ["100000 : 1", "18480 : 1", "crop"]),
        ({"width": 9, "height": 9, "hd": 9, "rule": "best"}, ["'best'", "original, native, fit"]),
        ({"width": 9, "height": 9, "hd": 9, "tile": 0}, ["got 0", "336"]),
    ],
)
def test_partition_errors_name_both_numbers_and_the_remedy(call: dict, words: list[str]) -> None:
    with pytest.raises(GeometryError) as caught:
        partition(call.pop("width"), call.pop("height"), **call)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_partition_remedy_of_a_long_image_works() -> None:
    assert partition(40_000, 10, hd=12).tiles == 12


@pytest.mark.parametrize("rule", sorted(RULES))
def test_resolve_hd_is_the_smallest_that_keeps_the_pixels(rule: str) -> None:
    rng = random.Random(3)
    for _ in range(200):
        width, height = rng.randint(1, 3000), rng.randint(1, 3000)
        found = resolve_hd(AUTO, [(width, height)], rule=rule)
        assert 1 <= found <= AUTO_MOST

        def keeps(hd: int, size: tuple[int, int] = (width, height)) -> bool:
            try:
                part = partition(*size, hd=hd, rule=rule)
            except GeometryError:
                return False
            return part.resized_width >= size[0] and part.resized_height >= size[1]

        if found < AUTO_MOST:
            assert keeps(found)
        assert not any(keeps(hd) for hd in range(1, found))


def test_resolve_hd_of_several_images_is_that_of_the_largest() -> None:
    assert resolve_hd(AUTO, [(300, 300), (1000, 1400), (600, 300)], rule="native") == 15
    assert resolve_hd(AUTO, [], rule="native") == 1
    assert resolve_hd(4, [(1000, 1400)], rule="native") == 4
    assert resolve_hd(AUTO, [(9000, 9000)], rule="native") == AUTO_MOST
    with pytest.raises(GeometryError, match="no partition rule"):
        resolve_hd(AUTO, [(1, 1)], rule="golden")


@pytest.mark.parametrize("wrong", ["Auto", "", "9", 0, 257, 1.5, None])
def test_check_budget_refuses(wrong: object) -> None:
    with pytest.raises(GeometryError):
        check_budget(wrong)  # type: ignore[arg-type]
    check_budget(AUTO)
