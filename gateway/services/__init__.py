"""The service topics: `auth` issues tokens, `validate` checks them, `encrypt` and `decrypt` seal and open.

`request_handler` answers one request with one message, without waiting for anything; `direct_bus_requests`
passes on the requests of programs that are connected directly to the bus. Must not know how a packet looks,
nor where the answer is written.
"""
