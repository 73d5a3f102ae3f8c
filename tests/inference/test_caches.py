"""Nothing computed twice: kept tile features are the fresh ones bit by bit; kept prefixes give the same answers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.overrides import TorchFunctionMode

from ixc.errors import UsageError
from ixc.inference import plora_merging, vision_cache
from ixc.inference.cost import read_geometry
from ixc.inference.engine import Engine, load
from ixc.inference.prefix_cache import PrefixCache, common_prefix_length, position_keys, preallocated_cache
from ixc.inference.sampling import Sampling
from ixc.inference.score_processors import LogprobRecorder
from ixc.inference.settings import RENAMED_PLORA
from ixc.inference.vision_cache import TileCache
from ixc.model.configuration import IxcVisionConfig
from ixc.model.modeling import IxcModel
from ixc.model.plora import PLoRALinear, merge_plora, spans_of
from ixc.model.vision import VisionTower

QUESTION = "What is the title?"
BEAMS = Sampling(num_beams=3)
SHORT: Any = {"hd": 1, "max_new_tokens": 4}
"""One tile, a few tokens: what is kept does not depend on how much it is."""


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return load(tiny_folder, device="cpu")


@pytest.fixture(scope="module")
def plain(tiny_folder: Path) -> Engine:
    """Keeps nothing."""
    return load(tiny_folder, device="cpu", tile_cache=0, prefix_cache=0)


@pytest.fixture
def seen(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many pictures each call of the tower got; the engine's stores start empty."""
    counts: list[int] = []
    handle = engine.model.model.vision_tower.register_forward_hook(lambda m, given, out: counts.append(len(given[0])))
    engine.generator.tiles.clear()
    engine.generator.prefixes.clear()
    yield counts
    handle.remove()


def noise(tiles: int, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (tiles, 3, 336, 336), dtype=torch.uint8, generator=generator)


@torch.inference_mode()
def test_tile_cache_features_are_fresh_ones_bit_by_bit(engine: Engine, seen: list[int]) -> None:
    model, cache = engine.model.model, TileCache()
    tiles, grids = noise(6), torch.tensor([[2, 3]])
    wanted = model.get_image_features(tiles, grids).pooler_output
    assert torch.equal(cache.features(model, tiles, grids).pooler_output[0], wanted[0])
    seen.clear()
    assert torch.equal(cache.features(model, tiles, grids).pooler_output[0], wanted[0])
    assert seen == []
    changed = tiles.clone()
    changed[4, 0, 100, 100] ^= 1
    wanted = model.get_image_features(changed, grids).pooler_output
    seen.clear()
    assert torch.equal(cache.features(model, changed, grids).pooler_output[0], wanted[0])
    assert sum(seen) == 2  # the tile and the overview


@torch.inference_mode()
@pytest.mark.parametrize("size", [1, 3, 4])
def test_encode_tiles_does_not_depend_on_the_batch(engine: Engine, size: int) -> None:
    pictures = torch.randn(5, 3, 336, 336, generator=torch.Generator().manual_seed(0))
    together = engine.model.model.encode_tiles(pictures, tiles_per_pass=size)
    for place in (4, 1):
        assert torch.equal(
            engine.model.model.encode_tiles(pictures[place : place + 1], tiles_per_pass=size)[0], together[place]
        )


@pytest.mark.slow
@torch.inference_mode()
def test_vision_tower_does_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    tower = VisionTower(IxcVisionConfig(num_hidden_layers=2)).eval()
    pictures = torch.randn(3, 3, 336, 336)
    together = torch.cat([tower(each) for each in pictures.split(1)])
    for place in (2, 0, 1):
        assert torch.equal(tower(pictures[place : place + 1])[0], together[place])


@torch.inference_mode()
def test_tile_cache_encodes_identical_tiles_once(engine: Engine, seen: list[int]) -> None:
    tiles = torch.full((6, 3, 336, 336), 255, dtype=torch.uint8)
    tiles[1] = 0
    features = TileCache(0).features(engine.model.model, tiles, torch.tensor([[2, 3]])).pooler_output
    assert sum(seen) == 3  # white, black, overview
    wanted = engine.model.model.get_image_features(tiles, torch.tensor([[2, 3]])).pooler_output
    assert torch.equal(features[0], wanted[0])


@torch.inference_mode()
def test_tile_cache_limit_in_bytes_and_eviction(engine: Engine, seen: list[int]) -> None:
    model = engine.model.model
    size = model.encode_tiles(torch.zeros(1, 3, 336, 336)).nbytes
    cache = TileCache(3 * size)
    cache.features(model, noise(1, seed=1), torch.tensor([[1, 1]]))
    cache.features(model, noise(1, seed=2), torch.tensor([[1, 1]]))
    assert cache.bytes == 3 * size
    seen.clear()
    cache.features(model, noise(1, seed=2), torch.tensor([[1, 1]]))
    assert seen == []
    cache.features(model, noise(1, seed=1), torch.tensor([[1, 1]]))
    assert sum(seen) == 1  # its overview had to go, its tile stayed


@torch.inference_mode()
def test_tile_cache_changed_weights_encode_again(engine: Engine, seen: list[int]) -> None:
    model, cache, grid = engine.model.model, TileCache(), torch.tensor([[1, 1]])
    before = cache.features(model, noise(1), grid).pooler_output[0]
    weight = model.vision_proj[0].bias
    with torch.inference_mode(False), torch.no_grad():
        weight += 1.0
        after = cache.features(model, noise(1), grid).pooler_output[0]
        weight -= 1.0
    assert not torch.equal(before, after)


def test_prefix_cache_second_question_prefills_new_tokens_only(
    engine: Engine, plain: Engine, page: Path, seen: list[int]
) -> None:
    assert engine.ask([page], QUESTION, **SHORT).text == plain.ask([page], QUESTION, **SHORT).text
    seen.clear()
    before = engine.generator.prefixes.tokens_reused
    answer = engine.ask([page], "How much is Tea?", **SHORT)
    assert seen == []
    assert engine.generator.prefixes.tokens_reused - before >= answer.image_tokens[0]
    assert answer.text == plain.ask([page], "How much is Tea?", **SHORT).text


def test_generate_hashes_the_tiles_of_a_request_once(
    engine: Engine, page: Path, seen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    real = vision_cache._tile_keys
    monkeypatch.setattr(vision_cache, "_tile_keys", lambda pixels: calls.append(len(pixels)) or real(pixels))
    engine.ask([page], QUESTION, **SHORT)
    engine.ask([page], "How much is Tea?", **SHORT)
    assert calls == [1, 1]


def test_prefix_cache_next_turn_and_other_pictures(engine: Engine, plain: Engine, page: Path, seen: list[int]) -> None:
    first = engine.ask([page], QUESTION, **SHORT)
    before = engine.generator.prefixes.tokens_reused
    history = [(QUESTION, first.text)]
    assert (
        engine.ask([page], "b", history=history, **SHORT).text == plain.ask([page], "b", history=history, **SHORT).text
    )
    assert engine.generator.prefixes.tokens_reused - before >= first.image_tokens[0]
    other = Image.new("RGB", (300, 200), "navy")
    for images in ([page, other], []):
        assert engine.ask(images, QUESTION, **SHORT).text == plain.ask(images, QUESTION, **SHORT).text


def test_prefix_cache_serves_beams(engine: Engine, plain: Engine, page: Path, seen: list[int]) -> None:
    beams: Any = {"sampling": BEAMS, **SHORT}
    for question in (QUESTION, "x"):
        assert engine.ask([page], question, **beams).text == plain.ask([page], question, **beams).text
    assert engine.ask([page], "x", **SHORT).text == plain.ask([page], "x", **SHORT).text


def test_engine_stream_and_generate_share_the_caches(
    engine: Engine, plain: Engine, page: Path, seen: list[int]
) -> None:
    wanted = plain.ask([page], QUESTION, **SHORT)
    assert "".join(engine.stream([page], QUESTION, **SHORT)) == wanted.text
    job, record = plain.preparer.prepare([page], QUESTION, hd=1, max_new_tokens=4), LogprobRecorder()
    found = engine.generate(job.inputs, max_new_tokens=4, logits_processor=[record])[0, job.prompt_tokens :].tolist()
    assert found == plain._generate(job, Sampling())[0, job.prompt_tokens :].tolist()
    assert [int(row.argmax()) for row in record.rows] == found
    assert abs(float(record.rows[0].exp().sum()) - 1) < 1e-4


def test_position_keys_keep_images_whole() -> None:
    spans, tokens = ((2, 6), (6, 9)), [4, 3]
    ids = [5, 6, 0, 0, 0, 0, 0, 0, 0, 7, 8]
    one = position_keys(ids, spans, [b"a" * 16, b"b" * 16], tokens)
    other = position_keys(ids, spans, [b"a" * 16, b"c" * 16], tokens)
    assert common_prefix_length(one, other) == 6
    assert common_prefix_length(one, one) == 11
    assert common_prefix_length(one, one[:8]) == 6
    assert common_prefix_length(one, one[:4]) == 2
    assert common_prefix_length(one, np.array([5, 9])) == 1


def test_prefix_cache_stays_under_its_limit() -> None:
    def filled(tokens: int) -> object:
        cache = preallocated_cache()
        cache.update(torch.zeros(1, 1, tokens, 4), torch.zeros(1, 1, tokens, 4), 0)
        return cache

    store = PrefixCache(12_000)
    for first in range(4):
        store.put(b"me", np.arange(first, first + 100), filled(100))  # pyright: ignore[reportArgumentType]
        assert store.bytes <= 12_000
    assert store.take(b"me", np.arange(0, 100)).get_seq_length() == 0  # gone
    assert store.take(b"you", np.arange(3, 103)).get_seq_length() == 0
    assert store.take(b"me", np.arange(3, 103)).get_seq_length() == 99  # one is left to be read


def test_load_refuses_wrong_cache_sizes_and_plora(tiny_folder: Path) -> None:
    with pytest.raises(UsageError, match="tile_cache is -1, at least 0"):
        load(tiny_folder, device="cpu", tile_cache=-1)
    with pytest.raises(UsageError, match="plora is 'x'; use one of separate, merged, auto"):
        load(tiny_folder, device="cpu", plora="x")
    with pytest.raises(UsageError, match="compiled steps keep none"):
        load(tiny_folder, device="cpu", prefix_cache=1, compile=True)
    with pytest.raises(UsageError, match="compiled steps use low-rank"):
        load(tiny_folder, device="cpu", plora="merged", compile=True)


def test_plora_merging_auto_merges_where_the_copy_fits(
    engine: Engine, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = read_geometry(tiny_folder)
    # 2 layers of (32 x 64 qkv, 32 x 32 out, 3 x 32 x 64) and 2,048 positions of one key head of 16, in float32
    need = 4 * (2 * (32 * 64 + 32 * 32 + 3 * 32 * 64) + 2 * 2 * 16 * 2048)
    assert plora_merging.merged_bytes_needed(sizes, engine.model) == need
    for free, wanted in ((need, True), (need - 1, False)):
        monkeypatch.setattr(plora_merging, "available_bytes", lambda device, free=free: free)
        assert plora_merging.should_merge("auto", tiny_folder, engine.model, compile=False) is wanted
        assert not plora_merging.should_merge("auto", tiny_folder, engine.model, compile=True)
    monkeypatch.setattr(plora_merging, "available_bytes", lambda device: 10 * need)
    monkeypatch.setattr(plora_merging, "is_plain", lambda part: False)
    assert not plora_merging.should_merge("auto", tiny_folder, engine.model, compile=False)


WAITING = tuple(getattr(torch.Tensor, name) for name in ("__bool__", "__int__", "item", "tolist", "nonzero", "cpu"))


class Waits(TorchFunctionMode):
    """Counts what would wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in WAITING
        return func(*args, **(kwargs or {}))


def test_plora_spans_of_rows_do_not_wait_for_the_device(engine: Engine) -> None:
    types = torch.zeros(2, 700, dtype=torch.long)
    types[0, 5:318], types[1, 300:613] = 1, 1
    ids = torch.where(types == 1, engine.model.config.image_token_id, 5)
    pixels, grids = noise(2), torch.tensor([[1, 1], [1, 1]])
    inputs = {"input_ids": ids, "mm_token_type_ids": types, "pixel_values": pixels, "image_grids": grids}
    with torch.inference_mode():
        given = engine.generator.encode_images(inputs)
        assert given["image_count"] == 626
        with Waits() as none:
            found = engine.model(**given, logits_to_keep=1).logits
        del given["image_count"]
        with Waits() as some:
            wanted = engine.model(**given, logits_to_keep=1).logits
    assert (none.count, some.count > 0) == (0, True)
    assert torch.equal(found, wanted)


def test_engine_model_is_an_ixc_model(engine: Engine) -> None:
    assert isinstance(engine.model.model, IxcModel)


@pytest.mark.parametrize(("old", "new"), RENAMED_PLORA.items())
def test_load_takes_the_old_names_of_plora(tiny_folder: Path, old: str, new: str) -> None:
    with pytest.warns(FutureWarning, match=f"'{old}' is now '{new}'"):
        engine = load(tiny_folder, device="cpu", plora=old)
    weights = [part.merged is not None for part in engine.model.modules() if isinstance(part, PLoRALinear)]
    assert set(weights) == {new == "merged"}


def test_merge_plora_gives_the_separate_answers(tiny_folder: Path, page: Path) -> None:
    low, merged = load(tiny_folder, device="cpu"), load(tiny_folder, device="cpu", plora="merged")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for one, other in zip(low.model.parameters(), merged.model.parameters(), strict=True):
            one.add_(torch.randn(one.shape, generator=generator) * 0.05)
            other.copy_(one)
    merge_plora(merged.model)
    inputs = dict(low.preparer.prepare([page], QUESTION, hd=1).inputs)
    given = {**inputs, "image_spans": spans_of(inputs.pop("mm_token_type_ids"))}
    with torch.inference_mode():
        wanted, found = low.model(**given).logits, merged.model(**given).logits
    # Another order of the same sums in float32, through two layers.
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))
    assert not torch.equal(found, wanted)
