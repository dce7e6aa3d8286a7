"""The files of `acl/`: read, checked, watched."""
