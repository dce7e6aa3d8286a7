"""The keys that seal payloads and sign tokens: the key ring, the envelope, the key files and their backup.

The key ring and the envelope are sans-I/O; the files are not.
"""
