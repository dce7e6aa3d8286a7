"""What callers are told when they are not authenticated, over HTTPS and on the bus alike.

The exact reason, which the login gate gives, is only for our log.
"""

from __future__ import annotations

from gateway.auth.credentials import LoginRefused
from gateway.auth.tokens import TokenFault, TokenRefused
from gateway.mqtt.reason_codes import Reason
from gateway.services.refusal import Code, Refusal

INVALID_CREDENTIALS = "Invalid credentials"
_OF_TOKEN = {
    TokenFault.INVALID: "This is no token of this gateway: ask auth for one.",
    TokenFault.EXPIRED: "The token has expired: ask auth for another.",
    TokenFault.REVOKED: "The token was revoked: ask auth for another.",
    TokenFault.NOT_ACCEPTED: "The device of this token is not accepted now: ask the administrator.",
}


def of_login(refused: LoginRefused) -> Refusal:
    """For refused credentials. Unknown device, wrong secret and disabled device get the same answer."""
    if refused.reason is Reason.CONNECTION_RATE_EXCEEDED:
        words = "Too many wrong secrets: try again in a minute."
        return Refusal(Code.RATE_LIMITED, words, why=refused.why)
    if refused.reason in {Reason.SERVER_BUSY, Reason.SERVER_UNAVAILABLE}:
        words = "Nobody can be recognised at the moment: try again."
        return Refusal(Code.UNAVAILABLE, words, why=refused.why)
    return Refusal(Code.NOT_ACCEPTED, INVALID_CREDENTIALS, why=refused.why)


def of_token(refused: TokenRefused) -> Refusal:
    """For a refused token in a request."""
    return Refusal(Code(refused.fault), _OF_TOKEN[refused.fault], why=refused.why)
