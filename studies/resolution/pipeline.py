"""Run the whole set of studies: start, pool, and every variant with every seed, each in a result file of its own.

    vision_encoder, language_model    side by side, with states on disk
    pool                              one job per collection and setting, one file per form of pages
    fit                               one job per merge and seed
    run                               one job per variant and seed -> RESULTS/VARIANT-SEED.json

A killed job is run again; its result is a pure function of the plan (one thread a job).
"""

from __future__ import annotations

import json
import logging
import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import process_time
from typing import Any

import torch

from ixc.errors import DataError, UsageError
from ixc.inference.model_folder import EMBEDDED
from ixc.model.vision import VisionTower
from ixc.nano import state
from ixc.utils.files import atomic_write
from studies.resolution import language_model, pool, vision_encoder
from studies.resolution.language_model import LanguageModelConfig
from studies.resolution.learner import Learner, LearnerConfig
from studies.resolution.pool import Collection, StoredFeatures
from studies.resolution.results import OLD_NAMES, Run, read, shape_of, words_of
from studies.resolution.scale import TEXT
from studies.resolution.variants import FITTED, VARIANTS, Variant
from studies.resolution.views import View
from studies.resolution.vision_encoder import VisionEncoderConfig

Progress = Callable[[str, int, int], None]
"""Called with (finished job, jobs done, all jobs)."""

Job = tuple[str, ...]
"""("vision_encoder",), ("language_model",), ("pool", collection, rule, hd), ("fit", merge, seed), ("run", variant,
seed)."""


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Where the studies read and write."""

    out: Path
    """Folder of states and features, some 4 GB."""
    results: Path
    """Folder of the result files."""
    init_from: Path = EMBEDDED
    """Model folder that the language model starts from; of the shape of `scale.TEXT`."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Options of the whole set."""

    vision_encoder: VisionEncoderConfig = field(default_factory=VisionEncoderConfig)
    """Training of the vision tower."""
    language_model: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    """Training of the language model."""
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    """Each run."""
    training_each: int = 20
    """Pages of a form to train on."""
    test_each: int = 6
    """Pages of a form in the evaluation."""
    large_each: int = 2
    """8K-like pages of a form in the evaluation."""
    variants: dict[str, Variant] = field(default_factory=lambda: VARIANTS)
    """Variants to train."""
    fitted: tuple[View, ...] = FITTED
    """Settings of the fit."""

    def collection(self, name: str) -> Collection:
        """Collection of a name."""
        made = {"training": pool.training(self.training_each), "test": pool.test(self.test_each)}
        return (made | {"8k": pool.test_8k(self.large_each)})[name]

    def needed(self, variants: Iterable[str]) -> list[tuple[str, View]]:
        """Collections and settings that runs of these variants need."""
        found: dict[tuple[str, View], None] = {}
        variants = list(variants)
        if variants:
            found |= {("training", view): None for view in self.fitted}
        for variant in (self.variants[name] for name in variants):
            groups = {"training": variant.views, "test": variant.exams, "8k": variant.large}
            found |= {(name, view): None for name, views in groups.items() for view in views}
        return list(found)

    def record(self) -> dict[str, Any]:
        """Options of the plan that every result file records."""
        kept = {key: value for key, value in asdict(self).items() if key != "variants"}
        return kept | {"torch": torch.__version__}


def run(
    folders: Folders,
    *,
    plan: Plan | None = None,
    only: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (),
    workers: int = 2,
    progress: Progress = lambda job, done, total: None,
) -> list[Path]:
    """Run every job whose result is missing.

    Args:
        folders: where states and results are.
        plan: options; None = those of the result files in the repository.
        only: variants; none = all.
        seeds: seeds of every variant; none = the variant's own.
        workers: processes of one thread each.
        progress: called after each job.

    Returns:
        The result files.

    Raises:
        UsageError: no such variant.
        DataError: a result of another plan or of another shape of language model, or a job that failed.
    """
    plan = plan or Plan()
    unknown = sorted(set(only) - set(plan.variants))
    if unknown:
        raise UsageError(f"no variant {', '.join(unknown)}; use {', '.join(plan.variants)}")
    if workers < 1:
        raise UsageError(f"workers is {workers}, at least 1 needed")
    names = [name for name in plan.variants if not only or name in only]
    runs = runs_of(plan, names, seeds)
    results = folders.results
    for path in sorted(results.glob("*-*.json")):
        check_shape(path)
    open_runs = [(name, seed) for name, seed in runs if not finished(results / f"{name}-{seed}.json", plan)]
    stored = [
        StoredFeatures(root=folders.out, collection=plan.collection(c), view=v)
        for c, v in plan.needed(n for n, _ in open_runs)
    ]
    jobs: list[list[Job]] = [[("vision_encoder",), ("language_model",)] if open_runs else []]
    jobs += [[("pool", s.collection.name, s.view.rule, str(s.view.hd)) for s in stored if s.missing()]]
    fits = dict.fromkeys((plan.variants[name].merge, seed) for name, seed in open_runs)
    jobs += [[("fit", merge, str(seed)) for merge, seed in fits if not _fit_file(folders.out, merge, seed).is_file()]]
    jobs += [[("run", name, str(seed)) for name, seed in open_runs]]
    _work(jobs, plan, folders, workers, progress)
    return [results / f"{name}-{seed}.json" for name, seed in runs]


def runs_of(plan: Plan, names: list[str], seeds: tuple[int, ...]) -> list[tuple[str, int]]:
    """List variants and seeds, all variants with the first seed before any with the second."""
    wanted = {name: seeds or plan.variants[name].seeds for name in names}
    deepest = max((len(each) for each in wanted.values()), default=0)
    return [(name, wanted[name][i]) for i in range(deepest) for name in names if i < len(wanted[name])]


def finished(path: Path, plan: Plan) -> bool:
    """Whether the file of a run exists.

    Raises:
        DataError: it is of another plan or another shape of language model, or no result.
    """
    if not path.is_file():
        return False
    recipe = check_shape(path)["recipe"]
    ours = json.loads(json.dumps(plan.record()))
    wrong = sorted(key for key in ours if key != "torch" and recipe.get(key) != ours[key])
    if wrong:
        raise DataError(f"{path} was made with other numbers ({', '.join(wrong)}); name another folder with --results")
    return True


def check_shape(path: Path) -> Run:
    """Read a result file, and check that its language model has the frozen shape of the studies.

    Raises:
        DataError: it has another shape, or is no result.
    """
    try:
        run = read(path)
        shape, _ = shape_of(run), run["recipe"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no result of python -m studies.resolution ({error}); delete it") from error
    if shape != (ours := (TEXT.hidden_size, TEXT.num_hidden_layers)):
        raise DataError(
            f"{path} is of a language model {words_of(shape)}, and this one is {words_of(ours)}; one table cannot hold "
            "both: name another folder with --results"
        )
    return run


def _work(stages: list[list[Job]], plan: Plan, folders: Folders, workers: int, progress: Progress) -> None:
    """Run stage after stage, `workers` jobs at once."""
    total, done = sum(len(stage) for stage in stages), 0
    for stage in stages:
        if not stage:
            continue
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, len(stage)), mp_context=context, initializer=_one_thread) as executor:
            waiting: dict[Future[str], Job] = {executor.submit(do, job, plan, folders): job for job in stage}
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    job = " ".join(waiting.pop(future))
                    done += 1
                    progress(f"{job}: {_outcome(future, job)}", done, total)


def _outcome(future: Future[str], job: str) -> str:
    try:
        return future.result()
    except (RuntimeError, OSError, ValueError) as error:
        raise DataError(f"{job} failed ({error}); run the command again, finished jobs are kept") from error


def _one_thread() -> None:
    """Use one thread, so that the order of summation does not depend on the machine's cores."""
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.WARNING)


def do(job: Job, plan: Plan, folders: Folders) -> str:
    """Run one job; returns a summary of it."""
    kind, *what = job
    out = folders.out
    began = process_time()
    if kind == "vision_encoder":
        summary = f"{vision_encoder.run(plan.vision_encoder, out)[1]:.1%} of characters recognised"
    elif kind == "language_model":
        trained = language_model.run(plan.language_model, out, folders.init_from)
        summary = " ".join(f"{share:.0%}" for share in trained.exact) + " of each stage"
    elif kind == "pool":
        collection, rule, hd = what
        stored = StoredFeatures(root=out, collection=plan.collection(collection), view=View(hd=int(hd), rule=rule))
        stored.fill(_tower(plan, out))
        summary = "encoded"
    elif kind == "fit":
        summary = f"{_fit(plan, folders, what[0], int(what[1])):.1%} of characters recognised"
    else:
        summary = _run(plan, folders, what[0], int(what[1]))
    if kind != "run":
        _add_cost(out / "cost" / f"{'-'.join(job)}.json", process_time() - began)
    return summary


def _add_cost(path: Path, seconds: float) -> None:
    """Add the CPU time of a finished job to what earlier starts of it took."""
    before = json.loads(path.read_text())["cpu_seconds"] if path.is_file() else 0.0
    _write(path, {"cpu_seconds": before + seconds})


def _tower(plan: Plan, out: Path) -> VisionTower:
    """Load the vision tower of the start, trained to its end."""
    classifier, _ = vision_encoder.run(plan.vision_encoder, out)
    return classifier.tower.eval()


def _fit_file(out: Path, merge: str, seed: int) -> Path:
    return out / f"fit-{merge}-{seed}.pt"


def _learner(plan: Plan, folders: Folders, variant: Variant, seed: int) -> Learner:
    start = language_model.run(plan.language_model, folders.out, folders.init_from)
    pages = plan.collection("training")
    return Learner(variant, seed, recipe=plan.learner, start=start, root=folders.out, training=pages)


def _fit(plan: Plan, folders: Folders, merge: str, seed: int) -> float:
    """Fit merge and projector for every variant with this merge and seed; returns the share of characters."""
    learner = _learner(plan, folders, Variant(views=plan.fitted, exams=(), merge=merge), seed)
    named = learner.fit()
    state.save({"named": named, "parts": learner.fitted()}, _fit_file(folders.out, merge, seed))
    return named


def _run(plan: Plan, folders: Folders, name: str, seed: int) -> str:
    """Train and evaluate a variant with a seed, and write its result file."""
    began, variant = process_time(), plan.variants[name]
    learner = _learner(plan, folders, variant, seed)
    fitted = state.load(_fit_file(folders.out, variant.merge, seed))
    assert fitted is not None
    learner.load_fitted(fitted["parts"])
    means = learner.learn()
    scores = [row for view in variant.exams for row in learner.evaluate(plan.collection("test"), view)]
    scores += [row for view in variant.large for row in learner.evaluate(plan.collection("8k"), view)]
    found = {
        "variant": name,
        "seed": seed,
        "fitted": fitted["named"],
        "means": means,
        "scores": scores,
        "start": _start(folders.out),
        "cpu_seconds": process_time() - began,
        "recipe": plan.record(),
    }
    _write(folders.results / f"{name}-{seed}.json", found)
    return f"{means['exact']:.0%} of answers while learning, {found['cpu_seconds']:.0f} s"


def _start(out: Path) -> dict[str, Any]:
    """Accuracy and shape of the start, and the CPU time that it and the pool have taken so far."""
    vision = state.load(out / "vision_encoder.pt", old="eyes.pt")
    language = state.load(out / "language_model.pt", old="hand.pt")
    assert vision is not None
    assert language is not None
    files = sorted((out / "cost").glob("*.json"))
    costs = {OLD_NAMES.get(p.stem, p.stem): json.loads(p.read_text())["cpu_seconds"] for p in files}
    start = {
        kind: sum(value for key, value in costs.items() if key.startswith(kind))
        for kind in ("vision_encoder", "language_model", "pool", "fit")
    }
    return {
        "characters": vision["accuracy"],
        "curriculum": language["exact"],
        "layers": TEXT.num_hidden_layers,
        "width": TEXT.hidden_size,
        "cpu_seconds": start,
    }


def _write(path: Path, found: dict[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(found, indent=1) + "\n")
