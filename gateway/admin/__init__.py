"""What an administrator can do: one function each, which makes a change and writes its audit event.

Both stand in one transaction of the store, so that neither is there without the other; `gateway.admin.keys`
says what holds for files. Whoever calls says who asks (`actor`), and shows what came of it. Nothing here
knows how it was asked for.
"""
