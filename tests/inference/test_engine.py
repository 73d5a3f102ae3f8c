"""The engine on a tiny random model: what comes back, streaming, history, defaults and refusals."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from ixc.core import chat_format, tiling
from ixc.core.token_layout import num_image_tokens
from ixc.errors import CapacityError, ContextError, GeometryError, ImageError, UsageError, WeightsError
from ixc.inference import model_folder
from ixc.inference.engine import Engine, load
from ixc.inference.request import conversation, open_picture
from ixc.inference.sampling import ORIGINAL_CHAT, Sampling
from ixc.inference.streaming import token_stream
from ixc.inference.text_pieces import text_pieces

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
