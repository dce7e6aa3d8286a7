"""What must outlive the process: devices and what they did, the log of changes, tokens, key use counts.

SQLAlchemy Core over SQLite. Slow by the measure of the data path, which reads `gateway.store.directory`.
"""

from gateway.core.identity import OBSERVE_MOST
from gateway.store.errors import DeviceExists, StoreError, UnknownDevice
from gateway.store.records import Refusal
from gateway.store.store import Store, open_store
from gateway.store.tokens import IssuedToken

__all__ = [
    "OBSERVE_MOST",
    "DeviceExists",
    "IssuedToken",
    "Refusal",
    "Store",
    "StoreError",
    "UnknownDevice",
    "open_store",
]
