"""What people see: the files of the page, and what it asks besides OpenAI's API.

/  /page/...    its files: static, from no other host
/plan           what a picture's size costs
/pdf            a page of a PDF as a picture
/attention      where an answer looked
"""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from ixc.core import chat_format
from ixc.inference import attention_maps
from ixc.inference.attention_maps import AttentionMaps
from ixc.inference.cost import plan as plan_of
from ixc.processing.pdf_process import page_as_png
from ixc.serving.openai import ApiError, ChatRequest, quote, read_json

if TYPE_CHECKING:
    from ixc.serving.app import ChatService
    from ixc.serving.jobs import GenerationJob

PAGE = Path(__file__).parent / "page"
"""The files of the page."""

SCRIPT = "text/javascript"
PAGE_KINDS = {"page.css": "text/css", "page.js": SCRIPT, "view.js": SCRIPT, "export_request.js": SCRIPT}
"""File beside index.html -> its type."""

PDF_START = "data:application/pdf;base64,"
"""How a document comes."""


def add_web_ui(app: FastAPI, service: ChatService) -> None:
    """Adds the routes."""
    _add_files(app)
    drawing = asyncio.Semaphore(1)

    @app.get("/plan")
    async def plan(request: Request) -> Response:
        asked = request.query_params
        width, height, hd = (_number(asked.get(key), key) for key in ("width", "height", "hd"))
        if width is None or height is None:
            raise ApiError("width and height are missing; ask /plan?width=3840&height=2160&hd=25")
        return JSONResponse(plan_for(service, width, height, hd, asked.get("partition")))

    @app.post("/pdf")
    async def page(request: Request) -> Response:
        async with service.bodies.read(request) as body, drawing:
            file, number = _read_pdf(read_json(body))
            pages, picture = await asyncio.to_thread(page_as_png, file, number)
        url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        return JSONResponse({"pages": pages, "page": number, "image": url})

    @app.post("/attention")
    async def attention(request: Request) -> Response:
        if not attention_maps.possible(service.engine):
            raise ApiError("this engine does not give attention", status=501, code="no_attention")
        asked, job = await service.admit(request)
        count = _answer_tokens(service, asked)
        found = await _alone(service, job, count)
        return JSONResponse({"answer_tokens": count, "images": [_as_dict(each) for each in found]})


def plan_for(service: ChatService, width: int, height: int, hd: int | None, partition: str | None) -> dict[str, Any]:
    """What a picture of this size costs; sizes in px and tokens, seconds to read it.

    Raises:
        UsageError: no such rule, or no partition.
    """
    most = service.image_input.limits.max_hd
    if hd is not None and not 1 <= hd <= most:
        raise ApiError(f"hd is {quote(hd)}; use 1 to {most}", param="hd")
    found = plan_of(
        width,
        height,
        hd=hd or service.settings.hd or 1,
        rule=partition or service.settings.partition or "",
        geometry=service.settings.geometry,
    )
    part, seconds = found.partition, service.worker.seconds(found.image_tokens, sum(found.flops().values()))
    return {
        "width": width, "height": height, "hd": part.hd, "partition": part.rule,
        "grid_h": part.grid_h, "grid_w": part.grid_w, "tiles": part.tiles, "overview": found.layout.overview,
        "canvas_width": part.canvas_width, "canvas_height": part.canvas_height,
        "picture_box": list(part.picture_box), "image_tokens": found.image_tokens,
        "positions": found.model.max_positions, "fits": found.fits, "seconds": float(f"{seconds:.2g}"),
    }  # fmt: skip


def _add_files(app: FastAPI) -> None:
    @app.get("/")
    async def index() -> Response:
        return FileResponse(PAGE / "index.html", media_type="text/html")

    @app.get("/page/{name}")
    async def file(name: str) -> Response:
        if name not in PAGE_KINDS:
            raise HTTPException(404)
        return FileResponse(PAGE / name, media_type=PAGE_KINDS[name])


def _number(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 6 and int(text) > 0):
        raise ApiError(f"{name} is {quote(text)}; a whole number from 1 to 999999 is needed", param=name)
    return int(text)


def _read_pdf(asked: Any) -> tuple[bytes, int]:
    file, number = asked.get("file"), asked.get("page", 1)
    if not isinstance(file, str) or not file.startswith(PDF_START):
        raise ApiError(f"file must begin with {PDF_START}", param="file")
    if type(number) is not int or not 1 <= number <= 999_999:
        raise ApiError(f"page is {quote(number)}; a whole number from 1 is needed", param="page")
    try:
        return base64.b64decode(file[len(PDF_START) :].encode("ascii"), validate=True), number
    except ValueError:
        raise ApiError("the file's base64 is broken; encode the whole file anew", param="file") from None


def _answer_tokens(service: ChatService, asked: ChatRequest) -> int:
    """Tokens of the answer that ends the messages."""
    if not asked.prompt_format.continued or asked.prompt_format.published:
        raise ApiError(
            "the last message must be the assistant's answer; set add_generation_prompt: false and "
            "continue_final_message: true",
            param="messages",
        )
    asking = chat_format.Message("user", ("?",))

    def length(*turns: chat_format.Message, continued: bool) -> int:
        segments = chat_format.render(turns, continue_final_message=continued)
        return service.engine.processor.encode_segments([segments], return_tensors="pt")["input_ids"].shape[1]

    return length(asking, asked.messages[-1], continued=True) - length(asking, continued=False)


async def _alone(service: ChatService, job: GenerationJob, answer_tokens: int) -> list[AttentionMaps]:
    """Waits in the queue as any answer does."""
    ticket = service.queue.enter(job.tokens)
    try:
        await ticket.turn()
        work = service.worker.alone(
            lambda: attention_maps.look(service.engine, job.inputs, answer_tokens=answer_tokens)
        )
        return await asyncio.wrap_future(work)
    finally:
        ticket.leave()


def _as_dict(found: AttentionMaps) -> dict[str, Any]:
    """Rows of numbers from 0 to 1, the largest of tiles and overview being 1; `peak` is what 1 stands for."""
    peak = max(float(part.max()) for part in (found.local, found.overview) if part is not None) or 1.0

    def rows(part: Any) -> list[list[float]]:
        return [[round(value, 4) for value in row] for row in (part / peak).tolist()]

    return {
        "grid_h": found.grid[0], "grid_w": found.grid[1], "peak": float(f"{peak:.3g}"),
        "tiles_share": round(float(found.local.sum()), 4),
        "overview_share": None if found.overview is None else round(float(found.overview.sum()), 4),
        "local": rows(found.local), "overview": None if found.overview is None else rows(found.overview),
    }  # fmt: skip
