"""What is refused, in the shape from which OpenAI's clients make their exceptions."""

from __future__ import annotations

from typing import Any

from ixc.errors import UsageError

LONGEST_QUOTE = 60
"""Most characters of a client's text that an error repeats."""


class ApiError(UsageError):
    """A request that is refused, with what OpenAI's clients need to raise their own exception.

    Args:
        message: one line with the remedy.
        status: HTTP status, 400 to 599.
        code: short name for programs.
        param: the field that is wrong.
        retry_after: seconds after which another try makes sense.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.retry_after = status, code, param, retry_after

    def at(self, where: str) -> ApiError:
        """Return the same error with the path of the part that it is about."""
        return ApiError(
            f"{where}: {self}", status=self.status, code=self.code, param=where, retry_after=self.retry_after
        )


KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
"""Status -> type of an error; other 4xx are invalid requests, 5xx the server's fault."""


def error_body(message: str, *, status: int, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """Return the object that OpenAI's clients turn into their exceptions."""
    kind = KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def quote(text: object) -> str:
    """Return a client's text for an error: at most `LONGEST_QUOTE` characters, ASCII, one line."""
    line = ascii(str(text)[: LONGEST_QUOTE + 1])[1:-1]
    return line if len(line) <= LONGEST_QUOTE else line[:LONGEST_QUOTE] + "..."
