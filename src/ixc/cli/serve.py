"""The command `ixc serve`: an OpenAI API and a page over one model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixc.cli.checks import check_model, check_run
from ixc.cli.options import (
    Compile,
    Device,
    Dtype,
    Hd,
    Model,
    Plora,
    PrefixCache,
    Rule,
    TileCache,
    engine_options,
    examples,
    load_engine,
)
from ixc.errors import UsageError
from ixc.inference.settings import check_tiling

if TYPE_CHECKING:
    from ixc.serving.app import ChatService
    from ixc.serving.image_input import ImageInput

KEY_VARIABLE = "IXC_API_KEY"
"""Where the key is read when the flag is missing: other users see the flags of a process."""

SERVE_EXAMPLES = examples(
    "ixc serve",
    "ixc serve --model ./ixc-4khd-7b --hd 25 --port 8080",
    "ixc serve --engine light",
    "IXC_API_KEY=secret ixc serve --host 0.0.0.0 --fetch-from images.example.org",
)


def serve(
    model: Model = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 is every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    hd: Hd = None,
    partition: Rule = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The model's name for clients; default: its folder's.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option("--api-key", help=f"Key clients must send; better in {KEY_VARIABLE}.")
    ] = None,
    fetch_from: Annotated[
        list[str] | None,
        typer.Option("--fetch-from", help="Host images may be fetched from; *.example.org, or * for every public one."),
    ] = None,
    max_hd: Annotated[int, typer.Option("--max-hd", min=1, help="Most tiles a request may ask for.")] = 55,
    max_images: Annotated[int, typer.Option("--max-images", min=0, help="Most images of a request.")] = 16,
    max_pixels: Annotated[int, typer.Option("--max-pixels", min=1, help="Most pixels of an image.")] = 50_000_000,
    max_body_mb: Annotated[int, typer.Option("--max-body-mb", min=1, help="Most megabytes of a request.")] = 64,
    max_new_tokens: Annotated[int | None, typer.Option("--max-new-tokens", min=1, help="Longest answer.")] = None,
    max_waiting: Annotated[int, typer.Option("--max-waiting", min=1, help="Most requests running and waiting.")] = 64,
    max_waiting_tokens: Annotated[
        int | None, typer.Option("--max-waiting-tokens", min=1, help="Most tokens running and waiting.")
    ] = None,
    drain_seconds: Annotated[
        int, typer.Option("--drain-seconds", min=0, help="Longest time for answers to end after SIGTERM.")
    ] = 120,
    device: Device = "auto",
    dtype: Dtype = "auto",
    plora: Plora = "low_rank",
    compile: Compile = False,
    tile_cache: TileCache = None,
    prefix_cache: PrefixCache = None,
    engine: Annotated[
        str, typer.Option("--engine", help="light: one answer at a time, with a page; vllm; auto: vllm if installed.")
    ] = "auto",
) -> None:
    """Serve an OpenAI API, with vLLM where it is installed, else one answer at a time and with a page at /.

    SIGTERM finishes what was taken in.
    """
    from ixc.serving.backend import choose

    check_tiling(hd, partition)
    check_run(device=device, dtype=dtype, plora=plora, compile=compile, prefix_cache=prefix_cache)
    hosts = _hosts(fetch_from or [])
    chosen = choose(engine)
    own = engine_options(plora=plora, compile=compile, tile_cache=tile_cache, prefix_cache=prefix_cache)
    if chosen == "vllm" and own != engine_options(plora="low_rank", compile=False):
        raise UsageError(
            "--plora, --compile, --tile-cache and --prefix-cache are of the light server, and vLLM has its own ways; "
            "leave them out or use --engine light"
        )
    check_model(model)
    _need_extra()
    from ixc.serving.fetch import Fetcher
    from ixc.serving.image_input import ImageInput, Limits
    from ixc.serving.server import listen, run

    limits = Limits(
        max_body_bytes=max_body_mb * 1_000_000,
        max_bodies_bytes=4 * max_body_mb * 1_000_000,
        max_images=max_images,
        max_pixels=max_pixels,
        max_hd=max(max_hd, hd or 1),
        max_new_tokens=max_new_tokens,
        max_waiting_requests=max_waiting,
        max_waiting_tokens=max_waiting_tokens,
    )
    door = ImageInput(limits=limits, fetcher=Fetcher(hosts=hosts))
    key = api_key or os.environ.get(KEY_VARIABLE) or None
    if chosen == "vllm":
        _become_vllm(model, name, door, hd, partition, key, host, port, drain_seconds, device=device, dtype=dtype)
    listening = listen(host, port)
    desk = _desk(model, name, door, hd, partition, key, host, device=device, dtype=dtype, own=own)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}"
    run(desk, listening=listening, drain_seconds=drain_seconds, ready=lambda: print(f"ready: {address}", flush=True))


def _desk(
    model: Path | None,
    name: str | None,
    door: ImageInput,
    hd: int | None,
    partition: str | None,
    key: str | None,
    host: str,
    *,
    device: str,
    dtype: str,
    own: dict[str, Any],
) -> ChatService:
    """The loaded model behind its door."""
    from ixc.inference.cost import read_geometry
    from ixc.inference.model_folder import found
    from ixc.serving.app import ChatService, Settings
    from ixc.serving.middleware import LOOPBACK

    folder = found(model)
    settings = Settings(
        name=name or folder.resolve().name,
        geometry=read_geometry(folder),
        door=door,
        hd=hd,
        partition=partition,
        api_key=key,
        hosts=LOOPBACK if host in LOOPBACK else (),
    )
    return ChatService(load_engine(model, device=device, dtype=dtype, **own), settings)


def _become_vllm(
    model: Path | None,
    name: str | None,
    door: ImageInput,
    hd: int | None,
    partition: str | None,
    key: str | None,
    host: str,
    port: int,
    drain_seconds: int,
    *,
    device: str,
    dtype: str,
) -> None:
    """Prints the arithmetic and becomes vLLM."""
    import torch

    from ixc.inference.model_folder import found
    from ixc.serving.middleware import LOOPBACK
    from ixc.serving.vllm.launch import VllmConfig, free_memory, settings, start

    if device == "mps" or port == 0:
        raise UsageError("vLLM runs on cpu or cuda, and on a port that is named; use --engine light for mps or port 0")
    folder = found(model)
    launch = settings(
        VllmConfig(
            folder=folder,
            name=name or folder.resolve().name,
            host=host,
            port=port,
            hd=hd,
            partition=partition,
            dtype=dtype,
            accelerated=device != "cpu" and torch.cuda.is_available(),
            memory=free_memory(),
            limits=door.limits,
            drain_seconds=drain_seconds,
            fetch_from=door.fetcher.hosts,
            hosts=LOOPBACK if host in LOOPBACK else (),
            api_key=key,
        )
    )
    print(*launch.lines, sep="\n", flush=True)
    start(launch)


def _hosts(names: list[str]) -> tuple[str, ...]:
    for name in names:
        host, colon, port = name.partition(":")
        if not host or "/" in name or "@" in name or (colon and not (port.isdecimal() and 0 < int(port) < 65536)):
            raise UsageError(f"--fetch-from {name!r} is no host; write images.example.org or images.example.org:8443")
    return tuple(names)


def _need_extra() -> None:
    """One line that names the extra."""
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UsageError(f"{error.name} is missing; pip install 'ixc-4khd[serve]'") from error
