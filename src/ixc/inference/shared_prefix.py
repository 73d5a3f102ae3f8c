"""Several questions about each of several pages: a page's pictures are prefilled once for all its questions.

    pages --encode--> rows of prefixes, padded on the left --one prefill--> keys and values, a row a page
          --a copy for each question--> rows [pad prefix][pad question] --generate--> answers in order

A prefix ends with the last image token; the questions behind it are padded between prefix and text, and both paddings
are masked, so that positions count on as if a row were alone. Answers are those of each question alone up to rounding,
as in `batch.py`, which answers what does not fit here: sampling, beams, history, no picture, a compiled model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch
from transformers import DynamicCache

from ixc.errors import IxcError
from ixc.inference.batch import MAX_POSITIONS, BatchItem, answer_queries, query_item, requests_of
from ixc.inference.engine import Engine
from ixc.inference.query import Query
from ixc.inference.request import Answer, lower_hd, open_picture
from ixc.inference.sampling import Sampling
from ixc.model.transformers_contract import CACHE_NAME
from ixc.utils.device import explain_out_of_memory

IMAGE = 1
"""Token type of an image's tokens."""


@dataclass(frozen=True, kw_only=True)
class _Page:
    """The questions about one page that are answered here."""

    places: tuple[tuple[int, int], ...]
    """(page, question) of each item in the caller's lists."""
    items: tuple[BatchItem, ...]
    """One a question, all of one setting and with the same pictures."""

    @property
    def positions(self) -> int:
        """Prompt positions of all rows."""
        return len(self.items) * max(item.length for item in self.items)


def answer_pages(
    engine: Engine, pages: Sequence[Sequence[Query]], *, positions: int = MAX_POSITIONS
) -> list[list[Answer | IxcError]]:
    """Return for every query of every page its answer, or the error that names it.

    Args:
        engine: model and processor.
        pages: the queries of each page; those of one page have the same pictures.
        positions: most prompt positions computed together, unless the questions of one page have more.
    """
    found: dict[tuple[int, int], Answer | IxcError] = {}
    shared = [page for at, queries in enumerate(pages) for page in _shared(engine, at, queries)]
    for group in _groups(shared, positions):
        found |= _answer_group(engine, group)
    rest = [
        (at, index) for at, queries in enumerate(pages) for index in range(len(queries)) if (at, index) not in found
    ]
    alone = answer_queries(engine, [pages[at][index] for at, index in rest], positions=positions)
    found |= dict(zip(rest, alone, strict=True))
    return [[found[at, index] for index in range(len(queries))] for at, queries in enumerate(pages)]


def _shared(engine: Engine, at: int, queries: Sequence[Query]) -> list[_Page]:
    """Return the queries of a page by their setting; those that are left out are answered by `batch.py`."""
    if engine.compiled is not None or not queries or any(not _fits(query, queries[0]) for query in queries):
        return []
    by_setting: dict[Any, list[tuple[tuple[int, int], BatchItem]]] = {}
    try:
        images = [open_picture(image) for image in queries[0].images]
        for index, query in enumerate(queries):
            item = query_item(engine, index, f"question {index + 1}", replace(query, images=images))
            if item is not None:
                by_setting.setdefault(item.setting, []).append(((at, index), item))
    except IxcError:  # batch.py names the one at fault
        return []
    return [
        _Page(places=tuple(place for place, _ in found), items=tuple(item for _, item in found))
        for found in by_setting.values()
    ]


def _fits(query: Query, first: Query) -> bool:
    decoding = query.decoding
    same = len(query.images) == len(first.images) and all(
        a is b or a == b for a, b in zip(query.images, first.images, strict=True)
    )
    return bool(
        query.images
        and same
        and not query.history
        and decoding.is_beam_search_only
        and decoding.num_beams == 1
        and (query.hd, query.partition, query.system) == (first.hd, first.partition, first.system)
    )


def _groups(pages: Sequence[_Page], positions: int) -> list[list[_Page]]:
    """Group pages of one setting and similar length, at most `positions` long together."""
    groups: list[list[_Page]] = []
    for page in sorted(pages, key=lambda page: (page.items[0].setting, -page.items[0].length, page.places)):
        group = groups[-1] if groups else []
        rows = sum(len(each.items) for each in group) + len(page.items)
        longest = max((item.length for each in group for item in each.items), default=0)
        if group and group[0].items[0].setting == page.items[0].setting and rows * longest <= positions:
            group.append(page)
        else:
            groups.append([page])
    return groups


def _answer_group(engine: Engine, group: Sequence[_Page]) -> dict[tuple[int, int], Answer | IxcError]:
    """Return the answers by place; of a group that fails none, so that `batch.py` finds out which question it was."""
    try:
        answers = _generate(engine, group)
    except Exception:  # of any library beneath: one question must not cost the others their answers
        return {} if len(group) == 1 else {k: v for page in group for k, v in _answer_group(engine, [page]).items()}
    return dict(zip([place for page in group for place in page.places], answers, strict=True))


@torch.inference_mode()
def _generate(engine: Engine, group: Sequence[_Page]) -> list[Answer]:
    start, setting = perf_counter(), group[0].items[0].setting
    processor, device = engine.processor, engine.model.device
    inputs: dict[str, Any] = processor.encode_segments(
        [page.items[0].segments for page in group],
        hd=setting.hd,
        partition=setting.partition,
        padding_side="left",
        return_tensors="pt",
    )
    prefixes, questions = _rows(engine, group, inputs)
    owners = [at for at, page in enumerate(group) for _ in page.items]
    left = _padded(prefixes, processor.tokenizer.pad_token_id)
    right = _padded(questions, processor.tokenizer.pad_token_id)
    ids = torch.cat([left["input_ids"][owners], right["input_ids"]], dim=1)
    mask = torch.cat([left["attention_mask"][owners], right["attention_mask"]], dim=1)
    what = f"{len(ids)} x {ids.shape[1]:,} tokens of prompt"
    with explain_out_of_memory(what, device, engine.model.dtype, lower_hd(setting.hd)):
        types = (left["input_ids"] == engine.model.config.image_token_id).long()
        prompt = {**inputs, **left, "mm_token_type_ids": types}
        cache = _prefilled(engine, prompt)
        cache.batch_select_indices(torch.tensor(owners, device=device))
        chosen = Sampling().arguments(
            prompt_tokens=ids.shape[1], has_images=True, start_id=processor.tokenizer.bos_token_id
        )
        output = engine.model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            image_spans=(),
            max_new_tokens=setting.max_new_tokens,
            **{CACHE_NAME: cache},
            **chosen,
        )
    items = [item for page in group for item in page.items]
    grids = [inputs["image_grids"][first:last] for first, last in _image_ranges(group)]
    described = {"attention_mask": mask, "image_grids": torch.cat([grids[at] for at in owners])}
    seconds = perf_counter() - start
    tokens = output[:, ids.shape[1] :].tolist()
    requests = requests_of(items, described)
    return [engine.preparer.answer(row, new, seconds=seconds) for row, new in zip(requests, tokens, strict=True)]


def _rows(engine: Engine, group: Sequence[_Page], inputs: Mapping[str, Any]) -> tuple[list[list[int]], list[list[int]]]:
    """Return the prefix of every page and the tokens behind it of every question.

    Raises:
        ValueError: the prompts of a page differ before its last image token.
    """
    prefixes: list[list[int]] = []
    questions: list[list[int]] = []
    for row, (page, (first, last)) in enumerate(zip(group, _image_ranges(group), strict=True)):
        own = {"image_grids": inputs["image_grids"][first:last]}
        seen = inputs["attention_mask"][row].bool()
        types = inputs["mm_token_type_ids"][row][seen]
        end = int((types == IMAGE).nonzero()[-1]) + 1
        whole = inputs["input_ids"][row][seen].tolist()
        prefixes.append(whole[:end])
        questions.append(whole[end:])
        for item in page.items[1:]:
            ids = engine.processor.encode_beside(item.segments, own)["input_ids"][0].tolist()
            if ids[:end] != whole[:end]:
                raise ValueError("the prompts of a page differ before its last image token")
            questions.append(ids[end:])
    return prefixes, questions


def _image_ranges(group: Sequence[_Page]) -> list[tuple[int, int]]:
    """Return (first, behind the last) of every page's images among those of the group."""
    found, first = [], 0
    for page in group:
        found.append((first, first := first + len(page.items[0].image_tokens)))
    return found


def _padded(rows: Sequence[Sequence[int]], pad: int | None) -> dict[str, torch.Tensor]:
    """Return rows padded on the left to the longest: input_ids and attention_mask, (B, T) long."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad or 0)
    mask = torch.zeros_like(ids)
    for at, row in enumerate(rows):
        ids[at, longest - len(row) :] = torch.tensor(row)
        mask[at, longest - len(row) :] = 1
    return {"input_ids": ids, "attention_mask": mask}


def _prefilled(engine: Engine, prompt: Mapping[str, Any]) -> DynamicCache:
    """Return the keys and values of the prefixes, a row a page."""
    arguments = engine.generator.encode_images(prompt)
    mask = arguments["attention_mask"]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=engine.model.config.text_config)
    engine.model.model(**arguments, position_ids=positions, use_cache=True, **{CACHE_NAME: cache})
    return cache
