"""The keys that seal payloads and sign tokens: the ring, the envelope, the files, their backup.

The ring and the envelope are sans-I/O; the files are not.
"""
