"""Cuts fonts down to printable ASCII for the drawn documents: python dev/subset_fonts.py OUT NAME=FILE...

Needs fontTools, which the package itself does not. Hints are kept, since they decide pixels; kerning and ligatures go,
since the drawing never uses them. A cut file is a modified version: its family name becomes "ixc NAME", so that names
reserved by the SIL licence are not carried on; copyright and licence stay in its name table.
"""

import sys
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

FAMILY, FULL, POSTSCRIPT = 1, 4, 6
KEPT = {0, 2, 5, 13, 14}
"""Name records: copyright, style, version, licence and its address."""


def cut(source: Path, name: str, out: Path) -> int:
    """Writes OUT/NAME with the suffix of the source; returns its size in bytes."""
    font = TTFont(source)
    options = subset.Options(hinting=True, layout_features=[], name_IDs=sorted(KEPT), notdef_outline=True)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=range(32, 127))
    cutter.subset(font)
    for record, text in ((FAMILY, f"ixc {name}"), (FULL, f"ixc {name}"), (POSTSCRIPT, f"ixc-{name}")):
        font["name"].setName(text, record, 3, 1, 0x409)
    if "CFF " in font:
        font["CFF "].cff.fontNames = [f"ixc-{name}"]
    path = out / (name + source.suffix)
    font.save(path)
    return path.stat().st_size


if __name__ == "__main__":
    for pair in sys.argv[2:]:
        name, file = pair.split("=", 1)
        print(f"{name:24s} {cut(Path(file), name, Path(sys.argv[1])):8,d} bytes")
