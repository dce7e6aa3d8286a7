"""What may be said and heard: the rules themselves, the files of `acl/`, and what can be known of them.

`engine` decides, without I/O. `files` reads and watches, `analysis` proves, compares and explains, `usage`
learns from what devices did, `imports` reads other brokers' rules.
"""
