"""Cost of a setting before anything is loaded: tiles, tokens, FLOPs and memory of one image and one prompt.

    size, hd, rule --partition--> Partition --> Layout --> tokens --> FLOPs, weights, KV cache, activations

Formulas; one multiply-add counts as 2 FLOP; biases, norms and element-wise operations are not counted:

    P patches of a tile, S = P + 1;  C, M width and MLP of the ViT;  N image tokens, T = N + text tokens;  V vocabulary;
    D, F width and MLP of the decoder;  A = heads * head_dim, K = kv_heads * head_dim;  r, q ranks of PLoRA, of its wqkv

    ViT, a view       2 P (3 patch^2) C + layers (2 S (4 C^2 + 2 C M) + 4 S^2 C)
    projector         2 N (4 C D + D^2)
    decoder           layers 2 T (D (A + 2 K) + A D + 3 D F)
    attention         layers 2 T^2 A           causal: half of the full 4 T^2 A, as flash attention computes it
    PLoRA             layers 2 N (q (D + A + 2 K) + r (A + D) + 3 r (D + F))          image tokens only
    head              2 D V                    the last position only

Sources: matrix shapes from spec (c) to (h) and (k); counting as in Kaplan et al. 2020 (arXiv 2001.08361, section 2.1);
causal halving as in Dao 2023 (arXiv 2307.08691, section 4.1). Pure arithmetic: no torch, no images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ixc.core.chat_format import CHAT_DEFAULTS
from ixc.core.tiling import TILE, Partition, partition
from ixc.core.token_layout import MERGE, PATCH, Layout
from ixc.errors import UsageError
from ixc.utils.files import read_json_object

DTYPES: dict[str, tuple[float, int]] = {
    "float32": (4, 4),
    "bfloat16": (2, 2),
    "float16": (2, 2),
    "int8": (1, 2),
    "int4": (0.5, 2),
}
"""Name -> bytes of a weight in the decoder's matrices and head, and of every other weight, activation, key and value.
int8 and int4: only these are quantized (`ixc quantize`); the scales (1 to 6 % more) are not counted."""

QUANTIZED_DTYPES = ("int8", "int4")
"""Keys of `DTYPES` whose matrices are quantized: PLoRA cannot be merged into them."""

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
"""Files with the tiling of a folder's image processor; the processor's settings, read last, take precedence."""


@dataclass(frozen=True, kw_only=True)
class ModelGeometry:
    """The sizes of a model. The defaults are the published 7B (spec (c), (g), (h))."""

    image_size: int = TILE
    """Side of a tile, pixels."""
    patch_size: int = PATCH
    """Side of a patch, pixels."""
    vit_layers: int = 24
    """Layers of the vision tower."""
    vit_width: int = 1024
    """Channels of the vision tower."""
    vit_mlp: int = 4096
    """Channels inside the MLP of the vision tower."""
    layers: int = 32
    """Layers of the decoder."""
    width: int = 4096
    """Channels of the decoder."""
    mlp: int = 14336
    """Channels inside the MLP of the decoder."""
    heads: int = 32
    """Query heads."""
    kv_heads: int = 8
    """Key and value heads."""
    head_dim: int = 128
    """Channels of a head."""
    vocab: int = 92544
    """Entries of the vocabulary."""
    plora_r: int = 256
    """Rank of PLoRA on wo, w1, w2, w3."""
    plora_qkv_r: int = 8
    """Rank of PLoRA on wqkv."""
    max_positions: int = 32768
    """Longest sequence without stretching the rotary embedding."""
    newline: bool = True
    """A learned token ends every row."""
    overview: bool = True
    """The overview and the separator come first."""

    @property
    def side(self) -> int:
        """Tokens along each side of a tile: 12."""
        return self.image_size // self.patch_size // MERGE

    @property
    def patches(self) -> int:
        """Patches of a tile, without the class position: 576."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def qkv_width(self) -> int:
        """Rows of the fused wqkv: 6,144."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim

    @property
    def matrices_per_layer(self) -> int:
        """Weights of wqkv, wo, w1, w2, w3 of one decoder layer."""
        attention = self.heads * self.head_dim
        return self.width * self.qkv_width + attention * self.width + 3 * self.width * self.mlp

    @property
    def plora_per_layer(self) -> int:
        """Weights of the PLoRA of one decoder layer: rank * (in + out) of each of the five matrices."""
        attention = self.heads * self.head_dim
        wide = self.plora_r * (attention + self.width + 3 * (self.width + self.mlp))
        return self.plora_qkv_r * (self.width + self.qkv_width) + wide

    def weights(self) -> dict[str, int]:
        """Return the number of weights by part, as in the published file (spec (k)), without a learned merge."""
        c, d = self.vit_width, self.width
        layer = 4 * (c * c + c) + 2 * c * self.vit_mlp + self.vit_mlp + c + 4 * c
        stem = c + 3 * self.patch_size**2 * c + (self.patches + 1) * c + 2 * c
        merged = MERGE**2 * c
        return {
            "vision tower": self.vit_layers * layer + stem,
            "projector": merged * d + d + d * d + d,
            "newline and separator": 2 * merged,
            "decoder": self.layers * (self.matrices_per_layer + 2 * d) + d,
            "PLoRA": self.layers * self.plora_per_layer,
            "embeddings": self.vocab * d,
            "head": self.vocab * d,
        }


def read_geometry(folder: str | Path) -> ModelGeometry:
    """Read the sizes of a model from its config.json, in the published flat form or the nested one of this package.

    Missing sizes (the published file has none of the vision tower and of PLoRA) are those of the published 7B.

    Raises:
        UsageError: no such file, no JSON object, or a size that is no positive whole number.
    """
    path = Path(folder) / "config.json"
    config = _object(path)
    text, vision = config.get("text_config") or config, config.get("vision_config") or {}
    if not isinstance(text, dict) or not isinstance(vision, dict):
        raise UsageError(f"{path} has a text_config or vision_config that is no JSON object; repair the file")
    sizes = _known(text, _TEXT_KEYS, path) | _known(vision, _VISION_KEYS, path)
    if "heads" in sizes:
        sizes.setdefault("kv_heads", sizes["heads"])
    sizes.setdefault("head_dim", sizes.get("width", ModelGeometry.width) // sizes.get("heads", ModelGeometry.heads))
    flags = {key: bool(config[key]) for key in ("newline", "overview") if key in config}
    return ModelGeometry(**sizes, **flags)


def read_tiling(folder: str | Path) -> dict[str, Any]:
    """Read `hd` and `rule` of the processor in `folder`, where its files have them; a published folder has neither.

    Raises:
        UsageError: a file that is no JSON object, or an hd that is no whole number of at least 1.
    """
    found: dict[str, Any] = {}
    for path in (Path(folder) / name for name in PROCESSOR_FILES):
        settings = _object(path) if path.is_file() else {}
        settings = settings.get("image_processor", settings)
        named = {name: settings.get(key) for key, name in (("hd", "hd"), ("partition", "rule"))}
        found |= {name: value for name, value in named.items() if value is not None}
        if type(hd := found.get("hd", 1)) is not int or hd < 1:
            raise UsageError(f"{path}: hd is {hd!r}, a whole number of at least 1 needed; repair the file")
    return found


def _object(path: Path) -> dict[str, Any]:
    return read_json_object(path, error=UsageError, remedy="give the folder of a model")


_TEXT_KEYS = {
    "num_hidden_layers": "layers",
    "hidden_size": "width",
    "intermediate_size": "mlp",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "head_dim": "head_dim",
    "vocab_size": "vocab",
    "plora_r": "plora_r",
    "plora_qkv_r": "plora_qkv_r",
    "max_position_embeddings": "max_positions",
}
_VISION_KEYS = {
    "image_size": "image_size",
    "patch_size": "patch_size",
    "num_hidden_layers": "vit_layers",
    "hidden_size": "vit_width",
    "intermediate_size": "vit_mlp",
}


def _known(config: Mapping[str, Any], keys: Mapping[str, str], path: Path) -> dict[str, int]:
    found = {key: config[key] for key in keys if config.get(key) is not None}
    for key, value in found.items():
        if not isinstance(value, int) or value < 1:
            raise UsageError(f"{path} says {key} = {value!r}, a whole number of at least 1 needed; repair the file")
    return {keys[key]: value for key, value in found.items()}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Cost of one image and one prompt; FLOPs and bytes are estimates by the formulas at the top of the file."""

    partition: Partition
    """The tiles of the image."""
    layout: Layout
    """The tokens of the image."""
    text_tokens: int
    """Tokens of the prompt beside the image."""
    dtype: str
    """Key of `DTYPES`."""
    model: ModelGeometry
    """The sizes of the model."""

    @property
    def image_tokens(self) -> int:
        """Tokens of the image, newlines and separator included."""
        return self.layout.num_tokens

    @property
    def tokens(self) -> int:
        """Tokens of the whole prompt."""
        return self.image_tokens + self.text_tokens

    @property
    def views(self) -> int:
        """Inputs of the vision tower: the tiles and the overview."""
        return self.partition.tiles + self.layout.overview

    @property
    def fits(self) -> bool:
        """The prompt has no more tokens than the model has positions."""
        return self.tokens <= self.model.max_positions

    def flops(self) -> dict[str, int]:
        """Return the FLOP of the prefill by part; their sum is the total."""
        m, patches, image, whole = self.model, self.model.patches, self.image_tokens, self.tokens
        s, c = patches + 1, m.vit_width
        layer = 2 * s * (4 * c * c + 2 * c * m.vit_mlp) + 4 * s * s * c
        return {
            "vision tower": self.views * (2 * patches * 3 * m.patch_size**2 * c + m.vit_layers * layer),
            "projector": 2 * image * (MERGE**2 * c * m.width + m.width**2),
            "decoder": m.layers * 2 * whole * m.matrices_per_layer,
            "attention": m.layers * 2 * whole**2 * m.heads * m.head_dim,
            "PLoRA": m.layers * 2 * image * m.plora_per_layer,
            "head": 2 * m.width * m.vocab,
        }

    def weight_bytes(self, dtype: str | None = None) -> int:
        """Return the bytes of the weights under `dtype` (default: the plan's)."""
        matrix, other = DTYPES[dtype or self.dtype]
        quantized = self.model.layers * self.model.matrices_per_layer + self.model.width * self.model.vocab
        return int(quantized * matrix) + (sum(self.model.weights().values()) - quantized) * other

    @property
    def kv_bytes(self) -> int:
        """Bytes of the keys and values of the prompt, one beam: 2 * layers * kv_heads * head_dim * T * bytes."""
        m = self.model
        return 2 * m.layers * m.kv_heads * m.head_dim * self.tokens * DTYPES[self.dtype][1]

    @property
    def merged_bytes(self) -> int:
        """Bytes of a second copy of the decoder's matrices, PLoRA included; quantized weights allow none."""
        m = self.model
        return m.layers * m.matrices_per_layer * DTYPES[self.dtype][1]

    @property
    def merged_saving(self) -> float:
        """Share of the prefill's FLOP that merging saves: all of PLoRA's."""
        flops = self.flops()
        return flops["PLoRA"] / sum(flops.values())

    @property
    def activation_bytes(self) -> int:
        """Bytes at the widest point of the prefill, inside an MLP: the larger of

            ViT       views * S * (2 C + 2 M)       residual, normed, before and after the activation; all views at once
            decoder   T * (2 D + 3 F)               residual, normed, w1, w3 and their product

        A lower bound: allocators keep more, and eager attention adds `eager_scores_bytes`.
        """
        m, size = self.model, DTYPES[self.dtype][1]
        vit = self.views * (m.patches + 1) * (2 * m.vit_width + 2 * m.vit_mlp)
        return size * max(vit, self.tokens * (2 * m.width + 3 * m.mlp))

    @property
    def eager_scores_bytes(self) -> int:
        """Bytes of one layer's float32 scores under eager attention: heads * T^2 * 4. Zero under sdpa or flash."""
        return self.model.heads * self.tokens**2 * 4


def plan(
    width: int,
    height: int,
    *,
    hd: int = CHAT_DEFAULTS.hd,
    rule: str = "original",
    text_tokens: int = 0,
    dtype: str = "bfloat16",
    geometry: ModelGeometry | None = None,
) -> Plan:
    """Plan one width x height image.

    Args:
        width, height: pixels, >= 1.
        hd: most tiles, >= 1.
        rule: partition rule, key of `ixc.core.tiling.RULES`.
        text_tokens: tokens of the prompt beside the image, >= 0.
        dtype: key of `DTYPES`.
        geometry: sizes of the model; the published 7B if left out.

    Raises:
        GeometryError: from the partition. UsageError: an unknown dtype, text_tokens below 0.
    """
    if dtype not in DTYPES:
        raise UsageError(f"no dtype {dtype!r} in the plan; use one of {', '.join(DTYPES)}")
    if text_tokens < 0:
        raise UsageError(f"text_tokens is {text_tokens}, at least 0 needed; leave it out for the image alone")
    model = geometry or ModelGeometry()
    part = partition(width, height, hd=hd, rule=rule, tile=model.image_size)
    layout = Layout(
        grid_h=part.grid_h,
        grid_w=part.grid_w,
        tokens_per_side=model.side,
        newline=model.newline,
        overview=model.overview,
    )
    return Plan(partition=part, layout=layout, text_tokens=text_tokens, dtype=dtype, model=model)


def text(plan: Plan) -> list[str]:
    """Return the plan as lines for a terminal, label and value in two columns."""
    part, flops = plan.partition, plan.flops()
    share = part.pixels_kept / (part.width * part.height)
    padding = 1 - part.pixels_kept / (part.canvas_width * part.canvas_height)
    prompt = f"{plan.tokens:,} of {plan.model.max_positions:,} positions"
    rows = {
        "image": f"{part.width:,} x {part.height:,} px",
        "rule": f"{part.rule}, HD-{part.hd} (at most {part.hd} tiles of {part.tile} px)",
        "resized": f"{part.resized_width:,} x {part.resized_height:,} px, {share:.0%} of the image's pixels",
        "canvas": f"{part.canvas_width:,} x {part.canvas_height:,} px, {padding:.1%} white padding",
        "tiles": f"{part.grid_h} rows x {part.grid_w} columns = {part.tiles}, {_used(plan)}",
        "image tokens": f"{plan.image_tokens:,} ({_token_parts(plan)})",
        "prompt": prompt if plan.fits else f"{prompt}: does not fit, lower hd",
        "prefill": f"{_si(sum(flops.values()))}FLOP ({_parts(flops)})",
        "weights": f"{_gb(plan.weight_bytes())} in {plan.dtype}",
        "plora=merged": _merged(plan),
        "KV cache": f"{_gb(plan.kv_bytes)} a beam",
        "activations": f"{_gb(plan.activation_bytes)} at least; eager attention {_gb(plan.eager_scores_bytes)} more",
    }
    return [f"{label:<14}{value}" for label, value in rows.items()]


def _merged(plan: Plan) -> str:
    if plan.dtype in QUANTIZED_DTYPES:
        return f"not with {plan.dtype} weights"
    saved = plan.flops()["PLoRA"]
    return f"{_gb(plan.merged_bytes)} more of weights, {_si(saved)}FLOP of the prefill less ({plan.merged_saving:.1%})"


def _used(plan: Plan) -> str:
    return f"{plan.partition.tiles} of {plan.partition.hd} used" + (" + overview" if plan.layout.overview else "")


def _token_parts(plan: Plan) -> str:
    layout = plan.layout
    local = f"{layout.num_local_tokens:,} local"
    return f"{layout.num_overview_tokens} overview + 1 separator + {local}" if layout.overview else local


def _parts(flops: dict[str, int]) -> str:
    whole = sum(flops.values())
    return ", ".join(f"{name} {value / whole:.0%}" for name, value in flops.items() if value / whole >= 0.005)


def _si(value: float) -> str:
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9)):
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value / 1e6:.3g} M"


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.2f} MB"
