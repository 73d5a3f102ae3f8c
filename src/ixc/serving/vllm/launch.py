"""`ixc serve` with vLLM installed: settings for this machine and this HD by the arithmetic of `ixc plan`, then vLLM.

    folder, HD, limits --settings--> Launch(context, KV memory, command, environment) --start--> vLLM in our place

The process becomes vLLM (exec): signals reach it without a hand in between, and nothing of ours stays in memory. Its
HTTP server gets our door (`vllm_door`). vLLM is looked for and not imported.

    context   positions = images at HD + text + answer, at least one image at the highest HD, at most the model's
    KV        bytes a token = 2 * layers * kv_heads * head_dim * bytes; enough for `requests` whole contexts, or what
              the machine leaves: SHARE of its free memory - weights - activations of the largest image
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ixc.core.chat_format import CHAT_DEFAULTS
from ixc.errors import CapacityError
from ixc.inference.cost import ModelGeometry, Plan, plan, read_geometry, read_tiling
from ixc.serving.image_input import Limits
from ixc.serving.vllm.settings import KEY, MIDDLEWARE, SETTINGS, settings_text

TEXT, ANSWER = 2048, 1024
"""Tokens of a context kept for texts and for the answer."""

SHARE = 0.85
"""Of the machine's free memory may be used; the rest is the system's and the image readers'."""

REQUESTS = 32
"""Whole contexts the KV cache holds where memory allows."""

STEP = 1024
"""Contexts are rounded up to a multiple."""


@dataclass(frozen=True, kw_only=True)
class VllmConfig:
    """What the command was asked for."""

    folder: Path
    """Of the model."""
    name: str
    """Of the model, for clients."""
    host: str
    """Address to listen on."""
    port: int
    """Port to listen on."""
    hd: int | None
    """Most tiles of an image where a request says nothing; None = the folder's."""
    partition: str | None
    """Partition rule where a request says nothing; None = the folder's."""
    dtype: str
    """"auto", "float32", "bfloat16" or "float16"."""
    accelerated: bool
    """There is a GPU: vLLM measures its memory itself."""
    memory: int
    """Bytes of main memory that are free."""
    limits: Limits
    """Of requests."""
    drain_seconds: int
    """Longest time for answers to end after SIGTERM."""
    fetch_from: tuple[str, ...] = ()
    """Hosts images may be fetched from."""
    hosts: tuple[str, ...] = ()
    """Names clients may call the server by; empty = any."""
    api_key: str | None = None
    """What clients must send."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """vLLM's command and why it is so."""

    command: tuple[str, ...]
    """Arguments, the first is the program."""
    environment: Mapping[str, str]
    """Variables beside the inherited ones."""
    lines: tuple[str, ...]
    """The arithmetic, to be printed."""


def settings(order: VllmConfig) -> Launch:
    """Context, memory and command.

    Raises:
        CapacityError: not even one context fits the memory.
    """
    geometry, tiling = read_geometry(order.folder), read_tiling(order.folder)
    hd = order.hd or tiling.get("hd", CHAT_DEFAULTS.hd)
    rule = order.partition or tiling.get("rule", "original")
    dtype = order.dtype if order.dtype != "auto" else "bfloat16" if order.accelerated else "float32"
    usual, largest = (_largest(n, rule, dtype, geometry) for n in (hd, max(hd, order.limits.max_hd)))
    images = max(1, min(order.limits.max_images, (geometry.max_positions - TEXT - ANSWER) // usual.image_tokens))
    wanted = max(images * usual.image_tokens, largest.image_tokens) + TEXT + ANSWER
    context = min(geometry.max_positions, -(-wanted // STEP) * STEP)
    kv = _kv_bytes(order, largest, context)
    return Launch(
        command=_command(order, hd=hd, rule=rule, dtype=dtype, images=images, context=context, kv=kv),
        environment=_environment(order),
        lines=_lines(order, usual, largest, images=images, context=context, kv=kv),
    )


def free_memory(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes of main memory that can be taken without swapping; all of it where the system does not say.

    vLLM 0.32 writes to its whole cache at the start, and the kernel killed it where others held the memory.
    """
    try:
        found = re.search(r"^MemAvailable: +(\d+) kB$", meminfo.read_text(encoding="utf-8"), re.M)
    except OSError:
        found = None
    return int(found[1]) << 10 if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def start(launch: Launch) -> None:
    """Becomes vLLM; does not return."""
    sys.stdout.flush()
    os.execvpe(launch.command[0], list(launch.command), {**os.environ, **launch.environment})


def _largest(hd: int, rule: str, dtype: str, geometry: ModelGeometry) -> Plan:
    """The image with the most tokens at this HD: a column of tiles, for every row ends with a newline (spec a)."""
    tile = geometry.image_size
    sizes = [(tile, tile * hd), (tile * hd, tile)]
    plans = [plan(*size, hd=hd, rule=rule, text_tokens=TEXT, dtype=dtype, geometry=geometry) for size in sizes]
    return max(plans, key=lambda found: found.image_tokens)


def _kv_bytes(order: VllmConfig, largest: Plan, context: int) -> int | None:
    """For the cache; None = vLLM measures the accelerator and takes what is left."""
    if order.accelerated:
        return None
    one = context * largest.kv_bytes // largest.tokens
    left = int(order.memory * SHARE) - largest.weight_bytes() - largest.activation_bytes
    if left < one:
        raise CapacityError(
            f"{order.folder} needs {largest.weight_bytes() / 1e9:.1f} GB of weights and {one / 1e9:.1f} GB of KV cache "
            f"for one context of {context:,}, {order.memory / 1e9:.1f} GB of memory are free; lower --max-hd or --hd"
        )
    return min(left, REQUESTS * one)


def _command(
    order: VllmConfig, *, hd: int, rule: str, dtype: str, images: int, context: int, kv: int | None
) -> tuple[str, ...]:
    beside = Path(sys.executable).with_name("vllm")
    program = str(beside) if beside.is_file() else shutil.which("vllm") or "vllm"
    tiling = {"hd": hd, "partition": rule, "max_hd": max(hd, order.limits.max_hd)}
    options = {
        "--served-model-name": order.name,
        "--host": order.host,
        "--port": str(order.port),
        "--dtype": dtype,
        "--max-model-len": str(context),
        "--limit-mm-per-prompt": json.dumps({"image": images}),
        "--mm-processor-kwargs": json.dumps(tiling),
        "--override-generation-config": json.dumps({"temperature": 0.0}),  # greedy unless asked, as `ixc ask`
        # Compact JSON: where a schema allows it, a small model goes on with blanks until its answer is full.
        "--structured-outputs-config": json.dumps({"backend": "xgrammar", "disable_any_whitespace": True}),
        "--shutdown-timeout": str(order.drain_seconds),
        "--middleware": MIDDLEWARE,
    }
    if kv is not None:
        options["--kv-cache-memory-bytes"] = str(kv)
    # On a processor compiling takes minutes at every start and gains little: the products dominate.
    eager = () if order.accelerated else ("--enforce-eager",)
    flat = [word for option in options.items() for word in option]
    # hd and partition of a request come in this way; `vllm_inputs` lets nothing else through, and bounds both.
    trusted = ("--trust-request-mm-kwargs", "--enable-prompt-tokens-details")
    return (program, "serve", str(order.folder), *flat, *eager, *trusted)


def _environment(order: VllmConfig) -> dict[str, str]:
    door = settings_text(order.limits, fetch_from=order.fetch_from, hosts=order.hosts)
    found = {
        SETTINGS: door,
        "VLLM_MAX_IMAGE_PIXELS": str(order.limits.max_pixels),
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    return {**found, KEY: order.api_key} if order.api_key else found


def _lines(
    order: VllmConfig, usual: Plan, largest: Plan, *, images: int, context: int, kv: int | None
) -> tuple[str, ...]:
    token = largest.kv_bytes // largest.tokens
    hd, most = usual.partition.hd, largest.partition.hd
    lines = [
        f"engine        vLLM, {largest.dtype}, {'GPU' if order.accelerated else 'processor'}",
        f"image         at most {usual.image_tokens:,} tokens at HD-{hd}, {largest.image_tokens:,} at HD-{most}",
        f"context       {context:,} tokens: {images} images at HD-{hd} or one at HD-{most}, text and answer",
        f"weights       {largest.weight_bytes() / 1e9:.2f} GB",
        f"activations   {largest.activation_bytes / 1e9:.2f} GB at the largest image",
    ]
    if kv is None:
        size = f"{token * context / 1e9:.2f} GB a context; vLLM takes what the GPU leaves"
    else:
        size = f"{kv / 1e9:.2f} GB = {kv // token:,} tokens = {kv / token / context:.1f} contexts"
    return (*lines, f"KV cache      {token:,} bytes a token, {size}")
