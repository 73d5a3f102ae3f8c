#!/bin/sh
# webdataset 1.0.2: a shard that was cut short, as by a full disk or a download that broke off, is read as a shorter shard
# wherever the cut lies between two files or within a header; only a cut within a file's data is an error. Between two
# files of one sample the last sample lacks a field.
#
# Guess before trying: tarfile.ReadError for every cut, because the end-of-archive blocks are missing.
# Seen with webdataset 1.0.2 on Python 3.11.7, eight samples of two files: 5 samples, 6 samples of which the last has one
# field, 5 samples, and "unexpected end of data". Python's tarfile, which it reads with, lists such archives likewise.
# Exit 1 if this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/cut.py" <<'PYTHON'
import io
import sys
import tarfile

import webdataset

BLOCK = 512
whole = io.BytesIO()
with tarfile.open(fileobj=whole, mode="w") as archive:
    for sample in range(8):
        for field in ("txt", "cls"):
            data = str(sample).encode()
            member = tarfile.TarInfo(f"{sample:04d}.{field}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))  # a block of header and one of data
for name, size in (
    ("whole", None),
    ("between samples", 20 * BLOCK),
    ("between the files of a sample", 22 * BLOCK),
    ("within a header", 20 * BLOCK + 100),
    ("within a file", 21 * BLOCK + 200),
):
    path = sys.argv[1] + "/shard.tar"
    with open(path, "wb") as file:
        file.write(whole.getvalue()[:size])
    try:
        samples = list(webdataset.WebDataset(path, shardshuffle=False))
        fields = sorted(key for key in samples[-1] if not key.startswith("__"))
        print(webdataset.__version__, name, len(samples), *fields)
    except tarfile.ReadError as error:
        print(webdataset.__version__, name, error.args[0].partition(" @")[0])
PYTHON
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q webdataset==1.0.2
"$folder/env/bin/python" "$folder/cut.py" "$folder" 2> /dev/null | tee "$folder/seen"
printf '1.0.2 %s\n' 'whole 8 cls txt' 'between samples 5 cls txt' 'between the files of a sample 6 txt' \
    'within a header 5 cls txt' 'within a file unexpected end of data' |
    cmp -s - "$folder/seen" || { echo "this has changed"; exit 1; }
