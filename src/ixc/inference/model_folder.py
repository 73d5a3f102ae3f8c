"""Checks of a model folder before its weights are read: complete, readable, consistent.

find_folder -> check_settings -> read_processor, loading.load -> check_agreement
"""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ixc.core.token_layout import MERGE
from ixc.errors import MissingFolderError, UsageError, WeightsError
from ixc.utils.files import read_json_object, samples

if TYPE_CHECKING:
    from ixc.processing.processing import IxcProcessor

EMBEDDED = Path(__file__).parents[1] / "pretrained" / "nano"
"""The model inside the package; a folder like any other."""

HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
"""Form of a model's name on the Hub: "owner/name"."""

TOKENIZERS = ("tokenizer.json", "tokenizer.model")
"""Tokenizer files, one of which a model folder must have."""

SETTINGS = ("config.json", "generation_config.json", "processor_config.json", "preprocessor_config.json",
            "tokenizer.json", "tokenizer_config.json")  # fmt: skip
"""Files that must be JSON objects where they exist: transformers silently ignores a damaged one."""

MAX_WHOLE_BYTES, SAMPLES, SAMPLE_BYTES = 64 << 20, 256, 1 << 16
"""Size up to which a weights file is hashed whole for a fingerprint; else the number of samples and bytes of each."""

MAX_REASON_LENGTH = 200
"""Characters of another library's message repeated in ours; transformers lists every model it knows."""


def find_folder(folder: str | Path | None, *, revision: str | None = None) -> Path:
    """Return the path of a model folder; None = the embedded model's.

    Args:
        folder: a folder, or "owner/name" of a model in the Hub's local cache where no such folder exists.
        revision: branch, tag or commit in the Hub's cache; None = "main".

    Raises:
        MissingFolderError: no such folder. UsageError: a revision of a folder, which has none.
    """
    if folder is None and not EMBEDDED.is_dir():
        raise WeightsError(
            "this installation carries no embedded model; reinstall ixc-4khd from a wheel or a full clone, "
            "or name a folder of your own with --model (model folder)"
        )
    path = EMBEDDED if folder is None else Path(folder)
    if path.is_dir():
        if revision is not None:
            raise UsageError(f"revision {revision!r} has no effect on the folder {path}; leave it out")
        return path
    if HUB_NAME.fullmatch(str(folder)) is None:
        raise MissingFolderError(f"no model folder {path}; check the path, models are never downloaded")
    return _in_hub_cache(str(folder), revision or "main")


def _in_hub_cache(name: str, revision: str) -> Path:
    """Return the folder of a model in the Hub's local cache. Raises: MissingFolderError: it is not there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise MissingFolderError(
            f"no model folder {name}, and the Hub's cache has no revision {revision} of it; check the path, or run "
            f"hf download {name} --revision {revision}"
        ) from error


def fingerprint(folder: Path) -> str:
    """Return 16 hexadecimal digits of a digest of the settings and of samples of the weights.

    A weights file of at most `MAX_WHOLE_BYTES` is read whole, of a larger one `SAMPLES` parts spread evenly: a
    fine-tune changes layers everywhere, and tens of gigabytes need not be read to detect it. Files that no loader
    reads do not count.

    Raises:
        WeightsError: the folder has no weights.
    """
    from ixc.model.checkpoint_files import weight_files

    seen = sha256()
    settings = [folder / name for name in SETTINGS if (folder / name).is_file()]
    for path in sorted({*settings, *weight_files(folder)}):
        size = path.stat().st_size
        seen.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            if size <= MAX_WHOLE_BYTES:
                seen.update(file.read())
                continue
            for block in samples(file, size, count=SAMPLES, length=SAMPLE_BYTES):
                seen.update(block)
    return seen.hexdigest()[:16]


def check_settings(folder: Path) -> None:
    """Check that the JSON files of a folder can be read.

    Raises:
        WeightsError: one cannot, or there is no config.json.
    """
    if not (folder / SETTINGS[0]).is_file():
        raise WeightsError(f"{folder} has no {SETTINGS[0]}; give the folder of a model")
    for path in (folder / name for name in SETTINGS if (folder / name).is_file()):
        read_json_object(path, error=WeightsError, remedy="fetch it again")


def takes_system_text(folder: Path) -> bool:
    """Return whether a model was taught system turns; its settings are JSON objects (`check_settings`)."""
    path = folder / "processor_config.json"
    if not path.is_file():
        return True
    return bool(read_json_object(path, error=WeightsError, remedy="fetch it again").get("system_turns", True))


def check_tokenizer(folder: Path) -> None:
    """Check that a folder has a tokenizer. Raises: WeightsError: it has none."""
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise WeightsError(f"{folder} has no {' or '.join(TOKENIZERS)}; copy the model's tokenizer into it")


def read_processor(folder: Path) -> IxcProcessor:
    """Load tokenizer, image processor and prompt format of a folder, published or native.

    Raises:
        WeightsError: files missing or damaged.
    """
    check_tokenizer(folder)
    from ixc.processing.processing import IxcProcessor

    try:
        return IxcProcessor.from_pretrained(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error)[:MAX_REASON_LENGTH]
        raise WeightsError(
            f"the tokenizer or processor of {folder} cannot be read ({reason}); fetch it again"
        ) from error


def check_agreement(folder: Path, config: Any, processor: IxcProcessor) -> None:
    """Check that the processor writes prompts for this model.

    Raises:
        WeightsError: they disagree about the image token or its layout, or the vocabulary is too small.
    """
    side = config.vision_config.image_size // config.vision_config.patch_size // MERGE
    for name, ours, theirs in (
        ("image_token_id", processor.image_token_id, config.image_token_id),
        ("newline", processor.newline, config.newline),
        ("overview", processor.overview, config.overview),
        ("tokens_per_side", processor.tokens_per_side, side),
    ):
        if ours != theirs:
            raise WeightsError(
                f"{folder}: {name} is {ours} in the processor and {theirs} in the model; "
                "give the model's own tokenizer and processor_config.json"
            )
    if len(processor.tokenizer) > config.text_config.vocab_size:
        raise WeightsError(
            f"{folder}: the tokenizer has {len(processor.tokenizer):,} pieces, the model "
            f"{config.text_config.vocab_size:,} embeddings; give the model's own tokenizer"
        )
