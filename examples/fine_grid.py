"""What a setting costs before anything runs: `python examples/fine_grid.py 3840 2160`."""

import sys

from ixc.inference.cost import plan, text

width, height = (int(side) for side in sys.argv[1:])
for hd in (9, 25, 55):
    for rule in ("original", "fit"):
        print(f"HD-{hd} {rule}")
        print("\n".join(f"    {line}" for line in text(plan(width, height, hd=hd, rule=rule))))
