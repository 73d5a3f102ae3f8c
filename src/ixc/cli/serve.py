"""The command `ixc serve`: an OpenAI API over one model, with vLLM or with the light server and its page."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixc.cli.checks import check_model, check_run
from ixc.cli.options import (
    CacheMemory,
    Compile,
    Device,
    Dtype,
    FixedHd,
    Model,
    Partition,
    Plora,
    PrefixCache,
    TileCache,
    engine_options,
    examples,
    load_engine,
    takes,
)
from ixc.core.tiling import MAX_HD
from ixc.errors import MissingPackageError, UsageError
from ixc.inference.settings import check_tiling

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ixc.serving.image_input import ImageInput
    from ixc.serving.service import ChatService
    from ixc.serving.vllm.launch import Launch

KEY_VARIABLE = "IXC_API_KEY"
"""Where the key is read when the option is missing: other users see the options of a process."""

_ORIGIN = re.compile(r"(?P<scheme>https?)://([a-z0-9._-]+|\[[0-9a-f:]+\])(?P<port>:[1-9][0-9]{0,4})?")

SERVE_EXAMPLES = examples(
    "ixc serve",
    "ixc serve --model ./ixc-4khd-7b --hd 25 --port 8080",
    "ixc serve --engine light",
    "ixc serve --engine vllm --lora passes=runs/passes",
    "IXC_API_KEY=secret ixc serve --host 0.0.0.0 --fetch-from images.example.org",
)


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Options of `ixc serve`; None where the option was not given."""

    model: Model = None
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 is every one.")] = "127.0.0.1"
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 8000
    hd: FixedHd = None
    partition: Partition = None
    name: Annotated[str | None, typer.Option("--name", help="The model's name for clients; default: its folder's.")] = (
        None
    )
    api_key: Annotated[
        str | None, typer.Option("--api-key", help=f"Key clients must send; better in {KEY_VARIABLE}.")
    ] = None
    fetch_from: Annotated[
        list[str] | None,
        typer.Option("--fetch-from", help="Host images may be fetched from; *.example.org, or * for every public one."),
    ] = None
    allow_origin: Annotated[
        list[str] | None,
        typer.Option("--allow-origin", help="Origin whose pages may ask from a browser, as https://app.example.org."),
    ] = None
    max_hd: Annotated[int, typer.Option("--max-hd", min=1, max=MAX_HD, help="Most tiles a request may ask for.")] = 55
    max_images: Annotated[int, typer.Option("--max-images", min=0, help="Most images of a request.")] = 16
    max_pixels: Annotated[int, typer.Option("--max-pixels", min=1, help="Most pixels of an image.")] = 50_000_000
    max_body_mb: Annotated[int, typer.Option("--max-body-mb", min=1, help="Most megabytes of a request.")] = 64
    max_new_tokens: Annotated[int | None, typer.Option("--max-new-tokens", min=1, help="Longest answer.")] = None
    max_waiting: Annotated[int, typer.Option("--max-waiting", min=1, help="Most requests running and waiting.")] = 64
    max_waiting_tokens: Annotated[
        int | None, typer.Option("--max-waiting-tokens", min=1, help="Most tokens running and waiting.")
    ] = None
    drain_seconds: Annotated[
        int, typer.Option("--drain-seconds", min=0, help="Longest time for answers to end after SIGTERM.")
    ] = 120
    device: Device = "auto"
    dtype: Dtype = "auto"
    plora: Plora = "separate"
    compile: Compile = False
    tile_cache: TileCache = None
    prefix_cache: PrefixCache = None
    cache_memory: CacheMemory = None
    engine: Annotated[
        str, typer.Option("--engine", help="light: one process, with a page; vllm; auto: vllm if installed.")
    ] = "auto"
    lora: Annotated[
        list[str] | None,
        typer.Option("--lora", help="NAME=DIR: a LoRA adapter that clients ask for as model NAME; vLLM only."),
    ] = None

    @property
    def key(self) -> str | None:
        """The key of the option or of the environment; None = no key."""
        return self.api_key or os.environ.get(KEY_VARIABLE) or None

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names clients may call the server by: checked where only this machine reaches it, else any."""
        from ixc.serving.middleware import LOOPBACK

        return LOOPBACK if self.host in LOOPBACK else ()


@takes(ServeOptions)
def serve(options: ServeOptions) -> None:
    """Serve an OpenAI API, with vLLM where it is installed, else in one process, with a page at /.

    On SIGTERM the server finishes the requests it has admitted.
    """
    from ixc.serving.backend import choose_engine

    check_tiling(options.hd, options.partition)
    check_run(device=options.device, dtype=options.dtype, **_engine_options(options))
    _check_hosts(options.fetch_from or [])
    _check_origins(options.allow_origin or [])
    engine = choose_engine(options.engine)
    if engine == "vllm":
        _check_vllm_options(options)
    elif options.lora:
        raise UsageError(
            f"--lora {options.lora[0]} names an adapter, and the light server serves none by name; merge it with "
            "`ixc merge`, or use --engine vllm"
        )
    adapters = _adapters(options.lora or [])
    check_model(options.model)
    _check_extra()
    if engine == "vllm":
        from ixc.serving.vllm.launch import exec_vllm

        launch = _vllm_launch(options, adapters)
        print(*launch.lines, sep="\n", flush=True)
        exec_vllm(launch)
    else:
        _serve_light(options)


def _serve_light(options: ServeOptions) -> None:
    """Load the model behind a listening socket and serve until a signal."""
    from ixc.serving.server import listen, run

    listening = listen(options.host, options.port)
    service = _chat_service(options)
    host = f"[{options.host}]" if ":" in options.host else options.host
    url = f"http://{host}:{listening.getsockname()[1]}"
    run(
        service,
        listening=listening,
        drain_seconds=options.drain_seconds,
        ready=lambda: print(f"ready: {url}", flush=True),
    )


def _chat_service(options: ServeOptions) -> ChatService:
    """Load the model and build its service."""
    from ixc.inference.cost import read_geometry
    from ixc.inference.model_folder import find_folder
    from ixc.serving.service import ChatService, ServiceConfig

    folder = find_folder(options.model)
    config = ServiceConfig(
        name=options.name or folder.resolve().name,
        geometry=read_geometry(folder),
        image_input=_image_input(options),
        hd=options.hd,
        partition=options.partition,
        api_key=options.key,
        hosts=options.hosts,
        origins=tuple(options.allow_origin or ()),
    )
    engine = load_engine(options.model, device=options.device, dtype=options.dtype, **_engine_options(options))
    return ChatService(engine, config)


def _vllm_launch(options: ServeOptions, adapters: Mapping[str, Path]) -> Launch:
    """Work out vLLM's command for this machine."""
    import torch

    from ixc.inference.model_folder import find_folder
    from ixc.serving.vllm.launch import VllmConfig, build_launch, free_memory

    folder, image_input = find_folder(options.model), _image_input(options)
    return build_launch(
        VllmConfig(
            folder=folder,
            name=options.name or folder.resolve().name,
            host=options.host,
            port=options.port,
            hd=options.hd,
            partition=options.partition,
            dtype=options.dtype,
            accelerated=options.device != "cpu" and torch.cuda.is_available(),
            memory=free_memory(),
            limits=image_input.limits,
            drain_seconds=options.drain_seconds,
            fetch_from=image_input.fetcher.hosts,
            hosts=options.hosts,
            origins=tuple(options.allow_origin or ()),
            api_key=options.key,
            adapters=adapters,
        )
    )


def _image_input(options: ServeOptions) -> ImageInput:
    """Limits of requests, and the hosts that images are fetched from."""
    from ixc.serving.fetch import Fetcher
    from ixc.serving.image_input import ImageInput, Limits

    limits = Limits(
        max_body_bytes=options.max_body_mb * 1_000_000,
        max_bodies_bytes=4 * options.max_body_mb * 1_000_000,
        max_images=options.max_images,
        max_pixels=options.max_pixels,
        max_hd=max(options.max_hd, options.hd or 1),
        max_new_tokens=options.max_new_tokens,
        max_waiting_requests=options.max_waiting,
        max_waiting_tokens=options.max_waiting_tokens,
    )
    return ImageInput(limits=limits, fetcher=Fetcher(hosts=tuple(options.fetch_from or ())))


def _engine_options(options: ServeOptions) -> dict[str, Any]:
    """Options of `inference.engine.load` for the light server."""
    return engine_options(
        plora=options.plora,
        compile=options.compile,
        tile_cache=options.tile_cache,
        prefix_cache=options.prefix_cache,
        cache_memory=options.cache_memory,
    )


def _check_vllm_options(options: ServeOptions) -> None:
    """Refuse options that have no effect on vLLM. Raises: UsageError."""
    if _engine_options(options) != engine_options(plora="separate", compile=False):
        raise UsageError(
            "--plora, --compile, --tile-cache, --prefix-cache and --cache-memory are of the light server, and vLLM has "
            "its own ways; leave them out or use --engine light"
        )
    if options.device == "mps" or options.port == 0:
        raise UsageError("vLLM runs on cpu or cuda, and on a port that is named; use --engine light for mps or port 0")


def _adapters(words: Sequence[str]) -> dict[str, Path]:
    """Return the adapters' folders by name. Raises: UsageError: another form, a name given twice, no adapter there."""
    from ixc.train.adapter_files import find_adapter

    found: dict[str, Path] = {}
    for word in words:
        name, _, folder = word.partition("=")
        if not (name and folder):
            raise UsageError(f"--lora {word!r} is no NAME=DIR; write --lora passes=runs/passes")
        if name in found:
            raise UsageError(f"--lora names {name!r} twice; give each adapter a name of its own")
        found[name] = find_adapter(Path(folder)).resolve()
    return found


def _check_hosts(names: list[str]) -> None:
    """Check the form of hosts to fetch from. Raises: UsageError."""
    for name in names:
        host, colon, port = name.partition(":")
        if not host or "/" in name or "@" in name or (colon and not (port.isdecimal() and 0 < int(port) < 65536)):
            raise UsageError(f"--fetch-from {name!r} is no host; write images.example.org or images.example.org:8443")


def _check_origins(origins: list[str]) -> None:
    """Check that origins have the form in which browsers send theirs: scheme, host in lower case, port unless it is the
    scheme's. "*" is none: every page that a user of this machine opens could ask. Raises: UsageError."""
    for origin in origins:
        found = _ORIGIN.fullmatch(origin)
        if found is None or found["port"] == {"http": ":80", "https": ":443"}[found["scheme"]]:
            raise UsageError(
                f"--allow-origin {origin!r} is no origin; write https://app.example.org or http://localhost:3000, "
                "one for each option"
            )


def _check_extra() -> None:
    """Check that the libraries of the extra `serve` are installed. Raises: MissingPackageError, naming the extra."""
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(f"{error.name} is missing; pip install 'ixc-4khd[serve]'") from error
