"""Who is next for a hash: the order for given arrivals, and that nothing can be grown."""

from __future__ import annotations

import pytest

from gateway.auth import login_queue
from gateway.auth.login_queue import HashRequest, LoginQueue, Standing, Waiter, WrongLogins
from gateway.system.ip_address_blocks import network_of, place_of

KNOWN, SEEN, UNKNOWN, BACKGROUND = Standing


class Login(Waiter):
    def __init__(self, name: str, address: str, standing: Standing = UNKNOWN, size: int = 0) -> None:
        super().__init__(HashRequest(standing, place_of(address), network_of(address), size))
        self.name = name


class Queue:
    """A queue and its clock."""

    def __init__(self, most: int = 1_000) -> None:
        self.queue: LoginQueue[Login] = LoginQueue(most)
        self.now = 0.0

    def come(self, name: str, address: str, standing: Standing = UNKNOWN, size: int = 0) -> list[str]:
        """One more arrives; who has to go."""
        login = Login(name, address, standing, size)
        self.queue.add(login)
        return [gone.name for gone in self.queue.evict_excess(login.request, self.now)]

    def wrong(self, address: str, times: int = 1) -> list[str]:
        visitor = HashRequest(UNKNOWN, place_of(address), network_of(address))
        return [gone.name for _ in range(times) for gone in self.queue.count_wrong(visitor, self.now)]

    def right(self, address: str) -> None:
        self.queue.count_right(HashRequest(UNKNOWN, place_of(address), network_of(address)), self.now)

    def order(self, most: int = 1_000, *, background: bool = True) -> list[str]:
        served = []
        while len(served) < most and (login := self.queue.next(self.now, background=background)) is not None:
            served.append(login.name)
        return served


@pytest.fixture
def queue() -> Queue:
    return Queue()


def test_in_the_order_of_their_arrival(queue):
    for name in "abc":
        queue.come(name, "10.0.1.1")
    assert queue.order() == ["a", "b", "c"]
    assert queue.order() == []


@pytest.mark.parametrize(
    ("crowd", "alone"),
    [
        (["10.0.1.1"] * 4, "10.0.2.1"),
        (["10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.1.4"], "10.0.2.1"),
        (["2001:db8:1:1::1", "2001:db8:1:1::2", "2001:db8:1:1::3", "2001:db8:1:1::4"], "2001:db8:2::1"),
        # One owner has 65,536 of /64.
        (["2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:1:3::1", "2001:db8:1:4::1"], "2001:db8:2::1"),
        (["::ffff:10.0.1.1", "10.0.1.2", "::ffff:10.0.1.3", "10.0.1.4"], "::ffff:10.0.2.1"),
        (["bus"] * 4, "10.0.2.1"),
    ],
)
def test_turns_go_between_networks_however_many_addresses_they_have(queue, crowd, alone):
    for number, address in enumerate(crowd):
        queue.come(f"crowd-{number}", address)
    queue.come("alone", alone)
    assert queue.order() == ["crowd-0", "alone", "crowd-1", "crowd-2", "crowd-3"]


@pytest.mark.parametrize(
    ("crowded", "other"), [("10.0.1.1", "10.0.1.2"), ("2001:db8:1:1::1", "2001:db8:1:2::1")]
)
def test_within_a_network_turns_go_between_its_places(queue, crowded, other):
    for number in range(4):
        queue.come(f"crowd-{number}", crowded)
    queue.come("other", other)
    assert queue.order() == ["crowd-0", "other", "crowd-1", "crowd-2", "crowd-3"]


def test_a_newcomer_goes_before_all_networks_that_guess(queue):
    """40 addresses with 2.5 wrong logins a second each kept every newcomer out."""
    for network in range(40):
        queue.wrong(f"10.0.{network}.1", 3)
        queue.come(f"guess-{network}", f"10.0.{network}.1")
    queue.come("newcomer", "10.1.0.1")
    assert queue.order(1) == ["newcomer"]


def test_an_address_that_guesses_costs_its_neighbour_nothing_against_others_that_guess(queue):
    """However much worse its network is than theirs."""
    queue.wrong("10.0.1.1", 300)
    for address in ("10.0.1.1", "10.0.2.1"):
        queue.wrong(address, 3)
        for number in range(8):
            queue.come(f"guess-{number}", address)
    queue.come("neighbour", "10.0.1.7")
    queue.come("clean", "10.0.3.1")
    assert queue.order(2) == ["clean", "neighbour"]


def test_an_owner_that_guesses_from_place_after_place_comes_after_clean_networks(queue):
    for number in range(20):
        queue.wrong(f"2001:db8:1:{number:x}::1")
        queue.come(f"fresh-{number}", f"2001:db8:1:1{number:02x}::1")
    for number in range(3):
        queue.come(f"clean-{number}", f"10.0.{number}.1")
    assert queue.order(3) == ["clean-0", "clean-1", "clean-2"]


def test_fewer_wrong_logins_go_before_more_and_are_forgotten(queue):
    queue.wrong("10.0.1.1", 64)
    queue.wrong("10.0.2.1", 1)
    for number, address in enumerate(("10.0.1.1", "10.0.2.1", "10.0.3.1")):
        queue.come(f"{number}", address)
    assert queue.order() == ["2", "1", "0"]
    assert not queue.queue.is_clean("10.0.2.1", "10.0.2.0/24", queue.now)
    assert not queue.queue.is_clean("10.0.2.9", "10.0.2.0/24", queue.now)
    queue.now += 31
    assert queue.queue.is_clean("10.0.2.1", "10.0.2.0/24", queue.now)
    queue.now += 600
    for number, address in enumerate(("10.0.1.1", "10.0.2.1")):
        queue.come(f"{number}", address)
    assert queue.order() == ["0", "1"]


def test_known_before_seen_before_strangers(queue):
    queue.come("stranger", "10.0.1.1")
    queue.come("seen", "10.0.2.1", SEEN)
    queue.come("known", "10.0.3.1", KNOWN)
    assert queue.order() == ["known", "seen", "stranger"]


def test_a_device_that_is_known_there_loses_nothing_by_its_neighbours(queue):
    queue.wrong("10.0.1.1", 300)
    for number in range(8):
        queue.come(f"guess-{number}", "10.0.1.1")
    queue.come("clean", "10.0.2.1")
    queue.come("known", "10.0.1.1", KNOWN)
    assert queue.order(2) == ["known", "clean"]


def test_no_standing_keeps_another_out(queue):
    """A storm of known devices after a restart leaves a newcomer every fourth turn."""
    for number in range(40):
        queue.come(f"known-{number}", f"10.0.{number}.1", KNOWN)
        queue.come(f"seen-{number}", f"10.1.{number}.1", SEEN)
        queue.come(f"new-{number}", f"10.2.{number}.1")
    first = [name.partition("-")[0] for name in queue.order(40)]
    assert [first.count(kind) for kind in ("known", "seen", "new")] == [20, 10, 10]


def test_what_has_time_comes_after_all_logins(queue):
    queue.come("anew", "", BACKGROUND)
    for number in range(5):
        queue.come(f"{number}", "10.0.1.1")
    assert queue.order() == ["0", "1", "2", "3", "4", "anew"]
    queue.come("anew", "", BACKGROUND)
    assert queue.order(background=False) == []
    assert queue.order() == ["anew"]


def test_who_goes_leaves_its_place(queue):
    logins = [Login(f"{number}", "10.0.1.1") for number in range(3)]
    for login in logins:
        queue.queue.add(login)
    queue.queue.remove(logins[0])
    queue.queue.remove(logins[0])
    assert len(queue.queue) == 2
    assert queue.order() == ["1", "2"]
    queue.queue.remove(logins[1])
    assert not queue.queue._networks, "nothing is kept of those who are gone"
    assert not any(queue.queue._units)


def test_the_whole_queue_is_open_to_one_network_that_does_nothing_wrong():
    """400 imported devices at once behind one address: 136 got in."""
    queue = Queue(most=400)
    assert [gone for number in range(400) for gone in queue.come(f"{number}", "10.0.1.1")] == []
    assert queue.come("too many", "10.0.1.1") == ["too many"]
    assert queue.come("from elsewhere", "10.0.2.1") == ["399"]


def test_only_a_few_wait_from_where_there_is_nothing_but_guessing(queue):
    for number in range(160):
        assert queue.come(f"guess-{number}", "10.0.1.1") == []
    gone = queue.wrong("10.0.1.1", 300)
    assert gone[0] == "guess-159", "the last first"
    assert len(queue.queue) == login_queue._UNITS_MIN
    assert queue.come("one more", "10.0.1.1") == ["one more"]


def test_nor_from_a_network_with_many_addresses(queue):
    for number in range(160):
        address = f"2001:db8:1:{number:x}::1"
        queue.wrong(address, 2)
        queue.come(f"guess-{number}", address)
    assert len(queue.queue) <= 4 * login_queue._UNITS_MIN


def test_one_wrong_secret_among_many_right_ones_sends_nobody_away(queue):
    for number in range(400):
        queue.come(f"{number}", "10.0.1.1")
    assert queue.wrong("10.0.1.1") == []


def test_a_dozen_wrong_passwords_among_many_devices_send_nobody_away(queue):
    """Of 400 that come at once for the first time, 8 with a wrong password: 260 were told to come again."""
    for number in range(400):
        queue.come(f"{number}", "10.0.1.1")
    assert queue.wrong("10.0.1.1", 12) == []
    assert len(queue.wrong("10.0.1.1", 52)) > 350, "that is guessing"


def test_right_logins_make_up_for_wrong_ones_and_are_not_saved_up(queue):
    for number in range(400):
        queue.come(f"{number}", "10.0.1.1")
    for _ in range(100):
        assert queue.wrong("10.0.1.1") == []
        queue.right("10.0.1.1")
    for _ in range(100):
        queue.right("10.0.1.1")
    queue.wrong("10.0.1.1", 300)
    assert len(queue.queue) == login_queue._UNITS_MIN


def test_a_right_login_puts_nobody_further_forward(queue):
    """Whoever has a device of their own would guess with it between."""
    queue.wrong("10.0.1.1")
    queue.right("10.0.1.1")
    assert not queue.queue.is_clean(place_of("10.0.1.1"), network_of("10.0.1.1"), queue.now)


def test_known_devices_are_sent_away_by_nobodys_guesses(queue):
    for number in range(100):
        queue.come(f"{number}", "10.0.1.1", KNOWN)
    assert queue.wrong("10.0.1.1", 300) == []


def test_when_it_is_full_each_standing_has_its_share():
    queue = Queue(most=40)
    for number in range(100):
        queue.come(f"known-{number}", f"10.0.{number}.1", KNOWN)
    for number in range(100):
        queue.come(f"new-{number}", f"10.1.{number}.1")
    left = [name.partition("-")[0] for name in queue.order()]
    assert (left.count("known"), left.count("new")) == (30, 10)


def test_a_long_secret_takes_the_room_of_many():
    queue = Queue(most=130)
    gone = [one for number in range(3) for one in queue.come(f"{number}", "10.0.1.1", size=65_535)]
    assert gone == ["2"]
    assert queue.come("short", "10.0.2.1") == []


def test_what_has_time_is_bounded_and_takes_no_room_of_logins():
    queue = Queue(most=10)
    gone = [one for number in range(12) for one in queue.come(f"{number}", "", BACKGROUND)]
    assert gone == ["10", "11"]
    assert queue.come("login", "10.0.1.1") == []


def test_wrong_logins_of_many_places_fill_no_memory(monkeypatch):
    monkeypatch.setattr(login_queue, "_REMEMBERED_MAX", 100)
    wrong = WrongLogins()
    for number in range(1_000):
        wrong.count(f"{number}", 0.0)
    assert len(wrong._counts) == 100
    assert (wrong.level("0", 0.0), wrong.level("999", 0.0)) == (0, 2)
