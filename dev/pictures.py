"""Ask a model about three pictures that the package did not draw; writes benchmarks/pictures_nano_202611.json.

    python dev/pictures.py [MODEL FOLDER]

Every question of examples/pictures/questions.json is asked at several settings; the sources are beside the pictures.
"""

import json
import sys
from pathlib import Path

from ixc.inference.engine import load

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "examples" / "pictures"
RESULT = ROOT / "benchmarks" / "pictures_nano_202611.json"
SETTINGS = (4, 9, 16)
"""HD-n settings; 9 is the model's default."""


def main() -> int:
    """Ask all questions and write the answers."""
    engine = load(Path(sys.argv[1]) if len(sys.argv) > 1 else None, device="cpu")
    rows = []
    for name, about in json.loads((PICTURES / "questions.json").read_text()).items():
        for question, answer in about["answers"].items():
            said = {str(hd): engine.ask([PICTURES / name], question, hd=hd).text for hd in SETTINGS}
            rows.append({"picture": name, "made": about["made"], "question": question, "answer": answer, "said": said})
    RESULT.write_text(json.dumps({"settings": SETTINGS, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
