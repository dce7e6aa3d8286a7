"""What must outlive the process: devices, the log of their changes, tokens, key use counts.

SQLAlchemy Core over SQLite. Slow by the measure of the data path, which reads `gateway.store.directory`.
"""

from gateway.store.errors import DeviceExists, StoreError, UnknownDevice
from gateway.store.store import Store, open_store
from gateway.store.tokens import IssuedToken

__all__ = ["DeviceExists", "IssuedToken", "Store", "StoreError", "UnknownDevice", "open_store"]
