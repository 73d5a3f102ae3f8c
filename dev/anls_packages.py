"""ANLS of a few answers beside the packages `anls` and `anls_star` of PyPI, as benchmarks/anls_packages_<yyyymm>.json.

pip install anls anls_star            # into an environment of its own
python dev/anls_packages.py --out FILE
"""

from __future__ import annotations

import argparse
import json
from datetime import date
from importlib.metadata import version
from pathlib import Path

from ixc.evals.metrics.anls import anls

PAIRS = (
    ("ab", "ax"), ("blue", "blxx"), ("blue\n\n\n\n\n\n", "blxx"), ("bxxx      ", "blue"), ("B  lue", "b lue"),
    ("straße", "strasse"), ("ß", "s"),
)  # fmt: skip
"""(answer, accepted answer): at the threshold, blanks around and inside, letters whose capitals are longer."""


def main() -> None:
    """Score the pairs by all three and write the file."""
    from anls import anls_score  # pyright: ignore[reportMissingImports]
    from anls_star import anls_score as anls_star  # pyright: ignore[reportMissingImports]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    rows = [
        {"answer": answer, "accepted": accepted, "ixc": anls(answer, [accepted]),
         "anls": anls_score(answer, [accepted]), "anls_star": anls_star(accepted, answer)}
        for answer, accepted in PAIRS
    ]  # fmt: skip
    versions = {name: version(name) for name in ("anls", "anls_star")}
    found = {"date": str(date.today()), "versions": versions, "rows": rows}
    parser.parse_args().out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
