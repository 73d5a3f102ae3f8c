"""`ixc serve --engine vllm`: vLLM's options for this machine and HD by the formulas of `ixc plan`, then vLLM itself.

    VllmConfig --build_launch--> Launch(command, environment, printed lines) --exec_vllm--> vLLM

The process is replaced by vLLM (exec), so signals reach it directly and nothing of this package stays in memory. Its
HTTP server gets our middleware (`serving.vllm.middleware`). vLLM is not imported here.

    context   positions = images at HD + text + answer, at least one image at the highest HD, at most the model's
    KV        bytes a token = 2 * layers * kv_heads * head_dim * bytes; enough for `REQUESTS` whole contexts, or what
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
from ixc.utils.counted import counted

TEXT, ANSWER = 2048, 1024
"""Tokens of a context reserved for texts and for the answer."""

SHARE = 0.85
"""Share of the free memory that is used; the rest is for the operating system and for opening images."""

REQUESTS = 32
"""Whole contexts that the KV cache holds where memory allows."""

STEP = 1024
"""Context lengths are rounded up to a multiple of this."""


@dataclass(frozen=True, kw_only=True)
class VllmConfig:
    """What vLLM is started with."""

    folder: Path
    """Folder of the model."""
    name: str
    """The model's name for clients."""
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
    """Whether there is a GPU, whose memory vLLM measures itself."""
    memory: int
    """Free bytes of main memory."""
    limits: Limits
    """Of requests."""
    drain_seconds: int
    """Longest time for answers to end after SIGTERM."""
    fetch_from: tuple[str, ...] = ()
    """Hosts images may be fetched from."""
    hosts: tuple[str, ...] = ()
    """Names clients may call the server by; empty = any."""
    api_key: str | None = None
    """Key that clients must send; None = no key."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """vLLM's command, and the calculation behind it."""

    command: tuple[str, ...]
    """Arguments, the first is the program."""
    environment: Mapping[str, str]
    """Variables beside the inherited ones."""
    lines: tuple[str, ...]
    """The calculation, to be printed."""


def build_launch(config: VllmConfig) -> Launch:
    """Work out the context, the memory and the command.

    Raises:
        CapacityError: not even one context fits the memory.
    """
    geometry, tiling = read_geometry(config.folder), read_tiling(config.folder)
    hd = config.hd or tiling.get("hd", CHAT_DEFAULTS.hd)
    rule = config.partition or tiling.get("rule", "original")
    dtype = config.dtype if config.dtype != "auto" else "bfloat16" if config.accelerated else "float32"
    usual, largest = (_largest(n, rule, dtype, geometry) for n in (hd, max(hd, config.limits.max_hd)))
    images = max(1, min(config.limits.max_images, (geometry.max_positions - TEXT - ANSWER) // usual.image_tokens))
    wanted = max(images * usual.image_tokens, largest.image_tokens) + TEXT + ANSWER
    context = min(geometry.max_positions, -(-wanted // STEP) * STEP)
    kv = _kv_bytes(config, largest, context)
    return Launch(
        command=_command(config, hd=hd, rule=rule, dtype=dtype, images=images, context=context, kv=kv),
        environment=_environment(config),
        lines=_lines(config, usual, largest, images=images, context=context, kv=kv),
    )


def free_memory(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Return the bytes of main memory that can be taken without swapping; all of it where the system does not say.

    vLLM 0.32 writes to its whole cache at the start, and the kernel killed it where others held the memory.
    """
    try:
        found = re.search(r"^MemAvailable: +(\d+) kB$", meminfo.read_text(encoding="utf-8"), re.M)
    except OSError:
        found = None
    return int(found[1]) << 10 if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def exec_vllm(launch: Launch) -> None:
    """Replace this process by vLLM; does not return."""
    sys.stdout.flush()
    os.execvpe(launch.command[0], list(launch.command), {**os.environ, **launch.environment})


def _largest(hd: int, rule: str, dtype: str, geometry: ModelGeometry) -> Plan:
    """Return the plan of the image with most tokens at this HD: a column, as rows end in a newline (spec a)."""
    tile = geometry.image_size
    sizes = [(tile, tile * hd), (tile * hd, tile)]
    plans = [plan(*size, hd=hd, rule=rule, text_tokens=TEXT, dtype=dtype, geometry=geometry) for size in sizes]
    return max(plans, key=lambda found: found.image_tokens)


def _kv_bytes(config: VllmConfig, largest: Plan, context: int) -> int | None:
    """Return the bytes of the KV cache; None = vLLM measures the GPU and takes what is left."""
    if config.accelerated:
        return None
    one = context * largest.kv_bytes // largest.tokens
    left = int(config.memory * SHARE) - largest.weight_bytes() - largest.activation_bytes
    if left < one:
        raise CapacityError(
            f"{config.folder} needs {largest.weight_bytes() / 1e9:.1f} GB of weights and {one / 1e9:.1f} GB of KV "
            f"cache for one context of {context:,}, {config.memory / 1e9:.1f} GB of memory are free; "
            "lower --max-hd or --hd"
        )
    return min(left, REQUESTS * one)


def _command(
    config: VllmConfig, *, hd: int, rule: str, dtype: str, images: int, context: int, kv: int | None
) -> tuple[str, ...]:
    beside = Path(sys.executable).with_name("vllm")
    program = str(beside) if beside.is_file() else shutil.which("vllm") or "vllm"
    tiling = {"hd": hd, "partition": rule, "max_hd": max(hd, config.limits.max_hd)}
    options = {
        "--served-model-name": config.name,
        "--host": config.host,
        "--port": str(config.port),
        "--dtype": dtype,
        "--max-model-len": str(context),
        "--limit-mm-per-prompt": json.dumps({"image": images}),
        "--mm-processor-kwargs": json.dumps(tiling),
        "--override-generation-config": json.dumps({"temperature": 0.0}),  # greedy unless asked, as `ixc ask`
        # Compact JSON: where a schema allows it, a small model goes on with blanks until its answer is full.
        "--structured-outputs-config": json.dumps({"backend": "xgrammar", "disable_any_whitespace": True}),
        "--shutdown-timeout": str(config.drain_seconds),
        "--middleware": MIDDLEWARE,
    }
    if kv is not None:
        options["--kv-cache-memory-bytes"] = str(kv)
    # On a CPU compiling takes minutes at every start and gains little: matrix products dominate.
    eager = () if config.accelerated else ("--enforce-eager",)
    flat = [word for option in options.items() for word in option]
    # hd and partition of a request come in this way; `serving.vllm.inputs` accepts nothing else and bounds both.
    trusted = ("--trust-request-mm-kwargs", "--enable-prompt-tokens-details")
    return (program, "serve", str(config.folder), *flat, *eager, *trusted)


def _environment(config: VllmConfig) -> dict[str, str]:
    middleware = settings_text(config.limits, fetch_from=config.fetch_from, hosts=config.hosts)
    found = {
        SETTINGS: middleware,
        "VLLM_MAX_IMAGE_PIXELS": str(config.limits.max_pixels),
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    return {**found, KEY: config.api_key} if config.api_key else found


def _lines(
    config: VllmConfig, usual: Plan, largest: Plan, *, images: int, context: int, kv: int | None
) -> tuple[str, ...]:
    token = largest.kv_bytes // largest.tokens
    hd, most = usual.partition.hd, largest.partition.hd
    lines = [
        f"engine        vLLM, {largest.dtype}, {'GPU' if config.accelerated else 'processor'}",
        f"image         at most {usual.image_tokens:,} tokens at HD-{hd}, {largest.image_tokens:,} at HD-{most}",
        f"context       {context:,} tokens: {counted(images, 'image')} at HD-{hd} or one at HD-{most}, text and answer",
        f"weights       {largest.weight_bytes() / 1e9:.2f} GB",
        f"activations   {largest.activation_bytes / 1e9:.2f} GB at the largest image",
    ]
    if kv is None:
        size = f"{token * context / 1e9:.2f} GB a context; vLLM takes what the GPU leaves"
    else:
        size = f"{kv / 1e9:.2f} GB = {kv // token:,} tokens = {kv / token / context:.1f} contexts"
    return (*lines, f"KV cache      {token:,} bytes a token, {size}")
