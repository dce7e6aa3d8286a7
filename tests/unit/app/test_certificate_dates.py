"""The look at the dates while the gateway runs: what the log is told anew, and what the metric names."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import structlog
from harness.authority import Authority, pem
from harness.background_tasks import beside, until

from gateway.app import certificate_dates
from gateway.app.certificate_dates import CertificateCheck, CertificateDates, certificates_of
from gateway.config import Settings
from gateway.system import file_notices

ROOT, MIDDLE, LEAF = Authority("Root"), Authority("Middle"), Authority("gw.example")
ENDING = (-90, 2)


def test_each_certificate_of_one_file_is_a_line_and_days_that_pass_are_none(tmp_path):
    path = pem(tmp_path / "server.crt", LEAF.certificate(MIDDLE, life=ENDING), MIDDLE.certificate(ROOT))
    now = time.time()
    with structlog.testing.capture_logs() as told:
        upkeep = CertificateDates(Settings(tls_cert_path=path), lambda: now)
        pem(
            path,
            LEAF.certificate(MIDDLE, life=ENDING),
            MIDDLE.certificate(ROOT, life=ENDING),
            ROOT.certificate(),
        )
        upkeep.look()
        told_so_far = len(told)
        now += 86_400
        upkeep.look()
    assert len(told) == told_so_far
    reasons = [line["reason"] for line in told]
    assert sum("server certificate" in reason for reason in reasons) == 2  # of 2, then of 3
    assert sum("intermediate CA" in reason for reason in reasons) == 1


def test_the_metric_names_each_role_by_itself(tmp_path):
    server = pem(tmp_path / "server.crt", LEAF.certificate(MIDDLE), MIDDLE.certificate(ROOT, life=ENDING))
    pem(tmp_path / "server-rsa.crt", LEAF.certificate(ROOT, life=(-9, 9)))
    pem(tmp_path / "ca-rsa.crt", ROOT.certificate(life=(-9, 99)))
    ends = CertificateDates(Settings(tls_cert_path=server), time.time).expiries()
    days = {name: round((end - time.time()) / 86_400) for name, end in ends.items()}
    assert days == {"server": 300, "server_chain": 2, "server_rsa": 9, "ca_rsa": 99}


def test_files_that_are_the_same_are_taken_apart_no_more(tmp_path, monkeypatch):
    path = pem(tmp_path / "server.crt", LEAF.certificate(MIDDLE, life=(-9, 9)))
    parsed = []

    def counted(settings):
        parsed.append(1)
        return certificates_of(settings)

    monkeypatch.setattr(certificate_dates, "certificates_of", counted)
    dates = CertificateDates(Settings(tls_cert_path=path), time.time)
    for _ in range(5):
        dates.look()
    assert len(parsed) == 2  # once more after a change: the file clock may not tell two of them apart
    for changed in (path, tmp_path / "ca.crt", tmp_path / "server-rsa.crt", tmp_path / "ca-rsa.crt"):
        before = len(parsed)
        pem(changed, LEAF.certificate(MIDDLE, life=(-9, 50)))
        dates.look()
        assert len(parsed) == before + 1, changed
        dates.look()
    assert dates.expiries()["server"] > time.time() + 40 * 86_400


def test_time_goes_by_though_no_file_changes(tmp_path):
    path = pem(tmp_path / "server.crt", LEAF.certificate(MIDDLE, life=(-9, 9)))
    now = time.time()
    dates = CertificateDates(Settings(tls_cert_path=path), lambda: now)
    dates.look()
    assert dates.check()[0] is True
    now += 10 * 86_400
    with structlog.testing.capture_logs() as told:
        dates.look()
    assert dates.check()[0] is False
    assert [line["event"] for line in told] == ["certificate not valid"]


async def test_it_sleeps_until_a_notice_comes(tmp_path, monkeypatch):
    monkeypatch.setattr(file_notices, "_SECONDS_WITH_NOTICES", 3_600.0)
    monkeypatch.setattr(certificate_dates, "_LOOK_SECONDS", 3_600.0)
    path = pem(tmp_path / "server.crt", LEAF.certificate(MIDDLE, life=(-9, 9)))
    dates = CertificateDates(Settings(tls_cert_path=path), time.time)
    asleep = asyncio.Event()
    listen = dates._notices._listen

    async def heard():
        asleep.set()
        await listen()

    monkeypatch.setattr(dates._notices, "_listen", heard)
    async with beside(dates.run()):
        await asyncio.wait_for(asleep.wait(), 20)
        pem(path, LEAF.certificate(MIDDLE, life=(-9, 50)))
        await until(lambda: dates.expiries()["server"] > time.time() + 40 * 86_400)


def test_what_health_says_of_certificates_has_their_days_and_fails_with_an_expired_one(tmp_path):
    server = pem(tmp_path / "server.crt", LEAF.certificate(ROOT, life=(-9, 9)))
    pem(tmp_path / "ca.crt", ROOT.certificate(life=(-9, 99)))
    now = time.time()
    dates = CertificateDates(Settings(tls_cert_path=server), lambda: now)
    files = [True, "as in the files"]
    check = CertificateCheck(SimpleNamespace(check=lambda: tuple(files)), dates).check
    assert check() == (True, "as in the files; days left: ca 98, server 8")
    now += 10 * 86_400
    assert check() == (False, dates.check()[1])
    files[:] = False, "it does not fit"
    assert check() == (False, f"it does not fit; {dates.check()[1]}")
    now -= 10 * 86_400
    assert check() == (False, "it does not fit")
