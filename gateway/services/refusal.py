"""Why a request to a service is not granted, for its caller and for the administrator.

The codes are public: they stand in answers, of the service topics and of the HTTPS API alike.
"""

from __future__ import annotations

from enum import StrEnum

from gateway.auth.tokens import TokenFault
from gateway.connection.audit_vocabulary import Report, failed_service, refused_service
from gateway.policy.engine.service_names import Service


class Code(StrEnum):
    """Why a request is not granted: `error` of an answer. The words beside it may change, these do not."""

    INVALID_REQUEST = "invalid_request"
    TOO_LARGE = "too_large"
    INVALID_TOKEN = TokenFault.INVALID.value
    TOKEN_EXPIRED = TokenFault.EXPIRED.value
    TOKEN_REVOKED = TokenFault.REVOKED.value
    NOT_ACCEPTED = TokenFault.NOT_ACCEPTED.value
    NOT_AUTHORIZED = "not_authorized"
    REPLY_NOT_ALLOWED = "reply_not_allowed"
    REPLAYED = "replayed"
    RATE_LIMITED = "rate_limited"
    DECRYPT_FAILED = "decrypt_failed"
    UNAVAILABLE = "unavailable"


_FAILED = frozenset({Code.INVALID_REQUEST, Code.TOO_LARGE, Code.DECRYPT_FAILED, Code.UNAVAILABLE})
"""Nobody decided against these: they can't be done."""


class Refusal(Exception):
    """A request is not granted. `str()` is for the caller: what to do, and nothing it may not know."""

    def __init__(self, code: Code, words: str, *, why: str = "", topic: str = "", rule: str = "") -> None:
        """`why`, `topic` and `rule` are for the administrator; without `why` the caller's words are."""
        super().__init__(words)
        self.code = code
        self.why = why or words
        self.topic = topic
        self.rule = rule

    def report(self, service: Service) -> Report:
        """What the administrators learn. It quotes nothing of the request but a topic."""
        made = failed_service if self.code in _FAILED else refused_service
        return made(f"{self.code}: {self.why}", service, self.topic, self.rule)
