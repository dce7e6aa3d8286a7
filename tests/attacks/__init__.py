"""Attacks on a running gateway, each judged by what an honest device beside it notices (promise 7).

A tool to be run by hand, for minutes: `make attacks`. What a row found is not done with a mend: its bound
gets a test that counts work, for a figure of seconds says little on a busy machine.

    rows        what there is: a name, a sentence, an attack with its words
    devices, records, logins, strangers
                the attacks: functions that run in processes of their own, until they are ended
    target      what an attacker knows: ports, a device's secret, addresses to come from
    house       a gateway as users start it, with a Mosquitto set up as the shipped file says
    honest      the device beside it, in a process of its own, so that no attacker's interpreter is measured
    trial       one row: attack, measure, disable the attacker, judge
"""
