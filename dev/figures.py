"""Write the tables of the documents from the result files in the repository: `python dev/figures.py [--check]`.

A table is placed between `<!-- figures: NAME -->` and `<!-- end -->`; NAME is a key of `TABLES`.
"""

import ast
import json
import re
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from statistics import median
from typing import Any

from ixc.utils.counted import counted

ROOT = Path(__file__).parents[1]
NANO = ROOT / "src/ixc/pretrained/nano"
METRICS = ROOT / "src/ixc/evals/metrics"
RELEASE = ROOT / "benchmarks/release.json"
DOCUMENTS = (
    ROOT / "README.md",
    NANO / "README.md",
    *(
        ROOT / f"docs/{name}.md"
        for name in ("benchmarks", "documents", "fine-tuning", "memory", "ray", "serving", "speed", "training")
    ),
)


LARGEST = ("pages drawn for HD-55, asked at", "of these the pages of 3840x1600, asked at")
"""Groups of its scores on the largest pages."""


def nano(names: Collection[str] | None = None, file: str = "scores.json") -> str:
    """Table of the embedded model's scores, from `ixc eval synth --json`; of the largest pages with `--hd 55`."""
    found = json.loads((NANO / file).read_text())["groups"]
    groups = {title: rows for title, rows in found.items() if names is None or title in names}
    lines = ["| | exact match % | 95 % interval | answers |", "|---|---|---|---|"]
    for title, rows in groups.items():
        lines.append(f"| **{title}** | | | |")
        for r in rows:
            lines.append(f"| {r['name']} | {r['percent']:.1f} | {r['low']:.1f} to {r['high']:.1f} | {r['count']} |")
    return "\n".join(lines)


def nano_brief() -> str:
    """Three rows about the embedded model: drawn pages, real pages beside tesseract, seconds of an answer."""
    drawn = json.loads((NANO / "scores.json").read_text())["groups"]["all, at the page's own HD"][0]
    real, ocr = (
        json.loads((ROOT / f"benchmarks/real_pages_{name}_202611.json").read_text()) for name in ("nano", "tesseract")
    )
    start = json.loads((ROOT / "benchmarks/startup_amd-epyc-1-thread_202611.json").read_text())
    lines = ["| | |", "|---|---|", f"| pages drawn by this package, unseen, exact match | {_share(drawn)} |"]
    other = f"tesseract {ocr['tesseract']} with plain rules: {_share(ocr['groups']['all'][0])}"
    lines.append(f"| pages of real manuals, exact match | {_share(real['groups']['all'][0])}; {other} |")
    seconds, threads = start["medians"]["ask"], start["threads"]
    where = f"{start['machine'].split(',')[0]}, {threads} thread{'s' * (threads != '1')}"
    return "\n".join([*lines, f"| one `ixc ask`, loading included | {seconds:.1f} s of CPU time ({where}) |"])


def _share(row: dict[str, Any]) -> str:
    """Format a share of right answers with its 95 % interval."""
    return f"{row['percent']:.1f} % ({row['low']:.1f} to {row['high']:.1f}, {row['count']:,} answers)"


HARDWARE = (8, 12, 16, 24, 32, 48, 80)
"""Memory of a device, GB."""

RESERVE = 2.0
"""GB left for the device's context, the allocator and pictures, as in `ixc plan-train`."""

SETTINGS = (1, 9, 16, 25, 36, 55, 65)
"""HD-n of the table of hardware."""

TEXT_TOKENS = 1024
"""Tokens of question and answer in the table of hardware."""


def hardware() -> str:
    """Table of the memory that one image at HD-n needs by dtype of the 7B, by the arithmetic of `ixc plan`."""
    dtypes = ("bfloat16", "int8", "int4")
    lines = ["| | image tokens, at most | " + " | ".join(dtypes) + " |", "|---|---:|" + "---|" * len(dtypes)]
    for hd in SETTINGS:
        tokens = _largest(hd, "bfloat16").image_tokens
        lines.append(f"| HD-{hd} | {tokens:,} | {' | '.join(_device(_needed(hd, dtype)) for dtype in dtypes)} |")
    return "\n".join(lines)


def _device(needed: float) -> str:
    """Format the memory that is needed and the smallest device that has it."""
    return f"{needed:.1f} GB: device of {next(size for size in HARDWARE if size >= needed)} GB"


def _largest(hd: int, dtype: str) -> Any:
    """Return the plan of the image with most tokens at this HD."""
    from ixc.inference.cost import plan

    sizes = [(336, 336 * hd), (336 * hd, 336)]
    plans = [plan(*size, hd=hd, text_tokens=TEXT_TOKENS, dtype=dtype) for size in sizes]
    return max(plans, key=lambda each: each.image_tokens)


def _needed(hd: int, dtype: str) -> float:
    """Return the GB for one image at this HD: weights, keys and values, activations, reserve."""
    largest = _largest(hd, dtype)
    return (largest.weight_bytes() + largest.kv_bytes + largest.activation_bytes) / 1e9 + RESERVE


def pictures() -> str:
    """Table of the embedded model's answers about pictures from elsewhere, from dev/pictures.py."""
    found = json.loads((ROOT / "benchmarks/pictures_nano_202611.json").read_text())
    settings = [str(hd) for hd in found["settings"]]
    lines = [f"| picture | question | right | {' | '.join(f'HD-{hd}' for hd in settings)} |"]
    lines.append("|---|---|---|" + "---|" * len(settings))
    for r in found["rows"]:
        said = " | ".join(_said(r, hd) for hd in settings)
        lines.append(f"| {r['picture']} | {r['question']} | {r['answer']} | {said} |")
    count = len(found["rows"])
    right = ", ".join(f"HD-{hd} {sum(r['said'][hd] == r['answer'] for r in found['rows'])}" for hd in settings)
    return "\n".join([*lines, "", f"Right of {count}: {right}."])


def prompt_order() -> str:
    """Table of right answers in six forms of a question, from dev/prompt_order.py."""
    found = json.loads((ROOT / "benchmarks/prompt_order_nano_202611.json").read_text())
    lines = [f"| form of the request | right of {found['pages']} | right without the rules |", "|---|---|---|"]
    lines += [f"| {form} | {right} | {found['as given'][form]} |" for form, right in found["arranged"].items()]
    return "\n".join(lines)


def structured() -> str:
    """Table of the cost of JSON, from dev/structured_cost.py."""
    found = json.loads((ROOT / "benchmarks/structured_202611.json").read_text())
    lines = ["| model | ids | as a text | as JSON | ratio |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['model']} | {row['ids']:,} | {row['text_ms_a_token']:.1f} | {row['json_ms_a_token']:.1f} "
        f"| {row['ratio']:.2f} |"
        for row in (found[name] for name in ("embedded", "published") if name in found)
    ]
    schemas, invalid = found["schemas"]["schemas"], len(found["schemas"]["invalid"])
    return "\n".join([*lines, "", f"Of {schemas} random schemas, {schemas - invalid} answers are valid."])


def clients() -> str:
    """Table of the calls of real clients and the causes of what fails, from dev/clients.py."""
    found = json.loads((ROOT / "benchmarks/clients_202611.json").read_text())
    vllm = json.loads((ROOT / "benchmarks/clients_vllm_202611.json").read_text())["clients"]
    calls = list(next(iter(found["clients"].values()))["cells"])
    lines = [f"| client | {' | '.join(calls)} | on vLLM |", "|---|" + "---|" * (len(calls) + 1)]
    notes: dict[str, int] = {}
    for name, row in found["clients"].items():
        named = [f"{package} {version}" for package, version in row["versions"].items()]
        versions = f"({', '.join(named)})" if len(named) > 1 else "".join(row["versions"].values())
        cells = [_client(row["cells"][call], notes) for call in calls]
        lines.append(f"| {name} {versions} | {' | '.join(cells)} | {_on_vllm(vllm[name]['cells'], notes)} |")
    lines += ["", f"Python {found['python']}, node {found['node']}; server: {found['server']}."]
    return "\n".join(lines + [""] * bool(notes) + [f"{number}. {note}" for note, number in notes.items()])


def _on_vllm(cells: dict[str, Any], notes: dict[str, int]) -> str:
    """Format a client's calls on vLLM: how many are right of those that the client can make, and what is not."""
    can = {call: cell for call, cell in cells.items() if cell["ok"] is not None}
    if not can:
        return _client(next(iter(cells.values())), notes)
    causes: dict[str, list[str]] = {}
    for call, cell in can.items():
        if not cell["ok"]:
            causes.setdefault(cell["reason"].partition(": ")[0], []).append(call)
    numbers = [
        notes.setdefault(f"On vLLM: {', '.join(of)}. {why}", len(notes) + 1) for why, of in sorted(causes.items())
    ]
    right = f"{sum(cell['ok'] for cell in can.values())} of {len(can)}"
    return right + "".join(f" ({number})" for number in numbers)


def _client(cell: dict[str, Any], notes: dict[str, int]) -> str:
    """Format a cell; what fails gets the number of its cause in `notes`."""
    if cell["ok"]:
        return "yes"
    fault = cell.get("client", False)
    reason = " ".join(cell["reason"].replace("<", "&lt;").split())
    number = notes.setdefault(f"The client's fault: {reason}" if fault else reason, len(notes) + 1)
    return f"cannot ({number})" if cell["ok"] is None else f"client ({number})" if fault else f"**no** ({number})"


def _said(row: dict[str, Any], hd: str) -> str:
    """Format an answer as a cell, bold where it is right."""
    text = row["said"][hd].replace("|", "\\|")
    return f"**{text}**" if row["said"][hd] == row["answer"] else text


def tasks() -> str:
    """Table of the benchmarks, with the settings of the published run and their rules, from the registry."""
    from ixc.evals.tasks import TASKS

    lines = ["| name | benchmark | data, split | HD | beams | tokens | paper | other rules |"]
    lines.append("|---|---|---|---:|---:|---:|---:|---|")
    for task in TASKS.values():
        paper = "" if task.paper is None else f"{task.paper:g}" + (f" ({task.paper_split})" if task.paper_split else "")
        kind = " (submission)" if task.hidden else " (judge)" if task.judged else ""
        cells = (f"`{task.name}`", f"{task.title}{kind}", f"{task.dataset}, {task.split}", task.hd, task.num_beams)
        others = "" if task.hidden else ", ".join(task.rules)
        lines.append(f"| {' | '.join(map(str, (*cells, task.max_new_tokens, paper, others)))} |")
    return "\n".join(lines)


def rules() -> str:
    """List the rules of each metric, from the lines `rule "NAME"  ...` at the top of its file."""
    found = []
    for path in sorted(METRICS.glob("*.py")):
        about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        lines = re.findall(r'^rule ((?:"[\w-]+",? ?)+) +(.*(?:\n {5,}.*)*)', about, re.M)
        if lines:
            found.append(f"**{about.splitlines()[0].rstrip(':')}**\n")
            found += [f"- {names.strip().replace(chr(34), '`')}: {' '.join(words.split())}" for names, words in lines]
            found.append("")
    return "\n".join(found).rstrip()


def boarding() -> str:
    """Table of scores before and after the LoRA demonstration, from dev/boarding.py."""
    found = json.loads((ROOT / "benchmarks/lora_boarding.json").read_text())
    merged, steps = found["merged"], found["steps"]
    lines = ["| | exact match % | 95 % interval | answers |", "|---|---|---|---|"]
    for r in found["rows"]:
        lines.append(f"| {r['name']} | {r['percent']:.1f} | {r['low']:.1f} to {r['high']:.1f} | {r['count']} |")
    lines += [
        "",
        f"{steps} steps over {found['pages']:,} pages: {found['seconds_a_step'] * steps / 60:.1f} minutes of "
        f"training on {found['cores']} cores at {found['seconds_a_step']:.2f} s a step (timed over "
        f"{found['steps_timed']} of them), {found['cpu_seconds_a_step'] * steps:.0f} s of CPU time.",
        f"Merged against unmerged on {merged['pages']} pages: {merged['same_answer']} answers the same, logits within "
        f"{merged['largest_logit_difference']:.0e}.",
    ]
    return "\n".join(lines)


OLD_STAGES = {
    "language": "layout_lm",
    "sight": "character_pretrain",
    "align": "projector_init",
    "spelling": "ocr_alignment",
}
"""Names of stages in result files written before 30 November 2026 -> today's."""


def nano_small() -> str:
    """Table of scores and times of recipes/nano_small.py, from dev/nano_small.py."""
    found = json.loads(max((ROOT / "benchmarks").glob("nano_small_*.json"), key=lambda p: p.stem[-6:]).read_text())
    lines = ["| fresh pages, one question each | exact match % | 95 % interval | answers |", "|---|---|---|---|"]
    for r in found["rows"]:
        lines.append(f"| {r['name']} | {r['percent']:.1f} | {r['low']:.1f} to {r['high']:.1f} | {r['count']} |")
    stages = ", ".join(
        f"{OLD_STAGES.get(name, name)} {one['steps']} in {one['minutes']:.1f}" for name, one in found["stages"].items()
    )
    lines += [
        "",
        f"{found['parameters'] / 1e6:.1f} M parameters, {found['minutes']:.1f} minutes on {found['cores']} cores "
        f"({found['cpu_minutes']:.1f} of CPU time, for other work shared them); "
        f"steps and minutes by stage: {stages}.",
    ]
    return "\n".join(lines)


def small() -> str:
    """Table of the quality of quantized weights on the embedded model, answer by answer against float32."""
    found = json.loads((ROOT / "benchmarks/small_weights_nano_202611.json").read_text())
    lines = ["| bits | asked at | documents | answers | exact match %, float32 | small | difference | 95 % interval |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for r in found["differences"]:
        shares = f"{r['exact_float']:.1f} | {r['exact_small']:.1f} | {r['difference']:+.1f} | "
        interval = f"{r['low']:+.1f} to {r['high']:+.1f} |"
        lines.append(f"| {r['bits']} | {r['cases']} | {r['documents']} | {r['answers']} | {shares}{interval}")
    return "\n".join(lines)


def speed() -> str:
    """Report of the newest run of `ixc bench speed`, without its title."""
    newest = max((ROOT / "benchmarks").glob("speed_*.md"), key=lambda path: path.stem[-6:])
    return newest.read_text().split("\n", 2)[2].replace("](speed_", "](../benchmarks/speed_").strip()


def plans() -> str:
    """Tables of trained parameters and memory of the 7B recipes, from dev/plans.py."""
    found = json.loads((ROOT / "benchmarks/plans_7b.json").read_text())
    lines = []
    for name, plan in found.items():
        memory = plan["gpu_memory"] / 1e9
        lines += [f"**`recipes/{name}.py`**, {plan['gpus']} x {memory:g} GB", ""]
        lines += ["| part | learns | of | peak rate |", "|---|---:|---:|---:|"]
        for part, many in plan["parts"].items():
            rates = [group["rate"] for group in plan["groups"] if group["name"].split(",")[0] == part]
            shown = " to ".join(f"{rate:.2e}" for rate in sorted({min(rates), max(rates)})) if rates else ""
            lines.append(f"| {part} | {many['learning']:,} | {many['all']:,} | {shown} |")
        lines += ["", "| memory of one device | GB | arithmetic |", "|---|---:|---|"]
        lines += [f"| {item['what']} | {item['size'] / 1e9:.2f} | {item['formula']} |" for item in plan["memory"]]
        lines += [f"| **all** | **{plan['needed'] / 1e9:.1f}** of {memory:g} | |", ""]
    return "\n".join(lines).rstrip()


RELEASED = ("vllm", "transformers", "torch", "python")
"""Distributions whose versions the status line shows."""


def status() -> str:
    """Status line of the last release run, from dev/release.py; failures are in bold."""
    steps = json.loads(RELEASE.read_text())["steps"]
    return f"Status: {'; '.join(_step(name, entry) for name, entry in steps.items())}."


def _step(name: str, entry: dict[str, Any] | None) -> str:
    """Format one step of a release for the status line."""
    if entry is None:
        return f"{name} **not run**"
    counts = [f"{entry['passed']:,} passed"]
    counts += [f"**{entry['failed']:,} failed**"] if entry["failed"] else []
    counts += [f"{entry['skipped']:,} skipped"] if entry["skipped"] else []
    if entry["exit"] and not entry["failed"]:
        counts.append(f"**ended with exit code {entry['exit']}**")
    if not entry["passed"] and not entry["exit"]:
        counts.append("**no test ran**")
    with_versions = [f"{name} {entry['versions'][name]}" for name in RELEASED if name in entry["versions"]]
    where = f" ({', '.join(with_versions)})" if with_versions else ""
    commit = f"commit {entry['commit']}{' with changes' if entry['modified'] else ''}"
    stale = ", **before the code changed**" if entry["stale"] else ""
    return f"{entry['title']} {', '.join(counts)}{where} on {entry['date']}, {commit}{stale}"


def formats() -> str:
    """Table of the formats that are read and how near independent renderers are, from dev/picture_comparison.py."""
    found = json.loads((ROOT / "benchmarks/pictures_202611.json").read_text())
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for file in found["files"]:
        groups.setdefault((file["format"], file["done"]), []).append(file)
    lines = ["| format | what is done | files | as shown by (files) | mean difference | largest |"]
    lines.append("|---|---|---:|---|---:|---:|")
    for (kind, done), files in groups.items():
        near = [(name, each) for f in files for name, each in f["renderers"].items() if "why" not in each]
        by = ", ".join(f"{name} {sum(name == other for other, _ in near)}" for name in sorted({n for n, _ in near}))
        worst = f"{max(e['mean'] for _, e in near):.1f} | {max(e['largest'] for _, e in near)}" if near else " | "
        lines.append(f"| {kind} | {done} | {len(files)} | {by or 'none'} | {worst} |")
    agreed = sum(any("why" not in each for each in f["renderers"].values()) for f in found["files"])
    with_versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    lines += ["", f"{agreed} of {len(found['files'])} files within a mean of {found['most']:g} ({with_versions})."]
    return "\n".join([*lines, "", *_deviations(found["files"])])


def picture_memory() -> str:
    """Table of the peak memory of `ixc ask` on the largest pictures, from dev/picture_memory.py."""
    found = json.loads((ROOT / "benchmarks/picture_memory_202611.json").read_text())
    own = found["model_peak_bytes"] / 1e9
    lines = [f"| picture of {found['pixels'] / 1e6:.0f} megapixels | GB above the model's {own:.2f} | CPU s |"]
    lines.append("|---|---:|---:|")
    lines += [f"| {r['name']} | {r['above_bytes'] / 1e9:.2f} | {r['cpu_seconds']:.1f} |" for r in found["rows"]]
    return "\n".join(lines)


def anls_packages() -> str:
    """Table of ANLS here and by the packages of PyPI, from dev/anls_packages.py."""
    found = json.loads((ROOT / "benchmarks/anls_packages_202611.json").read_text())
    names = ", ".join(f"`{name}` {number}" for name, number in found["versions"].items())
    lines = [f"| answer | accepted | here | {' | '.join(f'`{name}`' for name in found['versions'])} |"]
    lines.append("|---|---|---:|---:|---:|")
    for row in found["rows"]:
        texts = [f"`{json.dumps(row[key], ensure_ascii=False)}`" for key in ("answer", "accepted")]
        scores = [f"{row[key]:.2f}" for key in ("ixc", *found["versions"])]
        lines.append(f"| {' | '.join(texts + scores)} |")
    return "\n".join([*lines, "", f"Versions: {names}."])


def serving_memory() -> str:
    """Table of the light server's resident memory over many pictures, from dev/serving_memory.py."""
    found = json.loads((ROOT / "benchmarks/serving_memory_nano_202611.json").read_text())
    lines = ["| different pictures answered | tile cache, MiB | prefix cache, MiB | both | resident, MiB |"]
    lines.append("|---:|---:|---:|---:|---:|")
    names = ("ixc_tile_cache_bytes", "ixc_prefix_cache_bytes", "ixc_cache_memory_bytes", "resident")
    for row in found["rows"]:
        lines.append(f"| {row['pictures']:,} | {' | '.join(f'{row[name] / (1 << 20):.0f}' for name in names)} |")
    model, limit, last = found["model"] >> 20, found["limit"] >> 20, found["rows"][-1]
    share = f"after {last['pictures']:,} pictures {100 * found['share_of_limit_and_model']:.1f} % of both together"
    return "\n".join([*lines, "", f"Limit {limit} MiB; the server before its first answer {model} MiB; {share}."])


def serving_load(month: str = "202611") -> str:
    """Table of the light server's throughput before and after, from dev/serving_load.py."""
    found = json.loads((ROOT / f"benchmarks/serving_load_nano_{month}.json").read_text())
    lines = ["| | requests a second | requests a CPU second |", "|---|---:|---:|"]
    for name, row in found["medians"].items():
        commit = found["commits"][name]
        lines.append(f"| {name} ({commit}) | {row['requests_per_second']:.2f} | {row['requests_per_cpu_second']:.2f} |")
    ratios = found["ratio_requests_per_second"], found["ratio_requests_per_cpu_second"]
    lines.append(f"| after / before | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    runs = f"medians of {len(found['runs']['after'])} runs each, alternating"
    lines += [
        "",
        f"{found['requests']} requests, {found['at_once']} at a time; {runs}; {found['machine']}, {versions}.",
    ]
    return "\n".join(lines)


def reading_load() -> str:
    """Table of pages a CPU second before and after, from dev/reading_load.py."""
    rows = json.loads((ROOT / "benchmarks/reading_load_nano_202611.json").read_text())["rows"]
    lines = [
        "| HD | before asks | pages | pages a CPU second, before | after | after / before | answers that differ |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        way = {"ask": "question by question", "batch": "in batches"}[row["before_by"]]
        rate = row["pages_per_cpu_second"]
        shares = f"{rate['before']:.2f} | {rate['after']:.2f} | {row['ratio_pages_per_cpu_second']:.2f}"
        differ = f"{row['answers_that_differ']} of {row['questions']}"
        lines.append(f"| {row['hd']} | {way} | {row['pages']} | {shares} | {differ} |")
    last = rows[-1]
    versions = ", ".join(f"{name} {number}" for name, number in last["versions"].items())
    runs = f"medians of {len(last['runs']['after'])} runs each, alternating, one thread"
    return "\n".join([*lines, "", f"Three questions a page; {runs}; {last['machine']}, {versions}."])


def against_llama_cpp() -> str:
    """Speed beside llama.cpp, from dev/against_llama_cpp.py: every machine, format and number of threads."""
    names = {"f32": "float32", "bf16": "bfloat16", "q8_0": "8 bits, Q8_0", "q4_0": "4 bits, Q4_0"}
    lines = ["| processor | weights | threads | what | llama.cpp's time / ours |", "|---|---|---|---|---:|"]
    for path in sorted((ROOT / "benchmarks").glob("against_llama_cpp_*.json")):
        found = json.loads(path.read_text())
        order = sorted(
            found["rows"], key=lambda r: (list(names).index(r["format"]), r["threads"], r["what"] == "decode")
        )
        for row in order:
            what = f"prefill of {row['tokens']}" if row["what"] == "prefill" else f"step behind {row['behind']:,}"
            unit = "cpu" if row["threads"] == 1 else "wall"
            cells = (found["machine"], names[row["format"]], str(row["threads"]), what)
            lines.append(f"| {' | '.join(cells)} | {row['speed'][f'{unit}, llama.cpp']:.2f} |")
    return "\n".join([*lines, "", "Above 1 the package is faster. One thread by CPU time, two by the clock."])


def before_after() -> str:
    """Two builds in alternation, from dev/before_after.py."""
    lines = [
        "| processor | weights | HD | first token, before | after | after / before | second / first | peak GB, before "
        "| after |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for path in sorted((ROOT / "benchmarks").glob("before_after_*.json")):
        found = json.loads(path.read_text())
        for kind, row in found["formats"].items():
            first, peak = row["first token, CPU s"], row["peak memory, GB"]
            times = " | ".join(f"{median(first[side]):.1f} s" for side in ("before", "ours"))
            shares = f"{row['first token, ours / before']:.2f} | {row['second / first, ours']:.1%}"
            cells = f"{found['machine']} | {kind} | {row['hd']}"
            lines.append(f"| {cells} | {times} | {shares} | {peak['before']:.2f} | {peak['ours']:.2f} |")
    return "\n".join([*lines, "", f"One thread, CPU seconds, alternating; before is {found['before']}."])


def logit_difference() -> str:
    """Logits of the slice beside float32's, from dev/logit_difference.py."""
    lines = ["| processor | weights | largest | mean | same best token |", "|---|---|---:|---:|---|"]
    for path in sorted((ROOT / "benchmarks").glob("logit_difference_*.json")):
        found = json.loads(path.read_text())
        for kind, row in found["differences"].items():
            same = "yes" if row["same best token"] else "no"
            lines.append(f"| {found['machine']} | {kind} | {row['largest']:.3f} | {row['mean']:.3f} | {same} |")
    return "\n".join([*lines, "", "Parts of the standard deviation of float32's logits."])


def read_speed() -> str:
    """Table of pages a second of the command before and after, from dev/read_speed.py."""
    rows = json.loads((ROOT / "benchmarks/read_speed_nano_202611.json").read_text())["rows"]
    lines = [
        "| pages | options | pages/s before | after | after / before | by CPU | answers that differ | runs |",
        "|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        rate, options = row["pages_per_second"], " ".join(row["options_after"]).replace("=", " ")
        shares = f"{rate['before']:.2f} | {rate['after']:.2f} | {row['ratio_pages_per_second']:.2f}"
        differ = f"{row['ratio_pages_per_cpu_second']:.2f} | {row['answers_that_differ']} of {row['answers']}"
        lines.append(f"| {row['pages']} | {f'`{options}`' if options else ''} | {shares} | {differ} | {_runs(row)} |")
    last = rows[-1]
    start = {name: each["wall"] for name, each in last["seconds_of_one_page"].items()}
    told = (
        f"Whole commands, HD-{last['hd']}, {last['questions_a_page']} questions a page, alternating runs, medians "
        f"where there are several; before: commit {last['commits']['before']}. One page alone takes "
        f"{start['before']:.1f} s before and {start['after']:.1f} s after. {last['machine']} "
        "(`python dev/read_speed.py`)."
    )
    return "\n".join([*lines, "", told])


def _runs(row: dict[str, Any]) -> int:
    return len(row["runs"]["after"])


def read_ways() -> str:
    """Table of the ways to run, from dev/read_three_ways.py."""
    found = json.loads((ROOT / "benchmarks/read_three_ways_202612.json").read_text())
    names = {
        "process": "this process", "workers": "`--workers 2`", "servers": "two light servers",
        "router": "two light servers behind nginx", "ray": "`--ray local`",
    }  # fmt: skip
    lines = [
        "| pages | way | pages/s | s | MB of the command | rows | other than in the first way |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for pages, ways in found.items():
        for way, row in ways.items():
            figures = f"{row['pages_per_second']:.1f} | {row['seconds']:.0f} | {row['driver_mb']}"
            differ = row["rows_that_differ_from_the_first_way"]
            lines.append(f"| {pages} | {names[way]} | {figures} | {row['rows']} | {differ} |")
    told = (
        "Drawn pages (HD-1), one short question, two cores, the start included (`python dev/read_three_ways.py`). "
        "Where few pages are different the others repeat them under further names, and caches may serve them."
    )
    return "\n".join([*lines, "", told])


def ray_kills() -> str:
    """What killed runs ended with, beside a plain one."""
    found = json.loads((ROOT / "benchmarks/ray_kills_202611.json").read_text())
    runs, names = found["runs"], {"driver": "command", "actor": "worker", "node": "node"}
    named = ", ".join(f"{count} of the {names[kind]}" for kind, count in found["kills"].items())
    wrong = {name: sum(run[name] for run in runs) for name in ("double", "missing", "different")}
    again = sum(run["retries_of_failed_rows"] for run in runs)
    words = f"`--retry-failed` was needed {again} times" if again else "no row had failed"
    rows = sum(run["rows"] for run in runs)
    return (
        f"{found['kills_in_all']} kills at random moments ({named}) in {counted(len(runs), 'run')} over "
        f"{found['pages']:,} pages, two local nodes of one core: {rows:,} rows, {wrong['double']} double, "
        f"{wrong['missing']} missing, {wrong['different']} other than in a plain run; {words} "
        "(`python dev/ray_kills.py`)."
    )


def ray_speed() -> str:
    """Pages a second and CPU of Ray beside the plain loop, and what Ray adds to a page."""
    found = json.loads((ROOT / "benchmarks/ray_202611.json").read_text())
    parts = {name: each for name, each in found.items() if isinstance(each, dict)}
    lines = ["| answerer | way | pages/s | CPU ms a page | rows |", "|---|---|---:|---:|---|"]
    for name, each in parts.items():
        for way, run in each["runs"].items():
            same = "" if (equal := run.get("rows_as_plain_loop")) is None else "the same" if equal else "differ"
            lines.append(f"| {name} | {way} | {run['pages_per_second']} | {run['cpu_ms_per_page']} | {same} |")
    lines.append("")
    for name, each in parts.items():
        runs = each["runs"]
        told = []
        if (one := runs.get("ray, 1 node of one core")) is not None:
            added = one["cpu_ms_per_page"] - runs["plain loop"]["cpu_ms_per_page"]
            told.append(f"Ray adds {added:.1f} ms of CPU to a page")
            memory = one["driver_mb"]
            if len(memory) > 1:
                sizes = ", ".join(f"{mb} after {int(at):,} pages" for at, mb in memory.items())
                told.append(f"MB of memory in the command: {sizes}")
        if "speedup_of_two_nodes" in each:
            told.append(
                f"two nodes are {each['speedup_of_two_nodes']} times one by the clock, {each['speedup_by_cpu']} by CPU"
            )
        if told:
            lines.append(f"- {name}: {'; '.join(told)}" + (f" ({each['note']})" if "note" in each else ""))
    lines += [
        "",
        f"Ray {found['ray']}, {found['cores']} cores shared with other work (load 2 to 29), which the clock shows.",
    ]
    return "\n".join(lines)


def _deviations(files: list[dict[str, Any]]) -> list[str]:
    """What differs by more, by renderer and reason."""
    reasons: dict[tuple[str, str], list[tuple[str, Any]]] = {}
    for file in files:
        for name, each in file["renderers"].items():
            if "why" in each:
                reasons.setdefault((name, each["why"]), []).append((file["name"], each))
    lines = []
    for (name, why), found in sorted(reasons.items()):
        means = [each["mean"] for _, each in found if "mean" in each]
        spread = f", mean {min(means):.1f} to {max(means):.1f}" if len(means) > 1 else ""
        spread = f", mean {means[0]:.1f}" if len(means) == 1 else spread
        lines.append(f"- {name} {why}{spread} ({'; '.join(file for file, _ in found)})")
    return lines


TABLES: dict[str, Callable[[], str]] = {
    "against_llama_cpp": against_llama_cpp,
    "anls_packages": anls_packages,
    "before_after": before_after,
    "boarding": boarding,
    "clients": clients,
    "formats": formats,
    "hardware": hardware,
    "nano": nano,
    "nano_largest": lambda: nano(LARGEST, "scores_hd55.json"),
    "nano_brief": nano_brief,
    "nano_small": nano_small,
    "pictures": pictures,
    "read_speed": read_speed,
    "read_ways": read_ways,
    "ray_kills": ray_kills,
    "ray_speed": ray_speed,
    "picture_memory": picture_memory,
    "prompt_order": prompt_order,
    "structured": structured,
    "tasks": tasks,
    "rules": rules,
    "serving_load": serving_load,
    "serving_load_eight": lambda: serving_load("202612"),
    "reading_load": reading_load,
    "serving_memory": serving_memory,
    "small": small,
    "status": status,
    "speed": speed,
    "plans": plans,
    "logit_difference": logit_difference,
}


def filled(text: str) -> str:
    """Replace every table of a document."""
    pattern = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.S)
    return pattern.sub(lambda m: f"{m[1]}{TABLES[m[2]]()}\n{m[3]}", text)


def main() -> int:
    """Write all tables; with `--check` write nothing and return 1 if one is out of date."""
    stale = [path for path in DOCUMENTS if filled(path.read_text()) != path.read_text()]
    if "--check" in sys.argv:
        return len(stale) > 0
    for path in stale:
        path.write_text(filled(path.read_text()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
