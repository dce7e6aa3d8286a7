"""The least of TLS that the gateway speaks, however its Python was built.

What a new `ssl.SSLContext` offers is chosen when Python is built: with Debian's it is all that OpenSSL has,
suites without forward secrecy among it, and the versions are those of the system's configuration.
"""

from __future__ import annotations

import ssl
from typing import TypeVar

Context = TypeVar("Context", bound=ssl.SSLContext)

_SECURITY_LEVEL = 2
"""Of OpenSSL: 112 bits, so RSA of 2,048 bits at least, and no signature over SHA-1."""
_SUITES = "ECDH+AESGCM:ECDH+CHACHA20:ECDH+AES:!aNULL:!eNULL:!aDSS:!SHA1:!AESCCM"
"""Of TLS 1.2, in OpenSSL's words: forward secrecy (RFC 9325, 4.1), SHA-2. Those of 1.3 the system chooses."""


def raise_to_floor(context: Context) -> Context:
    """Let `context`, which is returned, speak TLS 1.2 and 1.3 alone, with these suites of 1.2.

    It is to be raised before it loads a chain of its own: the level decides whether that is good. A stricter
    version or level that it has already stays, but not a shorter list of suites.
    """
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(f"@SECLEVEL={max(_SECURITY_LEVEL, context.security_level)}:{_SUITES}")
    return context
