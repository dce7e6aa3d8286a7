"""Roles that let their devices subscribe to more than they may hear, as the source did, and no others."""

from __future__ import annotations

import json

from gateway.policy.engine.identity import Identity
from gateway.policy.engine.policy import Action
from gateway.policy.engine.rules import OnWideSubscribe
from gateway.policy.imports.dynsec import DynSec
from gateway.policy.imports.mosquitto_acl import AclFile
from gateway.policy.imports.policy_writer import compiled
from gateway.policy.imports.role_composition import compose
from gateway.policy.imports.wide_subscribing_roles import let_subscribe_wide


def imported(source):
    composed = compose(source, reserved="gateway", sensitive=[])
    let_subscribe_wide(source, composed)
    return composed


def wide(composed):
    return {draft.role.name for draft in composed.drafts if draft.role.subscribe is OnWideSubscribe.FILTER}


def test_an_acl_file_takes_every_subscribe_so_whoever_may_read_something_may_ask_for_all():
    text = (
        b"user ha\ntopic read rooms/#\nuser pen\ntopic write log\nuser root\ntopic read #\n"
        b"pattern read own/%u\n"
    )
    composed = imported(AclFile(text, "m.acl"))
    assert wide(composed) == {"everyone", "ha"}
    (note,) = [one for one in composed.findings if 'subscribe = "filter"' in one.text]
    assert note.kind == "note"
    assert "in the roles everyone, ha" in note.text
    assert "It costs: the bus sends" in note.text
    policy = compiled(composed, reserved="gateway")
    hass = policy.rights(Identity("ha", composed.roles_of["ha"], {}, "ha"))
    assert hass.decide_filter("#").is_partial
    assert not hass.decide(Action.SUBSCRIBE, "doors/front").allowed
    assert not hass.decide_filter("doors/#").allowed
    assert policy.rights(Identity("root", composed.roles_of["root"], {}, "c")).decide_filter("#").allowed


def dynsec(receive, *acls, subscribe=False):
    defaults = {
        "publishClientSend": False,
        "publishClientReceive": receive,
        "subscribe": subscribe,
        "unsubscribe": True,
    }
    rules = [{"acltype": kind, "topic": topic, "allow": True} for kind, topic in acls]
    whole = {
        "defaultACLAccess": defaults,
        "clients": [{"username": "ha", "roles": [{"rolename": "r"}]}],
        "groups": [],
        "roles": [{"rolename": "r", "acls": rules}],
    }
    return DynSec(json.dumps(whole).encode(), "d.json")


def test_the_plugin_only_where_more_may_be_subscribed_to_than_received():
    narrow = ("subscribePattern", "rooms/#")
    assert wide(imported(dynsec(True, narrow))) == set()
    everything = [("subscribePattern", "#"), ("publishClientReceive", "rooms/#")]
    assert wide(imported(dynsec(False, *everything))) == {"r"}
    assert wide(imported(dynsec(False, ("publishClientReceive", "rooms/#"), subscribe=True))) == {"r"}
    assert wide(imported(dynsec(False, narrow, ("publishClientReceive", "rooms/#")))) == set()
