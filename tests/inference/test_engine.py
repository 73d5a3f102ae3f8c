"""The engine on a tiny random model: what comes back, streaming, history, defaults and refusals."""

import shutil
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ixc.cli.options import add_processor
from ixc.core import chat_format, tiling
from ixc.core.tiling import MAX_HD
from ixc.core.token_layout import num_image_tokens
from ixc.errors import (
    CapacityError,
    ContextError,
    GeometryError,
    ImageError,
    MissingFolderError,
    UsageError,
    WeightsError,
)
from ixc.inference import model_folder, row_batch
from ixc.inference.engine import Engine, load, read_engine_options
from ixc.inference.query import Query, QueryOptions
from ixc.inference.request import Answer, conversation, open_picture
from ixc.inference.sampling import ORIGINAL_CHAT, Sampling
from ixc.inference.settings import EngineOptions
from ixc.inference.stop_texts import StopWatcher, before_stop_text
from ixc.inference.streaming import token_stream
from ixc.inference.text_pieces import text_pieces
from ixc.model import loading
from ixc.model.quantization.convert import quantize

QUESTION = "What is the title?"


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return load(tiny_folder, device="cpu")


def test_engine_defaults_are_those_of_the_folder(engine: Engine, page: Path) -> None:
    answer = engine.ask([page], QUESTION)
    assert (answer.hd, answer.partition, answer.grids) == (9, "native", ((1, 2),))
    assert answer.image_tokens == (num_image_tokens(1, 2),)
    assert answer.prompt_tokens > answer.image_tokens[0]
    assert 0 <= answer.new_tokens <= 12  # the folder's generation config


def test_engine_ask_paths_bytes_and_pictures_agree(engine: Engine, page: Path) -> None:
    with Image.open(page) as picture:
        answers = {engine.ask([image], QUESTION).text for image in (page, str(page), page.read_bytes(), picture)}
    assert len(answers) == 1


def test_engine_ask_settings_per_call(engine: Engine, page: Path) -> None:
    answer = engine.ask([page], QUESTION, hd=1, partition="original", max_new_tokens=3)
    assert (answer.hd, answer.partition, answer.grids) == (1, "original", ((1, 1),))
    assert answer.new_tokens <= 3


@pytest.mark.parametrize("question", [QUESTION, "x", "How much is Tea?", "[UNUSED_TOKEN_145]<ImageHere>"])
def test_engine_stream_gives_the_text_of_ask(engine: Engine, page: Path, question: str) -> None:
    pieces = list(engine.stream([page], question))
    assert "".join(pieces) == engine.ask([page], question).text


def test_engine_stream_ignores_beams_of_the_folder(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.model.generation_config, "num_beams", 3)
    assert "".join(engine.stream([], "x")) == engine.ask([], "x").text


def test_engine_ask_two_pictures_and_text_alone(engine: Engine, page: Path) -> None:
    assert len(engine.ask([page, page], QUESTION).grids) == 2
    alone = engine.ask([], QUESTION)
    assert (alone.grids, alone.image_tokens) == ((), ())


def test_engine_ask_history_puts_the_picture_into_the_first_turn(engine: Engine, page: Path) -> None:
    first = engine.ask([page], "a")
    later = engine.ask([page], "a", history=[("b", "c")])
    assert later.image_tokens == first.image_tokens
    turns = conversation([Image.new("RGB", (9, 9))], "a", [("b", "c")])
    assert [turn.role for turn in turns] == ["user", "assistant", "user"]
    assert [len(turn.content) for turn in turns] == [2, 1, 1]
    assert later.prompt_tokens > first.prompt_tokens


def test_engine_ask_text_longer_than_the_context(engine: Engine) -> None:
    with pytest.raises(ContextError, match=r"3,0\d\d tokens.*2,048 positions.*use"):
        engine.ask([], "a" * 3000)
    with pytest.raises(ContextError, match=r"2,040 of answer.*2,048.*or at most 2,0\d\d of answer"):
        engine.ask([], "a", max_new_tokens=2040)


def test_engine_ask_may_fill_the_context(engine: Engine) -> None:
    room_left = engine.context - engine.ask([], "a" * 1000).prompt_tokens
    nearly = "a" * (1000 + room_left - 1)
    assert engine.ask([], nearly).new_tokens <= 1


@pytest.mark.parametrize("hd", [0, -1])
def test_engine_ask_hd_below_one(engine: Engine, page: Path, hd: int) -> None:
    with pytest.raises(GeometryError, match=f"at least 1, got {hd}"):
        engine.ask([page], QUESTION, hd=hd)


def test_engine_wrong_calls(engine: Engine, page: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="max_new_tokens is 0"):
        engine.ask([page], QUESTION, max_new_tokens=0)
    with pytest.raises(UsageError, match="2 beams cannot be streamed"):
        engine.stream([page], QUESTION, sampling=Sampling(num_beams=2))
    with pytest.raises(UsageError, match="no evidence; call ask"):
        engine.stream([page], QUESTION, evidence=True)
    with pytest.raises(UsageError, match="character 2 of 2 of the text"):
        engine.ask([], "a\udcff")
    with pytest.raises(UsageError, match="give a list"):
        engine.ask(str(page), QUESTION)
    with pytest.raises(GeometryError, match="original, native, fit"):
        engine.stream([page], QUESTION, partition="golden")
    with pytest.raises(ImageError, match="no file"):
        engine.stream([tmp_path / "none.png"], QUESTION)  # before the first piece is asked for


def test_engine_stream_passes_errors_on(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("some kernel")

    monkeypatch.setattr(engine.model, "generate", fail)
    with pytest.raises(RuntimeError, match="some kernel"):
        list(engine.stream([], "a"))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried to"), MemoryError()])
def test_engine_full_memory_is_one_line(engine: Engine, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(engine.model, "generate", fail)
    with pytest.raises(
        CapacityError, match=r"\d+ tokens .* up to 12 of answer in float32 .* cpu; use a lower hd \(9 now\)"
    ):
        engine.ask([], "a")
    with pytest.raises(CapacityError):
        list(engine.stream([], "a"))


def test_load_full_memory_is_one_line(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.Module, "to", fail)
    with pytest.raises(CapacityError, match=r"0\.0 GB of weights .* in float32 do not fit the memory of cpu; use"):
        load(tiny_folder, device="cpu")


def test_engine_ask_truncated_picture_opened_lazily(engine: Engine, page: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.png"
    cut.write_bytes(page.read_bytes()[:-200])
    with Image.open(cut) as picture, pytest.raises(ImageError, match=r"cut\.png is broken or cut short"):
        engine.ask([picture], QUESTION)


def test_sampling(engine: Engine, page: Path) -> None:
    drawn = Sampling(do_sample=True, temperature=2.0, seed=3)
    state = torch.get_rng_state()
    texts = [engine.ask([page], "x", sampling=drawn).text for _ in range(2)]
    assert texts[0] == texts[1] == "".join(engine.stream([page], "x", sampling=drawn))
    assert torch.equal(torch.get_rng_state(), state)
    assert len({engine.ask([], "x", sampling=replace(drawn, seed=seed)).text for seed in range(6)}) > 1
    assert engine.ask([page], "x", sampling=Sampling(num_beams=3)).text
    assert engine.ask([page], "x", sampling=ORIGINAL_CHAT).hd == 9


def test_original_chat_penalises_answers_to_images_only() -> None:
    given = {"prompt_tokens": 40, "start_id": 1}
    pictured, alone = (ORIGINAL_CHAT.arguments(has_images=seen, **given) for seen in (True, False))
    assert (alone["do_sample"], alone["temperature"], alone["top_p"], alone["num_beams"]) == (True, 1.0, 0.8, 1)
    assert alone["repetition_penalty"] == 1.005
    (penalty,) = pictured["logits_processor"]
    assert (penalty.penalty, penalty.prompt_length, penalty.start_id) == (1.005, 40, 1)
    assert "repetition_penalty" not in pictured


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_beams": 0}, "num_beams is 0"),
        ({"do_sample": True, "temperature": 0.0}, "temperature is 0.0"),
        ({"repetition_penalty": -1.0}, "repetition_penalty -1.0"),
        ({"do_sample": True, "top_p": 1.5}, "top_p is 1.5"),
        ({"top_p": 0.8}, "no effect without do_sample"),
        ({"seed": 1}, "no effect without do_sample"),
    ],
)
def test_sampling_used_wrongly(fields: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Sampling(**fields)


def test_token_stream_closed_early_stops_the_thread() -> None:
    stopped = []

    def generate(*, streamer, stopping_criteria) -> None:  # type: ignore[no-untyped-def]
        ids = torch.zeros(1, 1, dtype=torch.long)
        streamer.put(ids)
        for token in range(10**9):
            streamer.put(torch.tensor([token]))
            if bool(stopping_criteria[0](ids, ids)[0]):
                stopped.append(token)
                return

    tokens = token_stream(generate)
    assert [next(tokens) for _ in range(3)] == [0, 1, 2]
    tokens.close()
    assert stopped


def test_text_pieces_keep_a_character_of_several_tokens_whole() -> None:
    data = "aä中b".encode()
    pieces = list(text_pieces(iter(data), decode=lambda ids: bytes(ids).decode(errors="replace")))
    assert pieces == ["a", "ä", "中", "b"]
    cut = list(text_pieces(iter(data[:5]), decode=lambda ids: bytes(ids).decode(errors="replace")))
    assert "".join(cut) == "aä�"


def test_text_pieces_of_the_tokenizer_join_to_the_whole(engine: Engine) -> None:
    embedded = load(device="cpu").processor
    generator = torch.Generator().manual_seed(0)
    for processor in (embedded, engine.processor):
        for _ in range(20):
            ids = torch.randint(3, len(processor.tokenizer) - 8, (60,), generator=generator).tolist()
            assert "".join(text_pieces(iter(ids), decode=processor.decode_answer)) == processor.decode_answer(ids)


def test_text_pieces_decode_a_number_of_tokens_linear_in_the_answer() -> None:
    decoded: list[int] = []

    def decode(ids: list[int]) -> str:
        decoded.append(len(ids))
        return bytes(ids).decode()

    assert "".join(text_pieces(iter(b"abcd" * 500), decode=decode)) == "abcd" * 500
    assert sum(decoded) <= 4 * 2000


def test_prepare_computes_a_partition_once(engine: Engine) -> None:
    picture = Image.new("RGB", (641, 223))
    before = tiling._partition.cache_info()
    engine.preparer.prepare([picture], QUESTION, hd=7, partition="fit")
    after = tiling._partition.cache_info()
    assert after.misses - before.misses == 1
    assert after.hits > before.hits  # the image processor's look-up


def test_prepare_segments_equals_prepare(engine: Engine, page: Path) -> None:
    one = engine.preparer.prepare([page], QUESTION, hd=2)
    turns = conversation([open_picture(page)], QUESTION, ())
    other = engine.preparer.prepare_segments(chat_format.render(turns, system=engine.processor.system), hd=2)
    assert one.inputs.keys() == other.inputs.keys()
    assert all(torch.equal(value, other.inputs[name]) for name, value in one.inputs.items())
    assert (one.image_tokens, one.max_new_tokens) == (other.image_tokens, other.max_new_tokens)


def test_load_without_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match=r"no model folder .*check the path"):
        load(tmp_path / "none")
    with pytest.raises(WeightsError, match=r"has no config\.json"):
        load(tmp_path)
    monkeypatch.setattr(model_folder, "EMBEDDED", tmp_path / "nano")
    with pytest.raises(WeightsError, match="carries no embedded model"):
        load()


def test_device_and_dtype(tiny_folder: Path) -> None:
    assert load(tiny_folder, device="cpu").model.dtype is torch.float32
    assert load(tiny_folder, device="cpu", dtype="bfloat16").model.dtype is torch.bfloat16
    with pytest.raises(UsageError, match="no dtype 'int3'; use auto, float32"):
        load(tiny_folder, dtype="int3")
    with pytest.raises(UsageError, match="no device 'tpu'; use auto, cpu"):
        load(tiny_folder, device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="0 cuda devices"):
            load(tiny_folder, device="cuda")


# -- queries, stop texts, system text ---------------------------------------------------------------------------------


def queries(page: Path) -> list[Query]:
    """Questions of every kind that a batch may hold."""
    drawn = Sampling(do_sample=True, temperature=2.0, seed=3)
    return [
        Query([page], "a"),
        Query([page, page], "What differs?", hd=1),
        Query([], "Hello"),
        Query([page], "a", max_new_tokens=3),
        Query([page], "a", sampling=Sampling(num_beams=3)),
        Query([page], "a", sampling=drawn),
        Query([page], "a", sampling=replace(drawn, seed=4)),
        Query([page], "b", partition="original", hd=4),
        Query([page], "a", system="Answer at once."),
        Query([page], "a", history=[("b", "c"), ("d", "e")]),
        Query([page], "a", sampling=Sampling(repetition_penalty=1.5)),
        Query([page], "a", stop=["e", "a"]),
        Query([], "x" * 1700),  # the context may cut this answer
    ]


def test_engine_batch_equals_every_question_alone(engine: Engine, page: Path) -> None:
    asked = queries(page)
    alone = [replace(engine.answer(query), seconds=0) for query in asked]
    found = [replace(answer, seconds=0) for answer in engine.batch(asked)]
    assert found == alone
    assert [replace(answer, seconds=0) for answer in engine.batch(asked[::-1])] == alone[::-1]
    assert len({answer.text for answer in alone}) > 6


def test_engine_batch_generates_rows_of_one_setting_together(
    engine: Engine, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    real = engine.model.generate

    def generate(**given):  # type: ignore[no-untyped-def]
        rows.append(len(given["input_ids"]))
        return real(**given)

    monkeypatch.setattr(engine.model, "generate", generate)
    monkeypatch.setattr(row_batch, "usable", lambda engine: False)  # as of a model on a GPU
    engine.batch([Query([page], text, max_new_tokens=2) for text in "abcde"])
    assert rows == [5]


def test_engine_batch_errors_name_their_question(engine: Engine, page: Path, tmp_path: Path) -> None:
    asked = [Query([page], "a"), Query([tmp_path / "none.png"], "a"), Query([page], "b" * 4000)]
    with pytest.raises(ImageError, match=r"^question 2: no file"):
        engine.batch(asked)
    first, second, third = engine.batch(asked, return_errors=True)
    assert isinstance(first, Answer)
    assert isinstance(second, ImageError)
    assert isinstance(third, ContextError)
    assert str(third).startswith("question 3: ")
    assert engine.batch([]) == []


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"images": "a.png"}, UsageError, "images is one str; give a list"),
        ({"stop": "end"}, UsageError, "stop is the text 'end'; give a list"),
        ({"stop": ["a", ""]}, UsageError, "a stop text is empty"),
        ({"hd": MAX_HD + 1}, GeometryError, f"at most {MAX_HD}, got {MAX_HD + 1}; use 25"),
        ({"hd": 0}, GeometryError, "at least 1, got 0"),
        ({"partition": "golden"}, GeometryError, "original, native, fit"),
        ({"max_new_tokens": 0}, UsageError, "max_new_tokens is 0"),
        ({"system": "a\udcff"}, UsageError, "character 2 of 2"),
        ({"history": [("a\udcff", "b")]}, UsageError, "character 2 of 2"),
    ],
)
def test_query_used_wrongly(fields: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        Query(**{"images": [], "question": "a", **fields})


def test_query_options_are_the_fields_of_a_query() -> None:
    assert set(QueryOptions.__annotations__) == {each.name for each in dataclass_fields(Query)} - {"images", "question"}


def test_engine_ask_unknown_option(engine: Engine) -> None:
    with pytest.raises(TypeError, match="temperature"):
        engine.ask([], "a", temperature=0.5)  # type: ignore[call-arg]


def test_engine_stop_texts_end_an_answer(engine: Engine, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = engine.ask([page], "a")
    assert len(whole.text) > 5
    stop = whole.text[3:5]
    cut = engine.ask([page], "a", stop=[stop])
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.new_tokens < whole.new_tokens  # generation ends, it is not only cut
    assert "".join(engine.stream([page], "a", stop=[stop])) == cut.text
    beams = Sampling(num_beams=2)
    best = engine.ask([page], "a", sampling=beams).text
    assert engine.ask([page], "a", sampling=beams, stop=[best[2:4]]).text == best[: best.index(best[2:4])]


def test_engine_system_text_replaces_the_folders(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = engine.ask([], "a")
    told = engine.ask([], "a", system="Be brief.")
    assert told.prompt_tokens > plain.prompt_tokens
    monkeypatch.setattr(engine.processor, "system", "Be brief.")
    assert engine.ask([], "a").prompt_tokens == told.prompt_tokens
    assert engine.ask([], "a", system="").prompt_tokens == plain.prompt_tokens


def test_engine_system_text_is_refused_by_a_model_without_system_turns() -> None:
    embedded = load(device="cpu")
    for call in (embedded.ask, embedded.stream):
        with pytest.raises(UsageError, match="never taught system turns"):
            call([], "a", system="Be brief.")
    with pytest.raises(UsageError, match=r"question 1: .*never taught system turns"):
        embedded.batch([Query([], "a", system="Be brief.")])
    assert embedded.ask([], "a", system="").text == embedded.ask([], "a").text


@given(pieces=st.lists(st.text("ab", max_size=3)), stops=st.lists(st.text("ab", min_size=1, max_size=3), max_size=3))
def test_before_stop_text_is_the_text_before_the_first(pieces: list[str], stops: list[str]) -> None:
    """In however many pieces it comes."""
    whole = "".join(pieces)
    ends = [whole.find(stop) for stop in stops if stop in whole]
    assert "".join(before_stop_text(iter(pieces), stops)) == whole[: min(ends, default=len(whole))]


@given(text=st.text("abc", max_size=30), stops=st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_stop_watcher_finds_what_is_there(text: str, stops: list[str]) -> None:
    watcher = StopWatcher(lambda ids: "".join(map(chr, ids)), stops)
    for place, letter in enumerate(text):
        watcher.add(ord(letter))
        assert watcher.found == any(stop in text[: place + 1] for stop in stops)


# -- load -------------------------------------------------------------------------------------------------------------


def test_load_options_are_those_that_are_read() -> None:
    assert set(read_engine_options({})) == set(EngineOptions.__annotations__)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attn_implementation": "fast"}, "no attention implementation 'fast'; use one of sdpa"),
        ({"attn_implementation": "flash_attention_2"}, "flash_attention_2 runs on cuda .* use sdpa"),
        ({"attn_implementation": "flex_attention"}, "flex_attention runs on cuda, not on cpu"),
        ({"device_map": "everywhere"}, "no device_map 'everywhere'; use one of auto"),
        ({"device_map": "auto", "device": "cpu"}, "device_map and device exclude each other"),
        ({"device_map": "auto", "compile": True, "plora": "auto"}, "device_map and compile, plora exclude"),
        ({"device_map": "auto", "quantization": "int8"}, "device_map and quantization exclude"),
        ({"quantization": "int3"}, "no quantization 'int3'; use one of int8, int4"),
        ({"revision": "v1"}, "revision 'v1' has no effect on the folder"),
        ({"tile_cash": 1}, "load has no option tile_cash; use one of tile_cache"),
        ({"tile_cache": -1}, "tile_cache is -1"),
    ],
)
def test_load_used_wrongly(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, options: dict, words: str) -> None:
    monkeypatch.setattr(loading, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(UsageError, match=words):
        load(tiny_folder, **options)


def test_load_attention_kernels_agree(engine: Engine, tiny_folder: Path, page: Path) -> None:
    other = load(tiny_folder, device="cpu", attn_implementation="eager")
    assert other.model.config.text_config._attn_implementation == "eager"
    assert other.ask([page], QUESTION).text == engine.ask([page], QUESTION).text


@pytest.mark.parametrize("device_map", ["auto", {"": "cpu"}])
def test_load_device_map(
    engine: Engine, tiny_folder: Path, page: Path, device_map: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("accelerate", reason="device_map needs accelerate")
    if torch.cuda.is_available():
        pytest.skip("the answers of a GPU are compared in test_gpu.py")
    passed: list[dict[str, Any]] = []
    real = loading.load
    monkeypatch.setattr(loading, "load", lambda *given, **more: passed.append(more) or real(*given, **more))
    other = load(tiny_folder, device_map=device_map)
    assert passed[0]["device_map"] == device_map
    assert other.ask([page], QUESTION).text == engine.ask([page], QUESTION).text


@pytest.mark.parametrize(("name", "bits"), [("int8", 8), ("int4", 4)])
def test_load_quantization_equals_a_quantized_folder(
    tiny_folder: Path, tmp_path: Path, page: Path, name: str, bits: int
) -> None:
    folder = quantize(tiny_folder, tmp_path / "small", bits=bits, complete=add_processor)
    one, other = load(folder, device="cpu"), load(tiny_folder, device="cpu", quantization=name)
    theirs = dict(other.model.state_dict())
    for key, value in one.model.state_dict().items():
        assert torch.equal(value, theirs.pop(key))
    assert not theirs
    assert one.ask([page], QUESTION).text == other.ask([page], QUESTION).text
    with pytest.raises(UsageError, match=f"holds weights of {bits} bits already; leave quantization out"):
        load(folder, device="cpu", quantization=name)
    with pytest.raises(UsageError, match="device_map has no effect on the quantized weights"):
        load(folder, device_map="auto")


def test_load_from_the_hubs_cache(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `hf download owner/name` leaves it: refs/REVISION names a commit, snapshots/COMMIT holds the files."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    commit = "0123456789" * 4
    cached = tmp_path / "models--owner--name"
    shutil.copytree(tiny_folder, cached / "snapshots" / commit)
    for revision in ("main", "v2"):
        (cached / "refs").mkdir(exist_ok=True)
        (cached / "refs" / revision).write_text(commit)
    for options in ({}, {"revision": "v2"}, {"revision": commit}):
        assert load("owner/name", device="cpu", **options).ask([], "a").text
    with pytest.raises(MissingFolderError, match=r"no revision v3 .* hf download owner/name --revision v3"):
        load("owner/name", revision="v3")
    with pytest.raises(MissingFolderError, match="no model folder owner/other"):
        load("owner/other")
    with pytest.raises(MissingFolderError, match="no model folder a/b/c; check the path"):
        load("a/b/c")
