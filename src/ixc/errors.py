"""The error tree: every error meant for a user is an `IxcError` with one clear line.

    IxcError               exit code 1   the call is right, and what it met is not
    ├── UsageError         exit code 2   the call must be changed: an option, a name, a number out of range
    │   └── GeometryError                no partition of this image exists for this setting
    ├── MissingPackageError              a package that only this call needs is not installed
    ├── ImageError                       not an image, broken, empty
    │   └── ImageSizeError               a size of 0, or more pixels than are read
    ├── ContextError                     the conversation does not fit the model's positions
    ├── CapacityError                    the device has too little memory
    ├── WeightsError                     missing, unexpected or damaged weights
    │   └── MissingFolderError  code 2   the model folder that was named does not exist
    ├── EndpointError                    a server refuses, does not answer or answers in another format
    │   └── UnreachableError             it would do so for any request: no connection, no key, no such model
    ├── PartialError           code 3   the result is written, and a part of it failed
    └── DataError                        a data set, a conversation or a label that cannot be used
        └── MissingFileError    code 2   the file or folder of data that was named does not exist

The line holds both numbers (what was found, what was expected) and the remedy. `assert` stays for our own invariants.
`cli/terminal.py` states the rule of the exit codes.
"""


class IxcError(Exception):
    """Base of the errors this package raises on purpose; the command line exits with `exit_code`."""

    exit_code = 1


class UsageError(IxcError):
    """The call is wrong; another call would work."""

    exit_code = 2


class MissingPackageError(IxcError):
    """A package that only this command or option needs is not installed; the message says how to install it."""


class GeometryError(UsageError):
    """No partition exists for this image size under this setting."""


class ImageError(IxcError):
    """The picture cannot be read, or is not safe to read."""


class ImageSizeError(ImageError):
    """The picture claims a size of 0, or more pixels than are read."""


class ContextError(IxcError):
    """The conversation is longer than the model's positions."""


class CapacityError(IxcError):
    """The device has too little memory."""


class WeightsError(IxcError):
    """The weights are missing, unexpected or damaged."""


class MissingFolderError(WeightsError):
    """The model folder that was named does not exist."""

    exit_code = UsageError.exit_code


class EndpointError(IxcError):
    """A model's server does not answer as it should."""


class UnreachableError(EndpointError):
    """A model's server cannot be asked at all: no connection, a missing key, no such model."""


class PartialError(IxcError):
    """The result is written and holds failed parts with their errors; the same command can try them again."""

    exit_code = 3


class DataError(IxcError):
    """A data set, a conversation or a label cannot be used."""


class MissingFileError(DataError):
    """The file or folder of data that was named does not exist."""

    exit_code = UsageError.exit_code
