"""The token order of an image: counts against enumeration, indices against regions, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ixc.core.tiling import TILE, partition
from ixc.core.token_layout import SIDE, TILE_TOKENS, Kind, Layout, num_image_tokens
from ixc.errors import GeometryError

LAYOUTS = st.builds(
    Layout,
    grid_h=st.integers(1, 5),
    grid_w=st.integers(1, 5),
    tokens_per_side=st.sampled_from([1, 3, SIDE]),
    newline=st.booleans(),
    overview=st.booleans(),
)


@pytest.mark.parametrize(
    ("grid", "count"), [((1, 1), 313), ((1, 2), 457), ((3, 1), 625), ((2, 2), 757), ((3, 3), 1489), ((6, 9), 8005)]
)
def test_num_image_tokens_published_counts(grid: tuple[int, int], count: int) -> None:
    """Spec (e) and (a)."""
    assert num_image_tokens(*grid) == count


@pytest.mark.parametrize(("hd", "most"), [(9, 1561), (16, 2653), (25, 4057), (36, 5773), (55, 8737), (65, 10297)])
def test_num_image_tokens_most_of_an_hd(hd: int, most: int) -> None:
    """Spec (a), paper section 3.2: the worst case is one column of tiles."""
    grids = [(h, w) for h in range(1, hd + 1) for w in range(1, hd // h + 1)]
    assert max(num_image_tokens(h, w) for h, w in grids) == num_image_tokens(hd, 1) == most


@given(LAYOUTS)
def test_layout_has_num_tokens_kinds(layout: Layout) -> None:
    kinds = layout.kinds()
    assert len(kinds) == layout.num_tokens
    assert kinds == bytes(layout.token(index).kind for index in range(layout.num_tokens))
    assert kinds.count(Kind.LOCAL) == layout.grid_h * layout.grid_w * layout.tokens_per_side**2
    assert kinds.count(Kind.LOCAL_NEWLINE) == layout.newline * layout.rows
    assert kinds.count(Kind.SEPARATOR) == layout.overview
    assert layout.num_tokens == num_image_tokens(
        layout.grid_h,
        layout.grid_w,
        side=layout.tokens_per_side,
        newline=layout.newline,
        overview=layout.overview,
    )


def test_num_image_tokens_published_formula() -> None:
    assert TILE_TOKENS == 144
    for h, w in ((1, 1), (2, 7), (18, 3)):
        assert num_image_tokens(h, w) == (h * w + 1) * 144 + 1 + (h + 1) * 12


@given(LAYOUTS)
def test_layout_index_to_place_and_back(layout: Layout) -> None:
    for index in range(layout.num_tokens):
        token = layout.token(index)
        overview = token.kind < Kind.SEPARATOR
        if token.kind is Kind.SEPARATOR:
            assert layout.separator == index
        elif token.kind in (Kind.OVERVIEW_NEWLINE, Kind.LOCAL_NEWLINE):
            last = layout.tokens_per_side if overview else layout.cols
            assert layout.token_at(token.row, last - 1, overview=overview) + 1 == index
        else:
            assert layout.token_at(token.row, token.col, overview=overview) == index


@given(LAYOUTS)
def test_layout_index_to_pixels_and_back(layout: Layout) -> None:
    """The regions of the local tokens tile the canvas, and so do those of the overview."""
    area = {True: 0, False: 0}
    for index in range(layout.num_tokens):
        region = layout.region(index)
        if region is None:
            assert layout.token(index).kind not in (Kind.LOCAL, Kind.OVERVIEW)
            continue
        x0, y0, x1, y1 = region
        overview = index < layout.local_start
        area[overview] += (x1 - x0) * (y1 - y0)
        wide, high = x1 - x0, y1 - y0
        for x, y in ((x0, y0), (x1 - 1, y1 - 1)):
            assert layout.token_at(y // high, x // wide, overview=overview) == index
    canvas = layout.grid_h * layout.grid_w * TILE**2
    assert area == {False: canvas, True: canvas * layout.overview}


def test_layout_order_of_the_smallest() -> None:
    layout = Layout(grid_h=1, grid_w=2, tokens_per_side=1)
    assert list(layout.kinds()) == [
        Kind.OVERVIEW,
        Kind.OVERVIEW_NEWLINE,
        Kind.SEPARATOR,
        Kind.LOCAL,
        Kind.LOCAL,
        Kind.LOCAL_NEWLINE,
    ]
    assert layout.region(0) == (0, 0, 672, 336)
    assert layout.region(4) == (336, 0, 672, 336)


def test_layout_of_a_partition() -> None:
    part = partition(3840, 2160, hd=55)
    layout = Layout(grid_h=part.grid_h, grid_w=part.grid_w, newline=False, overview=False)
    assert (layout.rows, layout.cols, layout.num_tokens) == (72, 108, 7776)
    assert layout.separator is None


def test_layout_errors_name_both_numbers_and_the_remedy() -> None:
    layout = Layout(grid_h=1, grid_w=1, newline=False, overview=False)
    with pytest.raises(GeometryError, match=r"no token 144.*has 144.*use 0 \.\. 143"):
        layout.token(144)
    with pytest.raises(GeometryError, match=r"row 12, column 0.*12 x 12"):
        layout.token_at(12, 0)
    with pytest.raises(GeometryError, match="overview=True"):
        layout.token_at(0, 0, overview=True)
    with pytest.raises(GeometryError, match=r"337 px.*12 tokens.*use 336"):
        layout.region(0, tile=337)
    with pytest.raises(GeometryError, match=r"got 0 x 3"):
        Layout(grid_h=0, grid_w=3)
