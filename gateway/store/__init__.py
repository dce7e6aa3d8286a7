"""What must outlive the process: devices and what they did, the log of changes, tokens, key use counts.

SQLAlchemy Core on SQLite. Too slow for the data path, which reads `gateway.store.device_directory` instead.
"""

from gateway.store.audit_trails import KnownTrail
from gateway.store.denial_explanations import StoredRefusal
from gateway.store.devices import NewDevice
from gateway.store.errors import DeviceExists, EventNotKept, InvalidValue, StoreError, UnknownDevice
from gateway.store.recent_refusals import RefusedClient
from gateway.store.store import Repositories, Store, open_blocking_store, open_store
from gateway.store.tokens import IssuedToken

__all__ = [
    "DeviceExists",
    "EventNotKept",
    "InvalidValue",
    "IssuedToken",
    "KnownTrail",
    "NewDevice",
    "RefusedClient",
    "Repositories",
    "Store",
    "StoreError",
    "StoredRefusal",
    "UnknownDevice",
    "open_blocking_store",
    "open_store",
]
