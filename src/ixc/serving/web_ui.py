"""The page for people: its static files, and the routes it uses besides OpenAI's API.

/  /page/...    its files; nothing is loaded from another host
/plan           cost of an image of a given size
/pdf            a page of a PDF as an image
/attention      attention from an answer to its images
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from ixc.core import chat_format
from ixc.inference import attention_maps
from ixc.inference.attention_maps import AttentionMaps
from ixc.inference.cost import plan as plan_of
from ixc.inference.evidence import Box, canvas_boxes
from ixc.processing.pdf_process import page_as_png
from ixc.serving.errors import ApiError, quote
from ixc.serving.openai import ChatRequest, read_json
from ixc.utils.data_url import DataUrlError, decode_data_url

if TYPE_CHECKING:
    from ixc.serving.service import ChatService

PAGE = Path(__file__).parent / "page"
"""Folder of the page's files."""

SCRIPT = "text/javascript"
PAGE_KINDS = {"page.css": "text/css", "page.js": SCRIPT, "view.js": SCRIPT, "export_request.js": SCRIPT}
"""Name of a file beside index.html -> its MIME type."""

PDF_HEAD = "data:application/pdf;base64,"
"""Beginning of a document, shown in errors; parameters and another MIME type are accepted."""


def add_web_ui(app: FastAPI, service: ChatService) -> None:
    """Add the page's routes to an application."""
    _add_files(app)
    _add_plan(app, service)
    _add_pdf(app, service)
    _add_attention(app, service)


def _add_files(app: FastAPI) -> None:
    @app.get("/")
    async def index() -> Response:
        return FileResponse(PAGE / "index.html", media_type="text/html")

    @app.get("/page/{name}")
    async def file(name: str) -> Response:
        if name not in PAGE_KINDS:
            raise HTTPException(404)
        return FileResponse(PAGE / name, media_type=PAGE_KINDS[name])


def _add_plan(app: FastAPI, service: ChatService) -> None:
    @app.get("/plan")
    async def plan(request: Request) -> Response:
        query = request.query_params
        width, height, hd = (_read_number(query.get(key), key) for key in ("width", "height", "hd"))
        if width is None or height is None:
            raise ApiError("width and height are missing; ask /plan?width=3840&height=2160&hd=25")
        return JSONResponse(plan_for(service, width, height, hd, query.get("partition")))


def _add_pdf(app: FastAPI, service: ChatService) -> None:
    rendering = asyncio.Semaphore(1)  # one page at a time: each may take the whole limit of memory

    @app.post("/pdf")
    async def page(request: Request) -> Response:
        async with service.bodies.read(request) as body, rendering:
            file, number = _read_pdf(read_json(body))
            pages, picture = await asyncio.to_thread(page_as_png, file, number)
        url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        return JSONResponse({"pages": pages, "page": number, "image": url})


def _add_attention(app: FastAPI, service: ChatService) -> None:
    @app.post("/attention")
    async def attention(request: Request) -> Response:
        if not attention_maps.is_supported(service.engine):
            raise ApiError("this engine does not give attention", status=501, code="no_attention")
        asked, job = await service.admit(request)
        count = _count_answer_tokens(service, asked)
        maps = await service.run_alone(
            job.tokens, lambda: attention_maps.compute(service.engine, job.inputs, answer_tokens=count)
        )
        images = [_as_dict(each, boxes) for each, boxes in zip(maps, canvas_boxes(maps), strict=True)]
        return JSONResponse({"answer_tokens": count, "images": images})


def plan_for(service: ChatService, width: int, height: int, hd: int | None, partition: str | None) -> dict[str, Any]:
    """Return the cost of an image: grid, sizes in px and tokens, and seconds of prefill.

    Args:
        service: gives the defaults and the measured speed.
        width, height: of the image, px.
        hd, partition: None = the server's.

    Raises:
        UsageError: no such rule, or no partition.
    """
    most = service.image_input.limits.max_hd
    if hd is not None and not 1 <= hd <= most:
        raise ApiError(f"hd is {quote(hd)}; use 1 to {most}", param="hd")
    plan = plan_of(
        width,
        height,
        hd=hd or service.hd,
        rule=partition or service.partition,
        geometry=service.config.geometry,
    )
    part, seconds = plan.partition, service.worker.prefill_seconds(plan.image_tokens, sum(plan.flops().values()))
    return {
        "width": width, "height": height, "hd": part.hd, "partition": part.rule,
        "grid_h": part.grid_h, "grid_w": part.grid_w, "tiles": part.tiles, "overview": plan.layout.overview,
        "canvas_width": part.canvas_width, "canvas_height": part.canvas_height,
        "picture_box": list(part.picture_box), "image_tokens": plan.image_tokens,
        "positions": plan.model.max_positions, "fits": plan.fits, "seconds": float(f"{seconds:.2g}"),
    }  # fmt: skip


def _read_number(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    # isascii: isdecimal alone takes Arabic-Indic digits and others, which int reads too.
    if not (text.isascii() and text.isdecimal() and len(text) <= 6 and int(text) > 0):
        raise ApiError(f"{name} is {quote(text)}; a whole number from 1 to 999999 is needed", param=name)
    return int(text)


def _read_pdf(body: Mapping[str, Any]) -> tuple[bytes, int]:
    """Return a document's bytes and the number of the page asked for."""
    file, number = body.get("file"), body.get("page", 1)
    if not isinstance(file, str):
        raise ApiError(f"file must be a data URL that begins with {PDF_HEAD}", param="file")
    if type(number) is not int or not 1 <= number <= 999_999:
        raise ApiError(f"page is {quote(number)}; a whole number from 1 is needed", param="page")
    try:
        return decode_data_url(file), number
    except DataUrlError as error:
        raise ApiError(f"file: {error}; send {PDF_HEAD}... of the whole file", param="file") from None


def _count_answer_tokens(service: ChatService, asked: ChatRequest) -> int:
    """Return the tokens of the answer that ends the messages."""
    if not asked.prompt_format.continue_final_message or asked.prompt_format.published:
        raise ApiError(
            "the last message must be the assistant's answer; set add_generation_prompt: false and "
            "continue_final_message: true",
            param="messages",
        )
    question = chat_format.Message("user", ("?",))

    def length(*turns: chat_format.Message, continued: bool) -> int:
        segments = chat_format.render(turns, continue_final_message=continued)
        return service.engine.processor.encode_segments([segments], return_tensors="pt")["input_ids"].shape[1]

    return length(question, asked.messages[-1], continued=True) - length(question, continued=False)


def _as_dict(maps: AttentionMaps, boxes: Sequence[tuple[Box, float]]) -> dict[str, Any]:
    """Return rows of numbers from 0 to 1, 1 being the largest of tiles and overview; `peak` is its attention.

    `boxes` are the evidence of the answer, as shares of the canvas.
    """
    peak = max(float(part.max()) for part in (maps.local, maps.overview) if part is not None) or 1.0

    def rows(part: Any) -> list[list[float]]:
        return [[round(value, 4) for value in row] for row in (part / peak).tolist()]

    return {
        "grid_h": maps.grid[0], "grid_w": maps.grid[1], "peak": float(f"{peak:.3g}"),
        "tiles_share": round(float(maps.local.sum()), 4),
        "overview_share": None if maps.overview is None else round(float(maps.overview.sum()), 4),
        "local": rows(maps.local), "overview": None if maps.overview is None else rows(maps.overview),
        "boxes": [{"box": box, "share": share} for box, share in boxes],
    }  # fmt: skip
