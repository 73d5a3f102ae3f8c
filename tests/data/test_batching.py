"""Records, mixtures and batches: what must be exactly true of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

from ixc.core.chat_format import IGNORED
from ixc.data.batching import Batches, BatchSettings, collate
from ixc.data.encoding import Encoder, TokenCache, TokenizedRecord
from ixc.data.mixture import Mixture, Source, StreamPosition
from ixc.data.records import JsonLines, Record
from ixc.data.validation import DataReport, check, validate
from ixc.errors import DataError, UsageError
from ixc.model.loading import load
from ixc.processing.processing import IxcProcessor

SIZES = [(300, 200), (700, 400), (336, 1000), (1200, 300), (40, 40), (500, 900), (672, 672), (900, 330)]


def written(folder: Path, *, name: str = "talks.jsonl", count: int = 8, pictures: bool = True) -> JsonLines:
    """Conversations of different lengths; every third has two turns."""
    lines = []
    for i in range(count):
        turns = [("human", f"{'<ImageHere>' * pictures}What is {i}?"), ("gpt", f"It is {i * 7919}.")]
        turns += [("human", "Sure?"), ("gpt", "Yes.")] * (i % 3 == 0)
        record: dict[str, object] = {"conversations": [{"from": who, "value": text} for who, text in turns]}
        if pictures:
            record["image"] = [f"{i}.png"]
            Image.effect_noise(SIZES[i % len(SIZES)], 60).convert("RGB").save(folder / f"{i}.png")
        lines.append(json.dumps(record))
    (folder / name).write_text("\n".join(lines))
    return JsonLines(folder / name)


@pytest.fixture(scope="module")
def processor(tiny_folder: Path) -> IxcProcessor:
    return IxcProcessor.from_pretrained(tiny_folder)


@pytest.fixture(scope="module")
def encoder(processor: IxcProcessor) -> Encoder:
    return Encoder(processor, max_seq_length=2048)


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> JsonLines:
    return written(tmp_path_factory.mktemp("talks"))


# -- records ----------------------------------------------------------------------------------------------------------


def test_json_lines_both_forms_and_a_list_read_the_same(tmp_path: Path) -> None:
    original = {
        "image": ["a.png"],
        "conversations": [{"from": "human", "value": "<ImageHere>Why?"}, {"from": "gpt", "value": "So."}],
    }
    chat = {
        "images": ["a.png"],
        "messages": [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Why?"}]},
            {"role": "assistant", "content": "So."},
        ],
    }
    (tmp_path / "lines.jsonl").write_text(f"{json.dumps(original)}\n\n{json.dumps(chat)}")
    (tmp_path / "list.json").write_text(
        json.dumps([original, {**chat, "id": "ü"}, original], indent=1, ensure_ascii=False)
    )
    lines, whole = JsonLines(tmp_path / "lines.jsonl"), JsonLines(tmp_path / "list.json")
    assert len(lines) == 2
    assert len(whole) == 3
    assert {record.messages for record in (*map(lines.__getitem__, range(2)), *map(whole.__getitem__, range(3)))} == {
        lines[0].messages
    }
    assert lines[1].where.endswith("lines.jsonl line 3")
    assert whole[1].where.endswith("list.json line 17")
    assert lines[0].images == [str(tmp_path / "a.png")]


@pytest.mark.parametrize("quirks", [True, False])
def test_encoder_equals_processor_encode_training(talks: JsonLines, processor: IxcProcessor, quirks: bool) -> None:
    other = IxcProcessor(processor.image_processor, processor.tokenizer, published_quirks=quirks)
    for i in range(4):
        wanted = other.encode_training(talks[i].messages, hd=4, partition="native", return_tensors="pt")
        found = collate([Encoder(other, max_seq_length=2048).encode(talks[i], hd=4, partition="native")])
        assert set(found) == set(wanted) - {"attention_mask"} | {"position_ids"}
        for key in set(found) & set(wanted):
            assert torch.equal(found[key], torch.as_tensor(wanted[key])), key


def test_validation_check_counts(talks: JsonLines, encoder: Encoder) -> None:
    report = check(talks, encoder, hd=4, partition="native")
    assert (report.records, report.images, report.problems) == (8, 8, [])
    assert report.tokens[4] == [encoder.text(talks[i], hd=4, partition="native").tokens for i in range(8)]
    assert sum(report.histogram(55)) == 8
    assert sum(report.tokens[55]) > sum(report.tokens[4])
    assert json.loads(json.dumps(report.as_dict()))["tokens"]["HD-4"]["sum"] == sum(report.tokens[4])
    assert "8 records, 8 usable; 8 images" in report.text()[0]


# -- mixtures ---------------------------------------------------------------------------------------------------------


class Numbers:
    """A source whose records are numbers."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Record:
        return Record(where=f"row {index}", messages=())


START = StreamPosition()


def drawn(mixture: Mixture, count: int, place: StreamPosition = START) -> list[tuple[str, int]]:
    found = []
    for _ in range(count):
        draw = mixture.sample(place)
        found.append((draw.source.name, draw.index))
        place = mixture.advance(place, 1)
    return found


def test_mixture_round_samples_records_by_weight() -> None:
    mixture = Mixture(
        [
            Source(name="a", records=Numbers(10), hd=25),
            Source(name="b", records=Numbers(4), hd=55, weight=2),
            Source(name="c", records=Numbers(9), hd=25, weight=1 / 3),
        ],
        seed=3,
    )
    assert mixture.round_length == 21
    assert mixture.shares() == {"a": 10 / 21, "b": 8 / 21, "c": 3 / 21}
    counts = Counter(drawn(mixture, 21))
    assert [counts["a", i] for i in range(10)] == [1] * 10
    assert [counts["b", i] for i in range(4)] == [2] * 4
    three = Counter(drawn(mixture, 63))  # a third of c in each round: all of it in three
    assert [three["c", i] for i in range(9)] == [1] * 9


def test_mixture_resumes_from_two_integers() -> None:
    sources = [Source(name="a", records=Numbers(7), hd=9), Source(name="b", records=Numbers(5), hd=9, weight=1.4)]
    whole = drawn(Mixture(sources, seed=1), 100)
    assert whole != drawn(Mixture(sources, seed=2), 100)
    for stop in (0, 1, 13, 14, 15, 77):
        mixture = Mixture(sources, seed=1)
        place = mixture.advance(StreamPosition(), stop)
        assert place == StreamPosition(*divmod(stop, 14))
        assert whole[stop:] == drawn(mixture, 100 - stop, place)


def test_mixture_unshuffled_source_keeps_its_order() -> None:
    mixture = Mixture(
        [Source(name="a", records=Numbers(5), hd=9), Source(name="b", records=Numbers(6), hd=9, shuffle=False)]
    )
    assert [i for name, i in drawn(mixture, 33) if name == "b"] == list(range(6)) * 3


def test_mixture_usable_records_and_wrong_sources() -> None:
    mixture = Mixture([Source(name="a", records=Numbers(9), hd=9, indices=[2, 5])])
    assert {i for _, i in drawn(mixture, 6)} == {2, 5}
    with pytest.raises(UsageError, match="weight 0, above 0 needed"):
        Mixture([Source(name="a", records=Numbers(9), hd=9, weight=0)])
    with pytest.raises(UsageError, match="2 sources have 1 names"):
        Mixture([Source(name="a", records=Numbers(9), hd=9)] * 2)
    with pytest.raises(DataError, match="0 usable records"):
        Mixture([Source(name="a", records=Numbers(9), hd=9, indices=[])])


def test_batches_dynamic_hd_lies_between_image_size_and_hd(talks: JsonLines, encoder: Encoder) -> None:
    mixture = Mixture([Source(name="a", records=talks, hd=9, dynamic=True)])
    batches = Batches(
        mixture, encoder, settings=BatchSettings(global_batch_size=8, max_tokens_per_batch=2048), partition="original"
    )
    settings = [
        s.hd for number in range(6) for packs in batches.step(StreamPosition(number, 0)).packs[0] for s in packs
    ]
    assert set(settings) <= set(range(1, 10))
    assert len(set(settings)) > 4


# -- batches ----------------------------------------------------------------------------------------------------------


def batches_of(
    talks: JsonLines, encoder: Encoder, *, world_size: int = 1, max_tokens: int = 2048, samples: int = 8
) -> Batches:
    mixture = Mixture([Source(name="a", records=talks, hd=4)])
    settings = BatchSettings(global_batch_size=samples, max_tokens_per_batch=max_tokens, world_size=world_size)
    return Batches(mixture, encoder, settings=settings, partition="native")


def test_batches_packs_keep_max_tokens_and_lose_nothing(talks: JsonLines, encoder: Encoder) -> None:
    for world_size in (1, 2, 4):
        step = batches_of(talks, encoder, world_size=world_size).step(StreamPosition())
        assert len({len(packs) for packs in step.packs}) == 1
        packs = [pack for mine in step.packs for pack in mine]
        assert sorted(s.sampled.index for pack in packs for s in pack) == list(range(8))
        assert all(sum(s.text.tokens for s in pack) <= 2048 for pack in packs)
        assert max(step.tiles()) - min(step.tiles()) <= 4  # no more than the tiles of one picture
        assert step.position == StreamPosition(1, 0)


def test_pack_never_mixes_hd_settings(talks: JsonLines, encoder: Encoder) -> None:
    sources = [Source(name="a", records=talks, hd=1), Source(name="b", records=talks, hd=3)]
    batches = Batches(
        Mixture(sources), encoder, settings=BatchSettings(global_batch_size=16, max_tokens_per_batch=2048)
    )
    packs = batches.step(StreamPosition()).packs[0]
    assert all(len({s.hd for s in pack}) == 1 for pack in packs)
    assert {s.hd for pack in packs for s in pack} == {1, 3}


def test_collate_packed_step_is_the_mean_of_single_steps(talks: JsonLines, encoder: Encoder, tiny_folder: Path) -> None:
    model = load(tiny_folder).eval()
    wide = Encoder(encoder.processor, max_seq_length=8192)
    encoded = [wide.encode(talks[i], hd=4, partition="native") for i in range(8)]
    items = sum(one.text.num_labels for one in encoded)

    def gradients(batches: list[dict[str, torch.Tensor]]) -> tuple[float, list[torch.Tensor]]:
        model.zero_grad()
        loss = torch.zeros(())
        for batch in batches:
            one = model(**batch, logits_to_keep=1, use_cache=False, num_items_in_batch=items).loss
            one.backward()
            loss += one.detach()
        return loss.item(), [p.grad.clone() for p in model.parameters() if p.grad is not None]

    alone, wanted = gradients([collate([one]) for one in encoded])
    packed, found = gradients([collate(encoded)])
    assert packed == pytest.approx(alone, rel=1e-5)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)  # sums of 8 parts in another order, float32


def test_collate_first_label_of_a_conversation_is_ignored(talks: JsonLines, encoder: Encoder) -> None:
    batch = collate([encoder.encode(talks[i], hd=1, partition="native") for i in range(3)])
    starts = batch["position_ids"][0] == 0
    assert int(starts.sum()) == 3
    assert (batch["labels"][0][starts] == IGNORED).all()
    assert (batch["labels"][0][batch["mm_token_type_ids"][0] == 1] == IGNORED).all()


def test_batches_errors(talks: JsonLines, encoder: Encoder) -> None:
    with pytest.raises(DataError, match=r"talks\.jsonl line \d+: .* a pack holds 300; raise max_tokens_per_batch"):
        batches_of(talks, encoder, max_tokens=300).step(StreamPosition())
    with pytest.raises(UsageError, match="2 samples a step for 4 ranks"):
        BatchSettings(global_batch_size=2, max_tokens_per_batch=2048, world_size=4)
    one = encoder.encode(talks[0], hd=1, partition="native")
    one.text.labels[:] = [IGNORED] * one.text.tokens
    with pytest.raises(DataError, match="labels of a batch of 1 conversations are learned from"):
        collate([one])


# -- tokenised once --


class CountingEncoder(Encoder):
    """Counts how often each record is tokenised."""

    def __init__(self, processor: IxcProcessor, *, max_seq_length: int) -> None:
        super().__init__(processor, max_seq_length=max_seq_length)
        self.counts: Counter[str] = Counter()

    def tokenize(self, record: Record) -> TokenizedRecord:
        self.counts[record.where] += 1
        return super().tokenize(record)


@pytest.mark.parametrize("dynamic", [False, True])
def test_token_cache_tokenizes_a_record_once_in_a_run(talks: JsonLines, processor: IxcProcessor, dynamic: bool) -> None:
    encoder, cache = CountingEncoder(processor, max_seq_length=2048), TokenCache()
    *_, report = validate(talks, encoder, hd=9, token_cache=cache)
    assert isinstance(report, DataReport)
    source = Source(name="a", records=talks, hd=9, dynamic=dynamic, indices=report.usable, token_cache=cache)
    settings = BatchSettings(global_batch_size=4, max_tokens_per_batch=2048)
    batches, position, lengths = Batches(Mixture([source]), encoder, settings=settings), StreamPosition(), []
    for _ in range(4):  # two epochs: validation, planning, tensors
        step = batches.step(position)
        position = step.position
        for one in step.packs[0]:
            assert batches.tensors(one)["input_ids"].shape[1] == sum(each.text.tokens for each in one)
            for each in one:
                lengths.append(each.text)
                assert each.text == Encoder(processor, max_seq_length=2048).text(talks[each.sampled.index], hd=each.hd)
    assert len(lengths) == 16
    assert set(encoder.counts.values()) == {1}
    assert len(encoder.counts) == 8


def test_token_cache_full_or_with_another_tokenizer(talks: JsonLines, processor: IxcProcessor) -> None:
    encoder = CountingEncoder(processor, max_seq_length=2048)
    length = len(encoder.tokenize(talks[1]).ids)
    cache = TokenCache(max_tokens=length)
    for index in (1, 1, 2, 2):
        cache.tokenized(index, talks[index], encoder)
    assert (encoder.counts[talks[1].where], encoder.counts[talks[2].where]) == (2, 2)  # 1: once here, once above
    assert cache.tokens == length
    quirks = IxcProcessor(processor.image_processor, processor.tokenizer, published_quirks=True)
    other = Encoder(quirks, max_seq_length=2048)
    found = cache.tokenized(1, talks[1], other)
    assert found.ids.tolist() == other.tokenize(talks[1]).ids.tolist()


@pytest.mark.parametrize("quirks", [True, False])
def test_encoder_adjacent_images_equal_processor_encode_training(
    tmp_path: Path, processor: IxcProcessor, quirks: bool
) -> None:
    for i in range(3):
        Image.effect_noise(SIZES[i], 60).convert("RGB").save(tmp_path / f"{i}.png")
    turns = [("human", "<ImageHere><ImageHere>Which?<ImageHere>"), ("gpt", "So."), ("human", "Sure?"), ("gpt", "Yes.")]
    record = {"image": ["0.png", "1.png", "2.png"]}
    record["conversations"] = [{"from": who, "value": text} for who, text in turns]  # type: ignore[assignment]
    (tmp_path / "three.jsonl").write_text(json.dumps(record))
    records = JsonLines(tmp_path / "three.jsonl")
    other = IxcProcessor(processor.image_processor, processor.tokenizer, published_quirks=quirks)
    wanted = other.encode_training(records[0].messages, hd=4, partition="native", return_tensors="pt")
    found = collate([Encoder(other, max_seq_length=8192).encode(records[0], hd=4, partition="native")])
    for key in set(found) & set(wanted):
        assert torch.equal(found[key], torch.as_tensor(wanted[key])), key


# -- tables -----------------------------------------------------------------------------------------------------------


def test_table_and_streaming_datasets_equal_json_lines(tmp_path: Path, encoder: Encoder) -> None:
    datasets = pytest.importorskip("datasets")
    from ixc.data.hf_datasets import StreamingDataset, TableDataset

    datasets.disable_progress_bars()
    lines = written(tmp_path, count=5)
    rows = []
    for i in range(5):
        row = json.loads((tmp_path / "talks.jsonl").read_text().splitlines()[i])
        rows.append({**row, "image": [{"bytes": (tmp_path / f"{i}.png").read_bytes(), "path": None}]})
    features = datasets.Features(
        {
            "image": datasets.List(datasets.Image()),
            "conversations": datasets.List({"from": datasets.Value("string"), "value": datasets.Value("string")}),
        }
    )
    data = datasets.Dataset.from_list(rows, features=features)
    data.save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "parquet").mkdir()
    data.to_parquet(str(tmp_path / "parquet" / "part.parquet"))
    stream = StreamingDataset(tmp_path / "parquet")
    for table in (
        TableDataset(tmp_path / "saved"),
        TableDataset(tmp_path / "parquet", cache=tmp_path / "cache"),
        stream,
    ):
        assert len(table) == 5
        for i in (0, 1, 4, 2):
            wanted = collate([encoder.encode(lines[i], hd=4, partition="native")])
            found = collate([encoder.encode(table[i], hd=4, partition="native")])
            assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    mixture = Mixture([Source(name="s", records=stream, hd=4, shuffle=False)])
    assert [index for _, index in drawn(mixture, 7)] == [0, 1, 2, 3, 4, 0, 1]
    with pytest.raises(DataError, match="5 rows, 6 were promised"):
        StreamingDataset(tmp_path / "parquet", count=6)[5]
    with pytest.raises(UsageError, match=r"is no parquet.*; leave out --stream"):
        StreamingDataset(tmp_path / "talks.jsonl")
