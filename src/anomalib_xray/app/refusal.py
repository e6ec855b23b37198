"""What the viewer answers to a request that it does not serve."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

_BUSY = 503
_UNREAD = (408, 413)
"""Answers that are given before the body has been read to its end."""


class RequestError(Exception):
    """A request that is answered with an error.

    Args:
        status: HTTP status, 400 to 599.
        sentence: What is wrong and the way out; nothing of the request's content.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence

    def response(self) -> Response:
        """The answer: ``{"error": "<one sentence>"}``."""
        headers = {}
        if self.status == _BUSY:
            headers["retry-after"] = "1"
        if self.status in _UNREAD:
            headers["connection"] = "close"
        return JSONResponse({"error": self.sentence}, self.status, headers)
