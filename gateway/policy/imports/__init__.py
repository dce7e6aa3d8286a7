"""Access rules of other brokers made into a policy of ours: `gateway-admin acl import`.

An import source (`mosquitto_acl`, `dynsec`) gives each user access lists: lines that are asked in order, of
which the first that matches decides. `first_match` turns them into allows and denies, `role_composition`
makes roles of them that users share, `policy_writer` files. What can't be said in our rules becomes a
`Finding`: it is listed with file and line and never dropped silently, and the policy then gives less rather
than more.
"""
