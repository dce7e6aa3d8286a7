"""The service topics: `auth`, `validate`, `encrypt` and `decrypt`, for whoever calls them.

`request_handler` answers one request with one message, without waiting for anything; `direct_bus_requests`
brings it the requests of services that are connected straight to the bus. Must not know how a packet looks,
nor where the answer is written.
"""
