"""The files of acl/: read, checked, watched, explained. The rules themselves are in gateway.core.policy."""
