"""Access rules of other brokers made into a policy of ours: `gateway-admin acl import`.

A source (`mosquitto_acl`, `dynsec`) says for each user which lines are asked in which order; the first
that matches decides there. `first_match` turns such lists into allows and denies, `role_composition` makes
roles of them that users share, `policy_writer` files. What can't be said in our rules becomes a `Finding`:
it is listed with file and line and never dropped silently, and the policy then gives less rather than more.
"""
