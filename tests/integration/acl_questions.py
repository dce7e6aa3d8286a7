"""Questions to a real Mosquitto: which topics may these clients publish, and which are they delivered?

One broker, connections that stay, many questions in flight. A client called `probe` may do everything:
it sees what others publish, and publishes what others may see.
"""

import struct

from harness import raw
from harness.mosquitto import Mosquitto

PROBE = "probe"
EVERYTHING = ("#", "$SYS/broker/connection/#", "$home/#")
"""What the probe listens to and may use: `#` reaches no topic that begins with $."""


class Client:
    """A connection that waits for the broker to have dealt with all that was sent."""

    def __init__(self, port, user, client_id, password=None):
        self._open = lambda: self._connect(port, user, client_id, password)
        self._raw = None
        self._open()

    def _connect(self, port, user, client_id, password):
        if self._raw is not None:
            self._raw.close()
        self._raw = raw.Raw(port)
        answer = self._raw.send(raw.connect(client_id, username=user, password=password)).read()
        assert answer[:1] == b"\x20", (user, answer)
        assert answer[3] == 0, (user, answer)

    def subscribe(self, *filters):
        """The SUBACK's codes, and the topics of what came before it."""
        self._raw.send(raw.subscribe(1, *((one, 0) for one in filters)))
        heard = []
        while (packet := self._raw.read())[0] != 0x90:
            heard.append(message(packet))
        return packet[-len(filters) :], heard

    def publish(self, *messages, retain=False):
        """Send messages and a ping in one piece: the connection may end at the first that is denied."""
        found = [raw.publish(topic, payload, retain=retain) for topic, payload in messages]
        self._raw.send(*found, raw.PINGREQ)

    def ping(self):
        self._raw.send(raw.PINGREQ)

    def heard(self):
        """What came until the answer to the last ping; the connection is made anew when it was ended."""
        found = []
        while (packet := self._raw.read()) != raw.PINGRESP:
            if not packet:  # Debian's 2.0.11 ends it after a PUBLISH that is denied
                self._open()
                return found
            found.append(message(packet))
        return found

    def close(self):
        self._raw.close()


class Broker:
    """A Mosquitto that asks an acl_file (or a plugin), and one client for each identity."""

    def __init__(self, folder, settings, identities, password=None):
        """`identities` are pairs of user name and client id."""
        self._mosquitto = Mosquitto(folder, settings=f"{settings}\nmax_queued_messages 0").start()
        self._password = password
        self._probe = self._made(PROBE, PROBE)
        self._probe.subscribe(*EVERYTHING)
        self._clients = {who: self._made(*who) for who in identities}

    @classmethod
    def of_acl(cls, folder, acl, identities):
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "mosquitto.acl"
        rights = "".join(f"topic readwrite {one}\n" for one in EVERYTHING)
        file.write_text(f"{acl}\nuser {PROBE}\n{rights}")
        return cls(folder, f"acl_file {file}", identities)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in (self._probe, *self._clients.values()):
            client.close()
        self._mosquitto.stop()

    def client(self, *who):
        """The connection of an identity."""
        return self._clients[who]

    def published(self, topics):
        """By identity, the topics that it may publish to."""
        found = {who: set() for who in self._clients}
        for number, topic in enumerate(topics):
            for index, client in enumerate(self._clients.values()):
                client.publish((topic, struct.pack(">II", number, index)))
            for client in self._clients.values():
                client.heard()
        identities = list(self._clients)
        self._probe.ping()
        for topic, payload in self._probe.heard():
            number, index = struct.unpack(">II", payload)
            assert topic == topics[number]
            found[identities[index]].add(topic)
        return found

    def delivered(self, topics, *filters):
        """By identity, the topics that it is delivered: of `filters`, or of everything."""
        filters = filters or EVERYTHING
        for client in self._clients.values():
            client.subscribe(*filters)
        self._probe.publish(*((topic, b"live") for topic in topics))
        self._probe.heard()
        for client in self._clients.values():
            client.ping()
        return {who: {topic for topic, _ in client.heard()} for who, client in self._clients.items()}

    def retained(self, topics):
        """By identity, the topics of which it is delivered the retained message; they are gone afterwards."""
        self._probe.publish(*((topic, b"kept") for topic in topics), retain=True)
        self._probe.heard()
        found = {}
        for who, client in self._clients.items():
            client.ping()
            client.heard()
            early = client.subscribe(*EVERYTHING)[1]
            client.ping()
            found[who] = {topic for topic, payload in early + client.heard() if payload == b"kept"}
        self._probe.publish(*((topic, b"") for topic in topics), retain=True)
        self._probe.heard()
        return found

    def _made(self, user, client_id):
        return Client(self._mosquitto.port, user, client_id, self._password)


def message(packet):
    """Topic and payload of a PUBLISH with QoS 0."""
    assert packet[0] & 0xF6 == 0x30, packet
    start = 1
    while packet[start] & 128:
        start += 1
    size = struct.unpack_from(">H", packet, start + 1)[0]
    topic = packet[start + 3 : start + 3 + size]
    return topic.decode(), packet[start + 3 + size :]
