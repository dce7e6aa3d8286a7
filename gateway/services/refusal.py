"""Why a request to a service is refused, for its caller and for the administrators.

The codes are public: they appear in answers of the service topics and of the HTTPS API.
"""

from __future__ import annotations

from enum import StrEnum

from gateway.auth.tokens import TokenFault
from gateway.connection.audit_vocabulary import Report, failed_service, refused_service
from gateway.policy.engine.service_names import Service


class Code(StrEnum):
    """Why a request is refused: `error` in an answer. The message beside it may change, the codes don't."""

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
"""Codes of requests that failed, and were not refused by a decision."""


class Refusal(Exception):
    """A request is refused. `str()` is for the caller: it says what to do, and nothing that is not for it."""

    def __init__(self, code: Code, words: str, *, why: str = "", topic: str = "", rule: str = "") -> None:
        """`words` are for the caller; `why` (by default `words`), `topic` and `rule` for administrators."""
        super().__init__(words)
        self.code = code
        self.why = why or words
        self.topic = topic
        self.rule = rule

    def report(self, service: Service) -> Report:
        """What administrators learn. It quotes nothing of the request but a topic."""
        made = failed_service if self.code in _FAILED else refused_service
        return made(f"{self.code}: {self.why}", service, self.topic, self.rule)
