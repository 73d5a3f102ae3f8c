"""Cache of image features: the vision encoder's output of each tile, found by the bytes of the tile's pixels.

    uint8 tiles --blake2b--> keys --known?--> cached features
                                  --else----> normalise -> IxcModel.encode_tiles -> features, cached
    features -> assemble with newline and separator -> ImageFeatures

Identical tiles (white margins, a screenshot with one changed region, the same image in the next turn) are encoded once.
An overview is found by the keys of all its tiles and their grid. Keys include an identity of the weights, so that
features of weights that were changed in place or moved are never used. The vision tower runs in passes of one shape,
which makes each view's features independent of the others in its pass: a cached feature equals a fresh one bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import torch
from torch import nn

from ixc.inference.cache_memory import CacheMemory, LruStore, allocated_bytes, mapped_copy
from ixc.inference.settings import TILE_CACHE_BYTES
from ixc.model.image_features import assemble, check_grids, normalise, overview
from ixc.model.modeling import ImageFeatures

DIGEST_BYTES = 16
"""Length of a key: among 10^12 tiles, two have the same key with a probability of 10^-15."""

Grid = tuple[int, int]
"""(grid_h, grid_w) of an image, in tiles."""


def weights_identity(parts: Iterable[nn.Module | nn.Parameter]) -> bytes:
    """Return a digest of where weights lie and how often they were changed in place; no weight is read."""
    digest = blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        tensors = [part] if isinstance(part, nn.Parameter) else [*part.parameters(), *part.buffers()]
        for tensor in tensors:
            version = 0 if tensor.is_inference() else tensor._version
            digest.update(f"{tensor.data_ptr()} {version} {tensor.dtype} {tensor.device}".encode())
    return digest.digest()


def grids_of(image_grids: torch.Tensor) -> list[Grid]:
    """Convert (images, 2) to pairs."""
    return [(int(h), int(w)) for h, w in image_grids.tolist()]


@dataclass(frozen=True, kw_only=True)
class ImageKeys:
    """Keys of the images of a request. Made once a request: hashing 4K pixels takes tens of milliseconds."""

    grids: list[Grid]
    """Of each image."""
    tiles: list[list[bytes]]
    """Keys of each image's tiles, row-major."""

    @classmethod
    def of(cls, pixel_values: torch.Tensor, image_grids: torch.Tensor) -> ImageKeys:
        """Hash the tiles of all images.

        Args:
            pixel_values: (sum of h*w, 3, S, S) of any dtype, image after image.
            image_grids: (images, 2).

        Raises:
            UsageError: the grids ask for another number of tiles.
        """
        grids = grids_of(image_grids)
        check_grids(pixel_values, grids)
        keys = iter(_tile_keys(pixel_values))
        return cls(grids=grids, tiles=[[next(keys) for _ in range(h * w)] for h, w in grids])

    @property
    def images(self) -> list[bytes]:
        """One key an image."""
        return [_image_key(grid, tiles) for grid, tiles in zip(self.grids, self.tiles, strict=True)]

    def without_first(self, images: int) -> ImageKeys:
        """Return the keys of all but the first images."""
        return ImageKeys(grids=self.grids[images:], tiles=self.tiles[images:])


def _tile_keys(pixel_values: torch.Tensor) -> list[bytes]:
    kind = f"{pixel_values.dtype}{tuple(pixel_values.shape[1:])}".encode()
    arrays = pixel_values.detach().cpu().contiguous().view(torch.uint8).numpy()
    return [blake2b(array.data, digest_size=DIGEST_BYTES, key=kind[:64]).digest() for array in arrays]


def _image_key(grid: Grid, tiles: Iterable[bytes]) -> bytes:
    return blake2b(b"%d %d " % grid + b"".join(tiles), digest_size=DIGEST_BYTES).digest()


class TileCache:
    """Features of views (tiles and overviews); the least recently used leave first.

    Args:
        limit: most bytes kept, >= 0; 0 keeps nothing beyond a call, in which identical tiles are still encoded once.
        memory: limit that other caches share; None = no other.
    """

    def __init__(self, limit: int = TILE_CACHE_BYTES, *, memory: CacheMemory | None = None) -> None:
        self.hits = self.misses = 0
        self._features: LruStore[bytes, torch.Tensor] = LruStore(limit, memory)

    @property
    def limit(self) -> int:
        """Most bytes kept."""
        return self._features.limit

    @property
    def bytes(self) -> int:
        """Bytes kept, as allocated."""
        return self._features.bytes

    def features(
        self, model: Any, pixel_values: torch.Tensor, image_grids: torch.Tensor, *, keys: ImageKeys | None = None
    ) -> ImageFeatures:
        """Return what ``IxcModel.get_image_features`` returns, bit by bit, encoding only unknown views.

        Args:
            model: an ``IxcModel``.
            pixel_values, image_grids: as there; best on the CPU, from which only new views go to the device.
            keys: of these images, where the caller has them; None = hashed here.

        Raises:
            UsageError: as there.
        """
        model.check_tiles(pixel_values)
        keys = ImageKeys.of(pixel_values, image_grids) if keys is None else keys
        encoder = [model.vision_tower, model.merge, model.vision_proj, model.plora_sub_GN, model.plora_glb_GN]
        views = _Views(keys, weights_identity(encoder), with_overview=model.config.overview)
        found = self._known(views.order)
        new = [key for key in dict.fromkeys(views.order) if key not in found]
        if new:
            encoded = model.encode_tiles(views.pixels(new, pixel_values, model.plora_glb_GN.device))
            # Copied, so that a kept view does not hold the memory of the whole batch.
            found |= dict(zip(new, map(mapped_copy, encoded), strict=True))
            self._keep({key: found[key] for key in new})
        newline, separator = model.special_embeddings()
        tokens = torch.stack([found[key] for key in views.order])
        return ImageFeatures(pooler_output=assemble(tokens, keys.grids, newline=newline, separator=separator))

    def clear(self) -> None:
        """Forget all features."""
        with self._features.memory.lock:
            self._features.clear()

    def _known(self, keys: list[bytes]) -> dict[bytes, torch.Tensor]:
        with self._features.memory.lock:
            found = {key: self._features.use(key) for key in dict.fromkeys(keys) if key in self._features}
            self.hits += sum(key in found for key in keys)
            self.misses += len(keys) - sum(key in found for key in keys)
            return found

    def _keep(self, new: dict[bytes, torch.Tensor]) -> None:
        with self._features.memory.lock:
            for key, value in new.items():
                if key not in self._features:
                    self._features.put(key, value, allocated_bytes([value]))


class _Views:
    """The views of a request as keys, ordered as in ``image_features.all_views``: each overview before its tiles."""

    def __init__(self, keys: ImageKeys, identity: bytes, *, with_overview: bool) -> None:
        self.order: list[bytes] = []
        self._tiles: dict[bytes, int] = {}
        self._overviews: dict[bytes, tuple[int, Grid]] = {}
        start = 0
        for grid, tiles in zip(keys.grids, keys.tiles, strict=True):
            if with_overview:
                whole = b"overview" + identity + _image_key(grid, tiles)
                self._overviews[whole] = (start, grid)
                self.order.append(whole)
            for place, key in enumerate(tiles, start=start):
                self._tiles[identity + key] = place
                self.order.append(identity + key)
            start += len(tiles)

    def pixels(self, keys: list[bytes], pixel_values: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Return the views of these keys, normalised on the device. (V, 3, S, S) float32"""
        wholes = {key: self._overview(key, pixel_values, device) for key in keys if key in self._overviews}
        places = [self._tiles[key] for key in keys if key in self._tiles]
        tiles = iter(normalise(pixel_values[places].to(device)).split(1)) if places else iter(())
        return torch.cat([wholes[key] if key in wholes else next(tiles) for key in keys])

    def _overview(self, key: bytes, pixel_values: torch.Tensor, device: torch.device) -> torch.Tensor:
        start, (rows, columns) = self._overviews[key]
        return overview(normalise(pixel_values[start : start + rows * columns].to(device)), (rows, columns))
