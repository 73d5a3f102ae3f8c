"""What the tower saw, kept: features of tiles by the bytes of their pixels.

    uint8 tiles --blake2b--> keys --known?--> features kept
                                  --else----> normalise -> IxcModel.encode_tiles -> features, kept
    features -> assemble with newline and separator -> ImageFeatures

Identical tiles (white margins, a screenshot with one changed region, the same image in the next turn) are seen once.
The overview is known by the bytes of all its tiles and their grid. Keys hold the model's identity too, so that weights
changed in place or moved are never mixed with what was seen before. The tower takes passes of one shape, each picture's
features independent of the others in it, so that a kept feature equals a fresh one bit by bit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b
from threading import Lock
from typing import Any

import torch
from torch import nn

from ixc.errors import UsageError
from ixc.model.image_features import assemble, check_grids, normalise, overview
from ixc.model.modeling import ImageFeatures

TILE_CACHE_BYTES = 512 << 20
"""Features kept by default: of 227 tiles in float32 at true widths, 455 in bfloat16."""

DIGEST = 16
"""Bytes of a key: two of 10^12 tiles have the same with a probability of 10^-15."""

Grid = tuple[int, int]


def check_bytes(name: str, value: int) -> int:
    """Raises: UsageError: below 0."""
    if value < 0:
        raise UsageError(f"{name} is {value}, at least 0 bytes needed; 0 keeps nothing")
    return value


def weights_identity(parts: Iterable[nn.Module | nn.Parameter]) -> bytes:
    """A name for weights as they are now: changed in place, moved or cast, they have another."""
    seen = blake2b(digest_size=DIGEST)
    for part in parts:
        tensors = [part] if isinstance(part, nn.Parameter) else [*part.parameters(), *part.buffers()]
        for tensor in tensors:
            version = 0 if tensor.is_inference() else tensor._version
            seen.update(f"{tensor.data_ptr()} {version} {tensor.dtype} {tensor.device}".encode())
    return seen.digest()


def tile_keys(pixel_values: torch.Tensor) -> list[bytes]:
    """A key a tile. (N, 3, S, S) of any dtype"""
    kind = f"{pixel_values.dtype}{tuple(pixel_values.shape[1:])}".encode()
    arrays = pixel_values.detach().cpu().contiguous().view(torch.uint8).numpy()
    return [blake2b(array.data, digest_size=DIGEST, key=kind[:64]).digest() for array in arrays]


def image_key(grid: Grid, tiles: Iterable[bytes]) -> bytes:
    """The key of a whole image."""
    return blake2b(b"%d %d " % grid + b"".join(tiles), digest_size=DIGEST).digest()


def _of_images(keys: list[bytes], grids: list[Grid]) -> list[list[bytes]]:
    """Keys of tiles, one list an image."""
    rest = iter(keys)
    return [[next(rest) for _ in range(h * w)] for h, w in grids]


def image_keys(pixel_values: torch.Tensor, image_grids: torch.Tensor) -> list[bytes]:
    """The keys of whole images, in order."""
    grids = grids_of(image_grids)
    return [image_key(grid, keys) for grid, keys in zip(grids, _of_images(tile_keys(pixel_values), grids), strict=True)]


def grids_of(image_grids: torch.Tensor) -> list[Grid]:
    """(images, 2) as pairs."""
    return [(int(h), int(w)) for h, w in image_grids.tolist()]


class TileCache:
    """Features of pictures, the longest unused going first.

    Args:
        limit: most bytes kept, >= 0; 0 keeps nothing beyond a call (identical tiles of a call are still seen once).
    """

    def __init__(self, limit: int = TILE_CACHE_BYTES) -> None:
        self.limit = check_bytes("tile_cache", limit)
        self.bytes = self.hits = self.misses = 0
        self._kept: OrderedDict[bytes, torch.Tensor] = OrderedDict()
        self._lock = Lock()

    def features(self, model: Any, pixel_values: torch.Tensor, image_grids: torch.Tensor) -> ImageFeatures:
        """What ``IxcModel.get_image_features`` gives, bit by bit, seeing only what is new.

        Args:
            model: an ``IxcModel``.
            pixel_values, image_grids: as there; best on the CPU, whence only what is new goes to the device.

        Raises:
            UsageError: as there.
        """
        grids = grids_of(image_grids)
        model.check_tiles(pixel_values)
        check_grids(pixel_values, grids)
        who = weights_identity(
            [model.vision_tower, model.merge, model.vision_proj, model.plora_sub_GN, model.plora_glb_GN]
        )
        keys = [who + key for key in tile_keys(pixel_values)]
        order = _Order(keys, grids, with_overview=model.config.overview)
        found = self._found(order.pictures)
        new = [key for key in dict.fromkeys(order.pictures) if key not in found]
        if new:
            seen = model.encode_tiles(order.make(new, pixel_values, model.plora_glb_GN.device))
            found |= dict(zip(new, (each.clone() for each in seen), strict=True))
            self._keep({key: found[key] for key in new})
        newline, separator = model.special_embeddings()
        tokens = torch.stack([found[key] for key in order.pictures])
        return ImageFeatures(pooler_output=assemble(tokens, grids, newline=newline, separator=separator))

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._kept.clear()
            self.bytes = 0

    def _found(self, keys: list[bytes]) -> dict[bytes, torch.Tensor]:
        with self._lock:
            found = {key: self._kept[key] for key in dict.fromkeys(keys) if key in self._kept}
            for key in found:
                self._kept.move_to_end(key)
            self.hits += sum(key in found for key in keys)
            self.misses += len(keys) - sum(key in found for key in keys)
            return found

    def _keep(self, new: dict[bytes, torch.Tensor]) -> None:
        with self._lock:
            for key, value in new.items():
                if value.nbytes <= self.limit and key not in self._kept:
                    self._kept[key] = value
                    self.bytes += value.nbytes
            while self.bytes > self.limit:
                self.bytes -= self._kept.popitem(last=False)[1].nbytes


class _Order:
    """The pictures the tower must see, as keys: the overview of an image first, then its tiles."""

    def __init__(self, keys: list[bytes], grids: list[Grid], *, with_overview: bool) -> None:
        self.pictures: list[bytes] = []
        self._tiles: dict[bytes, int] = {}
        self._overviews: dict[bytes, tuple[int, Grid]] = {}
        start = 0
        for grid, tiles in zip(grids, _of_images(keys, grids), strict=True):
            if with_overview:
                whole = b"overview" + tiles[0][:DIGEST] + image_key(grid, tiles)
                self._overviews[whole] = (start, grid)
                self.pictures.append(whole)
            self._tiles |= {key: start + place for place, key in enumerate(tiles)}
            self.pictures += tiles
            start += len(tiles)

    def make(self, keys: list[bytes], pixel_values: torch.Tensor, device: torch.device) -> torch.Tensor:
        """The pictures of these keys, normalised on the device. (V, 3, S, S) float32"""
        known = self._tiles
        whole = {key: self._overview(self._overviews[key], pixel_values, device) for key in keys if key not in known}
        places = [self._tiles[key] for key in keys if key in self._tiles]
        tiles = iter(normalise(pixel_values[places].to(device)).split(1)) if places else iter(())
        return torch.cat([whole[key] if key in whole else next(tiles) for key in keys])

    def _overview(self, place: tuple[int, Grid], pixel_values: torch.Tensor, device: torch.device) -> torch.Tensor:
        start, (rows, columns) = place
        return overview(normalise(pixel_values[start : start + rows * columns].to(device)), (rows, columns))
