"""Addresses of object stores and other file systems, through fsspec: `s3://`, `gs://`, `file://`, `memory://`.

fsspec comes with huggingface_hub; the package of a store (s3fs, gcsfs) is installed by who uses the store.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, Any

from ixc.errors import DataError, ImageError, MissingPackageError, UsageError

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
"""At least two letters before the colon: C:// is a drive."""

_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
"""Scheme -> package that fsspec needs for it."""


def is_address(name: str) -> bool:
    """Whether a name is an address and no local path."""
    return _SCHEME.match(name) is not None


def open_binary(name: str) -> IO[bytes]:
    """Open a local file or an address as a seekable stream.

    Raises:
        OSError: it cannot be opened. MissingPackageError, UsageError: as `file_system`.
    """
    if not is_address(name):
        return open(name, "rb")  # the caller closes it
    found, path = file_system(name)
    return found.open(path, "rb")


def read_bytes(name: str, *, limit: int) -> bytes:
    """Return the bytes at an address.

    Raises:
        ImageError: it cannot be read, or is larger than `limit` bytes.
    """
    found, path = file_system(name)
    try:
        size = found.size(path)
        if size is not None and size > limit:
            raise ImageError(f"{name} has {size:,} bytes, at most {limit:,} are read; reduce or divide it first")
        return found.cat_file(path)
    except ImageError:
        raise
    except Exception as error:  # a store's package raises errors of its own
        raise ImageError(f"{name} cannot be read ({_reason(error)}); check the address and the access to it") from error


def files_below(address: str) -> Iterator[tuple[str, bool]]:
    """Yield (address, whether it is the one that was named) of the files at an address, every folder's sorted.

    Raises:
        UsageError: nothing is there. DataError: it cannot be listed. MissingPackageError: a package is missing.
    """
    found, path = file_system(address)
    try:
        if any(each in path for each in "*?["):
            names = sorted(found.glob(path))
            if not names:
                raise UsageError(f"no file matches {address}; check the pattern")
            yield from ((found.unstrip_protocol(name), True) for name in names if not found.isdir(name))
        elif found.isfile(path):
            yield found.unstrip_protocol(path), True
        elif not found.exists(path):
            raise UsageError(f"nothing is at {address}; check the address and the access to it")
        else:
            for folder, folders, files in found.walk(path, on_error="raise"):  # fsspec's default hides the rest
                folders.sort()  # in place: the walk goes on in this order
                yield from ((found.unstrip_protocol(f"{folder}/{name}"), False) for name in sorted(files))
    except (UsageError, GeneratorExit):
        raise
    except Exception as error:  # a store's package raises errors of its own
        raise DataError(
            f"{address} cannot be listed ({_reason(error)}); check the address and the access to it"
        ) from error


def file_system(address: str) -> tuple[Any, str]:
    """Return fsspec's file system of an address and the path in it.

    Raises:
        MissingPackageError: fsspec or the package of the store. UsageError: no such kind of address.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise MissingPackageError("addresses need fsspec, which is missing; pip install fsspec") from error
    try:
        return url_to_fs(address)
    except ImportError as error:  # fsspec: "Install s3fs to access S3"
        scheme = address.partition("://")[0]
        remedy = f"pip install {_PACKAGES[scheme]}" if scheme in _PACKAGES else _reason(error)
        raise MissingPackageError(f"{scheme}:// needs a package that is missing; {remedy}") from error
    except ValueError as error:
        raise UsageError(f"{address}: {_reason(error)}; use a path, s3://, gs:// or file://") from error


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
