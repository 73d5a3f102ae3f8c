"""The whole set: start, pool, every variant under every seed, each in its own file as soon as it is there.

    eyes | hand     side by side, with states on disk
    pool            one job a collection and setting, one file a form of pages
    fit             one job a merge and seed
    runs            one job a variant and seed -> RESULTS/VARIANT-SEED.json

A job is begun again if it was killed; its result is a pure function of the plan (one thread a job), so nothing changes.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import process_time
from typing import Any

import torch

from ixc.errors import DataError, UsageError
from ixc.nano import state
from studies.resolution import language_model, pool, vision_encoder
from studies.resolution.language_model import HandRecipe
from studies.resolution.learner import Learner, LearnerRecipe
from studies.resolution.pool import Collection, Shelf
from studies.resolution.scale import TEXT
from studies.resolution.variants import FITTED, VARIANTS, Variant
from studies.resolution.views import View
from studies.resolution.vision_encoder import EyesRecipe

Tell = Callable[[str, int, int], None]
"""Told (what is done, jobs done, of how many)."""

Job = tuple[str, ...]
"""("eyes",), ("hand",), ("pool", collection, rule, hd), ("fit", merge, seed) or ("run", variant, seed)."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Numbers of the whole set."""

    vision_encoder: EyesRecipe = field(default_factory=EyesRecipe)
    """The tower."""
    language_model: HandRecipe = field(default_factory=HandRecipe)
    """The language model."""
    learner: LearnerRecipe = field(default_factory=LearnerRecipe)
    """Each run."""
    training_each: int = 20
    """Pages of a form to learn from."""
    test_each: int = 6
    """Pages of a form to be examined on."""
    large_each: int = 2
    """8K-like pages of a form."""
    variants: dict[str, Variant] = field(default_factory=lambda: VARIANTS)
    """What is trained."""
    fitted: tuple[View, ...] = FITTED
    """Settings of the fit."""

    def collection(self, name: str) -> Collection:
        """By name."""
        made = {"training": pool.training(self.training_each), "test": pool.test(self.test_each)}
        return (made | {"8k": pool.test_8k(self.large_each)})[name]

    def needed(self, variants: Iterable[str]) -> list[tuple[str, View]]:
        """Collections and settings that runs of these variants read."""
        found: dict[tuple[str, View], None] = {}
        variants = list(variants)
        if variants:
            found |= {("training", view): None for view in self.fitted}
        for variant in (self.variants[name] for name in variants):
            groups = {"training": variant.views, "test": variant.exams, "8k": variant.large}
            found |= {(name, view): None for name, views in groups.items() for view in views}
        return list(found)

    def record(self) -> dict[str, Any]:
        """What every result file keeps of the plan."""
        kept = {key: value for key, value in asdict(self).items() if key != "variants"}
        return kept | {"torch": torch.__version__}


def run(
    out: Path,
    results: Path,
    *,
    plan: Plan | None = None,
    only: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (),
    workers: int = 2,
    tell: Tell = lambda what, done, total: None,
) -> list[Path]:
    """Everything that is missing.

    Args:
        out: folder of states and features (some 4 GB).
        results: folder of the result files.
        only: variants; none = all. seeds: of every variant; none = its own.
        workers: processes of one thread each.

    Returns:
        The result files.

    Raises:
        UsageError: no such variant. DataError: a result of another plan, or a job that failed.
    """
    plan = plan or Plan()
    unknown = sorted(set(only) - set(plan.variants))
    if unknown:
        raise UsageError(f"no variant {', '.join(unknown)}; use {', '.join(plan.variants)}")
    if workers < 1:
        raise UsageError(f"workers is {workers}, at least 1 needed")
    names = [name for name in plan.variants if not only or name in only]
    runs = runs_of(plan, names, seeds)
    open_runs = [(name, seed) for name, seed in runs if not finished(results / f"{name}-{seed}.json", plan)]
    shelves = [Shelf(root=out, collection=plan.collection(c), view=v) for c, v in plan.needed(n for n, _ in open_runs)]
    jobs = [[("eyes",), ("hand",)] if open_runs else []]
    jobs += [[("pool", s.collection.name, s.view.rule, str(s.view.hd)) for s in shelves if s.missing()]]
    fits = dict.fromkeys((plan.variants[name].merge, seed) for name, seed in open_runs)
    jobs += [[("fit", merge, str(seed)) for merge, seed in fits if not _fit_file(out, merge, seed).is_file()]]
    jobs += [[("run", name, str(seed)) for name, seed in open_runs]]
    _work(jobs, plan, out, results, workers, tell)
    return [results / f"{name}-{seed}.json" for name, seed in runs]


def runs_of(plan: Plan, names: list[str], seeds: tuple[int, ...]) -> list[tuple[str, int]]:
    """Variants and seeds, all variants under the first seed before any under the second."""
    wanted = {name: seeds or plan.variants[name].seeds for name in names}
    deepest = max((len(each) for each in wanted.values()), default=0)
    return [(name, wanted[name][i]) for i in range(deepest) for name in names if i < len(wanted[name])]


def finished(path: Path, plan: Plan) -> bool:
    """True if a run's file is there.

    Raises:
        DataError: it is of another plan, or no result.
    """
    if not path.is_file():
        return False
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))["recipe"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no result of ixc bench ablate ({error}); delete it") from error
    ours = json.loads(json.dumps(plan.record()))
    wrong = sorted(key for key in ours if key != "torch" and recipe.get(key) != ours[key])
    if wrong:
        raise DataError(f"{path} was made with other numbers ({', '.join(wrong)}); name another folder with --results")
    return True


def _work(stages: list[list[Job]], plan: Plan, out: Path, results: Path, workers: int, tell: Tell) -> None:
    """Stage after stage, `workers` jobs at once."""
    total, done = sum(len(stage) for stage in stages), 0
    for stage in stages:
        if not stage:
            continue
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, len(stage)), mp_context=context, initializer=_one_thread) as executor:
            waiting: dict[Future[str], Job] = {executor.submit(do, job, plan, out, results): job for job in stage}
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    job = " ".join(waiting.pop(future))
                    done += 1
                    tell(f"{job}: {_outcome(future, job)}", done, total)


def _outcome(future: Future[str], job: str) -> str:
    try:
        return future.result()
    except (RuntimeError, OSError, ValueError) as error:
        raise DataError(f"{job} failed ({error}); run the command again, finished jobs are kept") from error


def _one_thread() -> None:
    """Sums of one thread do not depend on the machine's cores."""
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.WARNING)


def do(job: Job, plan: Plan, out: Path, results: Path) -> str:
    """One job; a few words about it."""
    kind, *what = job
    began = process_time()
    if kind == "eyes":
        words = f"{vision_encoder.run(plan.vision_encoder, out)[1]:.1%} of characters named"
    elif kind == "hand":
        words = (
            " ".join(f"{share:.0%}" for share in language_model.run(plan.language_model, out).exact) + " of each lesson"
        )
    elif kind == "pool":
        collection, rule, hd = what
        shelf = Shelf(root=out, collection=plan.collection(collection), view=View(hd=int(hd), rule=rule))
        shelf.fill(_tower(plan, out))
        words = "looked at"
    elif kind == "fit":
        words = f"{_fit(plan, out, what[0], int(what[1])):.1%} of characters named"
    else:
        words = _run(plan, out, results, what[0], int(what[1]))
    if kind != "run":
        _add_cost(out / "cost" / f"{'-'.join(job)}.json", process_time() - began)
    return words


def _add_cost(path: Path, seconds: float) -> None:
    """CPU time of a job, all starts that came to its end together."""
    before = json.loads(path.read_text())["cpu_seconds"] if path.is_file() else 0.0
    _write(path, {"cpu_seconds": before + seconds})


def _tower(plan: Plan, out: Path) -> Any:
    """The start's tower, trained to its end."""
    spotter, _ = vision_encoder.run(plan.vision_encoder, out)
    return spotter.tower.eval()


def _fit_file(out: Path, merge: str, seed: int) -> Path:
    return out / f"fit-{merge}-{seed}.pt"


def _learner(plan: Plan, out: Path, variant: Variant, seed: int) -> Learner:
    start, pages = language_model.run(plan.language_model, out), plan.collection("training")
    return Learner(variant, seed, recipe=plan.learner, hand=start, root=out, training=pages)


def _fit(plan: Plan, out: Path, merge: str, seed: int) -> float:
    """Merge and projector of every variant with this merge and seed; the share of characters they name."""
    learner = _learner(plan, out, Variant(views=plan.fitted, exams=(), merge=merge), seed)
    named = learner.fit()
    state.save({"named": named, "parts": learner.fitted()}, _fit_file(out, merge, seed))
    return named


def _run(plan: Plan, out: Path, results: Path, name: str, seed: int) -> str:
    """Fit, learn, examine, write."""
    began, variant = process_time(), plan.variants[name]
    learner = _learner(plan, out, variant, seed)
    fitted = state.load(_fit_file(out, variant.merge, seed))
    assert fitted is not None
    learner.begin(fitted["parts"])
    means = learner.learn()
    scores = [row for view in variant.exams for row in learner.examine(plan.collection("test"), view)]
    scores += [row for view in variant.large for row in learner.examine(plan.collection("8k"), view)]
    found = {
        "variant": name,
        "seed": seed,
        "fitted": fitted["named"],
        "means": means,
        "scores": scores,
        "start": _start(out),
        "cpu_seconds": process_time() - began,
        "recipe": plan.record(),
    }
    _write(results / f"{name}-{seed}.json", found)
    return f"{means['exact']:.0%} of answers while learning, {found['cpu_seconds']:.0f} s"


def _start(out: Path) -> dict[str, Any]:
    """What the start can do, and what it and the pool have cost so far."""
    eyes_state, hand_state = state.load(out / "eyes.pt"), state.load(out / "hand.pt")
    assert eyes_state is not None
    assert hand_state is not None
    costs = {p.stem: json.loads(p.read_text())["cpu_seconds"] for p in sorted((out / "cost").glob("*.json"))}
    start = {
        kind: sum(value for key, value in costs.items() if key.startswith(kind))
        for kind in ("eyes", "hand", "pool", "fit")
    }
    return {
        "characters": eyes_state["accuracy"],
        "lessons": hand_state["exact"],
        "layers": TEXT.num_hidden_layers,
        "width": TEXT.hidden_size,
        "cpu_seconds": start,
    }


def _write(path: Path, found: dict[str, Any]) -> None:
    """As JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, path)
