"""Makes a policy of the access rules of other brokers: `gateway-admin acl import`.

An import source (`mosquitto_acl`, `dynsec`) gives each user access lists: lines that are compared in order,
of which the first that matches decides. `first_match` turns them into allows and denies, `role_composition`
makes roles that users share, and `policy_writer` writes the files. What our rules can't express becomes a
`Finding`, with file and line: nothing is dropped silently, and the policy then gives less rather than more.
"""
