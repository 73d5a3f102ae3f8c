"""The runner against OpenAI-compatible servers: one address, or several replicas of one model.

    blocks --pages, at most `concurrency` at once--> the replica with the fewest pages --> rows --> BlockResult

All questions about a page go to one replica, one after the other, so that its caches meet the picture again; behind a
router the header `x-ixc-image` says the same. The SDK retries while a server is busy and follows its Retry-After. A
replica that cannot be reached is left out and asked again after `REVIVE_SECONDS`; its pages go to the others. When none
is left, the run ends with one line, and the blocks that are not done stay so.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from itertools import count
from typing import Any

from ixc.apps.reading.local import block_pages
from ixc.apps.reading.opening import OpenedPage, PageOpener
from ixc.apps.reading.records import Block, BlockResult, Page, Question, ReadSettings, Row, failed_row
from ixc.errors import EndpointError, IxcError, UnreachableError, UsageError
from ixc.inference.sampling import GREEDY, Sampling
from ixc.processing.image_formats import HEAD_BYTES, format_of
from ixc.utils.chat_client import Endpoint, connect, post, text_of

IMAGE_HEADER = "x-ixc-image"
"""A router sends equal values to one replica (`deploy/`)."""

REVIVE_SECONDS = 15.0
"""How long a replica that could not be reached is left out."""

SENT_AS_THEY_ARE = ("PNG", "JPEG", "WebP")
"""Formats whose files are sent unchanged; other pictures and pages of documents are sent as PNG."""


class _Replicas:
    """The servers, and how many pages each has."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._lock = threading.Lock()
        self._busy = {each: 0 for each in endpoints}
        self._dead: dict[Endpoint, tuple[float, UnreachableError]] = {}

    def take(self, *, besides: set[Endpoint]) -> Endpoint:
        """Return the server with the fewest pages.

        Args:
            besides: servers that could not be reached for this page.

        Raises:
            UnreachableError: none can be reached.
        """
        with self._lock:
            now = time.monotonic()
            alive = [each for each in self._busy if each not in self._dead and each not in besides]
            again = [each for each, (since, _) in self._dead.items() if now - since > REVIVE_SECONDS]
            usable = alive or [each for each in again if each not in besides]
            if not usable:
                raise self._none_left()
            if again and again[0] not in besides:
                usable = [again[0]]
                self._dead[again[0]] = (now, self._dead[again[0]][1])  # one page tries it, not all
            chosen = min(usable, key=lambda each: self._busy[each])
            self._busy[chosen] += 1
            return chosen

    def give_back(self, endpoint: Endpoint, error: UnreachableError | None = None) -> None:
        """Note that a page is done; with an error the server is left out for a while."""
        with self._lock:
            self._busy[endpoint] -= 1
            if error is not None:
                self._dead[endpoint] = (time.monotonic(), error)
            else:
                self._dead.pop(endpoint, None)

    def _none_left(self) -> UnreachableError:
        reasons = [str(error) for _, error in self._dead.values()]
        reason = reasons[-1] if reasons else "no reason is known"
        return UnreachableError(f"0 of {len(self._busy)} servers can be reached; the last one: {reason}")


@dataclass(kw_only=True)
class _Pending:
    """A block whose pages are being asked about."""

    block: Block
    rows: dict[int, list[Row]] = field(default_factory=dict)
    """Index of the page -> its rows."""
    left: int = 0
    """Pages without rows."""
    warnings: list[str] = field(default_factory=list)

    def result(self) -> BlockResult:
        rows = [row for at in sorted(self.rows) for row in self.rows[at]]
        return BlockResult(number=self.block.number, rows=rows, warnings=tuple(self.warnings))


class EndpointRunner:
    """Answers blocks through servers.

    Args:
        endpoints: replicas of one model, as `chat_client.connect` returns them.
        settings: of the run.
        concurrency: pages asked about at once, >= 1.
        on_page: called for every page that was answered.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        settings: ReadSettings,
        *,
        concurrency: int,
        on_page: Callable[[], None] = lambda: None,
    ) -> None:
        check_options(settings)
        self._on_page = on_page
        self.endpoints, self.settings, self.concurrency = tuple(endpoints), settings, concurrency
        self._local = threading.local()
        self._openers: list[PageOpener] = []

    def run(self, blocks: Iterable[Block]) -> Iterator[BlockResult]:
        """Answer the blocks, several at once. Raises: UnreachableError: no server can be reached any more."""
        replicas, numbers = _Replicas(self.endpoints), count()
        pending: dict[int, _Pending] = {}
        running: dict[Future[tuple[list[Row], tuple[str, ...]]], tuple[int, int]] = {}
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            for block in blocks:
                asked, key = block_pages(block, len(self.settings.questions)), next(numbers)
                pending[key] = _Pending(block=block, left=len(asked))
                for at, questions in asked:
                    while len(running) >= 2 * self.concurrency:
                        yield from self._finished(running, pending)
                    running[pool.submit(self._page, block.pages[at], questions, replicas)] = key, at
            while running:
                yield from self._finished(running, pending)
        finally:
            pool.shutdown(cancel_futures=True)
            for opener in self._openers:
                opener.close()
            self._openers.clear()

    def _finished(
        self, running: dict[Future[Any], tuple[int, int]], pending: dict[int, _Pending]
    ) -> Iterator[BlockResult]:
        """Wait for a page, and yield the blocks that are whole with it."""
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            key, at = running.pop(future)
            each = pending[key]
            each.rows[at], warnings = future.result()
            each.warnings += warnings
            each.left -= 1
            self._on_page()
            if not each.left:
                yield pending.pop(key).result()

    def _page(self, page: Page, only: frozenset[int], replicas: _Replicas) -> tuple[list[Row], tuple[str, ...]]:
        questions = [each for index, each in enumerate(self.settings.questions) if index in only]
        opened = self._opener().open(page)
        if opened.image is None:
            seconds = opened.seconds / len(questions)
            return [failed_row(page, q, self.settings, opened.error, seconds=seconds) for q in questions], ()
        data = self._data(opened)
        tried: set[Endpoint] = set()
        while True:
            endpoint = replicas.take(besides=tried)
            failure: UnreachableError | None = None
            try:
                rows = [self._row(endpoint, page, question, data) for question in questions]
                return rows, tuple(f"{page.name}: {text}" for text in opened.warnings)
            except UnreachableError as error:
                failure = error
                tried.add(endpoint)
            finally:
                replicas.give_back(endpoint, failure)

    def _opener(self) -> PageOpener:
        if not hasattr(self._local, "opener"):
            self._local.opener = PageOpener(self.settings.rendering)
            self._openers.append(self._local.opener)
        return self._local.opener

    def _data(self, opened: OpenedPage) -> bytes:
        """Return the file of a picture as it is where every server reads it, else the page as PNG."""
        assert opened.image is not None
        if not opened.page.paged:
            source = self._opener().source(opened.page.file)
            data = source if isinstance(source, bytes) else source.read_bytes()
            known = format_of(data[:HEAD_BYTES])
            if known is not None and known.name in SENT_AS_THEY_ARE:
                return data
        out = BytesIO()
        opened.image.save(out, "PNG", compress_level=1)  # 3 times as fast as 6, and a tenth larger
        return out.getvalue()

    def _row(self, endpoint: Endpoint, page: Page, question: Question, data: bytes) -> Row:
        start = time.perf_counter()
        try:
            found = post(endpoint, *self._request(question, data), headers={IMAGE_HEADER: sha256(data).hexdigest()})
            text = text_of(endpoint, found)
        except UnreachableError:
            raise
        except IxcError as error:
            return failed_row(page, question, self.settings, error, seconds=time.perf_counter() - start)
        usage = found.get("usage") or {}
        return Row(
            file=page.file.name,
            page=page.number,
            question=question.text,
            column=question.column,
            answer=text,
            tokens=usage.get("total_tokens"),
            seconds=time.perf_counter() - start,
            model=self.settings.model,
            hd=self.settings.options.get("hd"),
        )

    def _request(self, question: Question, data: bytes) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return the messages of a question and the other fields of its request."""
        known = format_of(data[:HEAD_BYTES])
        url = f"data:{'image/png' if known is None else known.mime};base64,{base64.b64encode(data).decode()}"
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question.text}]
        turns: list[dict[str, Any]] = [{"role": "user", "content": content}]
        options = self.settings.options
        if options.get("system"):
            turns.insert(0, {"role": "system", "content": options["system"]})
        body: dict[str, Any] = _sampling_fields(options.get("sampling") or GREEDY)
        if (longest := question.max_new_tokens or options.get("max_new_tokens")) is not None:
            body["max_tokens"] = longest
        if options.get("hd") is not None:
            body["mm_processor_kwargs"] = {"hd": options["hd"]}
        if options.get("stop"):
            body["stop"] = list(options["stop"])
        if question.schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": dict(question.schema)},
            }
        return turns, body


def check_options(settings: ReadSettings) -> None:
    """Refuse options that no request carries. Raises: UsageError."""
    if settings.options.get("partition") is not None:
        raise UsageError("--partition is a setting of the server; leave it out with --endpoint")


def _sampling_fields(sampling: Sampling) -> dict[str, Any]:
    if sampling.num_beams > 1:
        return {"temperature": 0, "use_beam_search": True, "n": sampling.num_beams}
    if not sampling.do_sample:
        return {"temperature": 0}
    fields = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    return fields | ({} if sampling.seed is None else {"seed": sampling.seed})


def check_same_model(endpoints: Sequence[Endpoint]) -> str:
    """Return the served name of all endpoints. Raises: EndpointError: they serve several models."""
    names = sorted({each.model for each in endpoints})
    if len(names) > 1:
        raise EndpointError(f"the servers serve {' and '.join(names)}; name one with --model")
    return names[0]


def connect_any(urls: Sequence[str], *, model: str | None, **options: Any) -> tuple[list[Endpoint], list[str]]:
    """Connect to the servers; one that cannot be reached is left out while another can.

    Args:
        urls: addresses.
        model: served name; None = the first one that the first server lists.
        options: other fields of `Endpoint`.

    Returns:
        The servers, and a line about each that was left out.

    Raises:
        UnreachableError, EndpointError, UsageError: of the last one, where none can be used.
    """
    found: list[Endpoint] = []
    notes: list[str] = []
    for url in urls:
        try:
            found.append(connect(url, model=model, **options))
        except EndpointError as error:
            if url == urls[-1] and not found:
                raise
            notes.append(str(error))
    return found, notes
