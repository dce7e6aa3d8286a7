"""`make bench`: what one message, one connect and one idle connection cost, beside the peers.

`peers` starts the servers, `load` drives them, `resource_usage` reads their clocks, `workloads` says what is
measured, `table` writes it down. See README.md for how to read the result.
"""
