"""The command `ixc`: registers every command; each file of this package holds the commands of one subject.

    ask.py         ask, chat                          plan.py     plan
    read.py        read                               serve.py    serve
    weights.py     import-weights, quantize           bench.py    bench speed
    eval.py        eval run, eval score, eval report, eval synth
    eval_pages.py  eval pages                         synth.py    synth
    train.py       train, merge, plan-train           doctor.py   doctor
    data.py        data check, data pages, data typeset, data questions

A command parses its options, imports what it needs, and calls one function. The imports are inside the commands:
`ixc --help` and `ixc plan` must answer without torch and transformers.
Exit codes: 0 done, 1 failed, 2 the command must be changed, 130 interrupted; the rule stands in `terminal.py`. An
`IxcError` becomes one line on stderr.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ixc import __version__
from ixc.cli.ask import ASK_EXAMPLES, CHAT_EXAMPLES, ask, chat
from ixc.cli.bench import bench
from ixc.cli.data import data
from ixc.cli.doctor import DOCTOR_EXAMPLES, doctor
from ixc.cli.eval import evals
from ixc.cli.eval_pages import PAGES_EXAMPLES, eval_pages
from ixc.cli.options import examples, quiet_torchao, renamed
from ixc.cli.plan import PLAN_EXAMPLES, plan
from ixc.cli.read import READ_EXAMPLES, read
from ixc.cli.serve import SERVE_EXAMPLES, serve
from ixc.cli.synth import SYNTH_EXAMPLES, synth
from ixc.cli.terminal import errors_to_exit_codes
from ixc.cli.train import (
    MERGE_EXAMPLES,
    OLD_TRAIN_OPTIONS,
    PLAN_TRAIN_EXAMPLES,
    TRAIN_EXAMPLES,
    merge,
    plan_train,
    train,
)
from ixc.cli.weights import IMPORT_EXAMPLES, QUANTIZE_EXAMPLES, import_weights, quantize
from ixc.utils.threads import configure_threads

app = typer.Typer(
    name="ixc",
    help="InternLM-XComposer2-4KHD: questions about images from 336 px to 4K, answered offline.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"ixc {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    quiet_torchao()


app.command(name="ask", epilog=examples(*ASK_EXAMPLES))(ask)
app.command(name="chat", epilog=examples(*CHAT_EXAMPLES))(chat)
app.command(name="plan", epilog=examples(*PLAN_EXAMPLES))(plan)
app.command(name="import-weights", epilog=examples(*IMPORT_EXAMPLES))(import_weights)
evals.command(name="pages", epilog=examples(*PAGES_EXAMPLES))(eval_pages)
app.add_typer(evals, name="eval")
app.add_typer(data, name="data")
app.add_typer(bench, name="bench")
app.command(name="quantize", epilog=examples(*QUANTIZE_EXAMPLES))(quantize)
app.command(name="synth", epilog=examples(*SYNTH_EXAMPLES), cls=renamed({"--turn": "--rotate"}))(synth)
app.command(name="train", epilog=examples(*TRAIN_EXAMPLES), cls=renamed(OLD_TRAIN_OPTIONS))(train)
app.command(name="merge", epilog=examples(*MERGE_EXAMPLES))(merge)
app.command(name="plan-train", epilog=examples(*PLAN_TRAIN_EXAMPLES))(plan_train)
app.command(name="read", epilog=examples(*READ_EXAMPLES))(read)
app.command(name="doctor", epilog=examples(*DOCTOR_EXAMPLES))(doctor)
app.command(name="serve", epilog=SERVE_EXAMPLES)(serve)


def main() -> None:
    """Run the command line; always leaves by SystemExit."""
    configure_threads()
    with errors_to_exit_codes():
        code = app(standalone_mode=False, prog_name="ixc")
        sys.stdout.flush()
        raise SystemExit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
