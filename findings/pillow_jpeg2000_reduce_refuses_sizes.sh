#!/bin/sh
# Pillow 13.0.0: `Image.reduce` of an opened JPEG 2000 asks for a smaller resolution of the wavelet. Sizes are rounded half
# up (333 / 4 = 83), but the format rounds up (ISO/IEC 15444-1, B-15: 84), so that sound files are called broken wherever
# the two differ.
#
# Guess before trying: the last column is cut off, or an error.
# Seen with Pillow 13.0.0 (OpenJPEG 2.5.4): at 1/4 of 333 x 77, OSError "broken data stream when reading image file"; at
# 1/2 (167 x 39, both ways of rounding agree), and at full size, the same file is read. Exit 1 if this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/reduce.py" <<'PYTHON'
import io

import PIL
from PIL import Image

file = io.BytesIO()
Image.linear_gradient("L").resize((333, 77)).save(file, "JPEG2000")
for reduction in (0, 1, 2):
    image = Image.open(file)
    image.reduce = reduction
    try:
        image.load()
        print(PIL.__version__, reduction, *image.size)
    except OSError as error:
        print(PIL.__version__, reduction, *image.size, error)
PYTHON
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q pillow==13.0.0
"$folder/env/bin/python" "$folder/reduce.py" | tee "$folder/seen"
printf '%s\n' '13.0.0 0 333 77' '13.0.0 1 167 39' '13.0.0 2 83 19 broken data stream when reading image file' |
    cmp -s - "$folder/seen" || { echo "this has changed"; exit 1; }
