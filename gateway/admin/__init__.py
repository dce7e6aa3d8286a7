"""What an administrator can do: one function each, which makes a change and writes its audit event.

Both are in one transaction of the store, so that neither is there without the other; `gateway.admin.keys`
says what holds for files. The caller says who asks (`actor`), and shows what came of it. Nothing here knows
whether that is a command, the control socket or the API.
"""
