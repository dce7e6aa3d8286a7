#!/usr/bin/env bash
# Install the gateway as a systemd service, on a host without containers; or bring it to a newer version.
set -euo pipefail
umask 022 # the gateway's user is to read it, also where root keeps its files to itself

usage() {
    cat <<'USAGE'
Install the gateway as a systemd service on this host, or bring it to this version. As root.

  deploy/install.sh [--host NAME] [--mosquitto] [--no-start]

  --host NAME   the name that devices connect to, for the certificate (this host's name)
  --mosquitto   have the Mosquitto of this host (Debian's package) serve the gateway alone, with a password
  --no-start    put everything in its place, and start nothing

Settings are in /etc/mqtt-gateway/settings, the policy in /etc/mqtt-gateway/acl, what the gateway makes in
/var/lib/mqtt-gateway. What is there of these is never changed. Exit codes: 0 done, 1 not, and the last lines say
what to do; 2 wrong usage.
USAGE
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# For packagers and tests: all files go below this folder, and nothing of the system is touched.
DESTDIR=${DESTDIR:-}
new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
# The distribution's goes before another on PATH: one of pyenv lies in a home, where the service sees nothing.
DISTRIBUTION=/usr/bin/python3
[ -n "${PYTHON:-}" ] || { new_enough "$DISTRIBUTION" && PYTHON=$DISTRIBUTION; } || PYTHON=python3
USER_NAME=mqtt-gateway
CODE=$DESTDIR/opt/mqtt-gateway
SETTINGS=$DESTDIR/etc/mqtt-gateway
STATE=$DESTDIR/var/lib/mqtt-gateway
UNITS=$DESTDIR/etc/systemd/system
MOSQUITTO=$DESTDIR/etc/mosquitto
host=
with_mosquitto=
start=1

while [ $# -gt 0 ]; do
    case $1 in
        --host)
            [ -n "${2:-}" ] || { echo "install: --host needs a name" >&2; exit 2; }
            host=$2
            shift
            ;;
        --mosquitto) with_mosquitto=1 ;;
        --no-start) start= ;;
        -h | --help) usage; exit 0 ;;
        *) echo "install: there is no $1; see deploy/install.sh --help" >&2; exit 2 ;;
    esac
    shift
done
host=${host:-$(hostname -f 2>/dev/null || hostname)}
[ -z "$DESTDIR" ] || start=

say() { printf '%s\n' "$@"; }
fail() {
    printf 'install: %s\n' "$1" >&2
    shift
    printf '         %s\n' "$@" >&2
    exit 1
}

check() {
    [ -n "$DESTDIR" ] || [ "$(id -u)" = 0 ] || fail "this needs root" "sudo deploy/install.sh"
    [[ $host =~ ^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$ ]] ||
        fail "$host is no host name" "Give the one that devices connect to: deploy/install.sh --host mqtt.example.org"
    command -v "$PYTHON" >/dev/null || fail "there is no $PYTHON" "On Debian: apt-get install python3 python3-venv"
    new_enough "$PYTHON" ||
        fail "$PYTHON is older than Python 3.11" "Name another one: sudo PYTHON=python3.13 deploy/install.sh"
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$PYTHON has no venv module" "On Debian: apt-get install python3-venv"
    [ -n "$DESTDIR" ] || command -v systemctl >/dev/null ||
        fail "there is no systemd here" "deploy/deploy.sh sets the gateway up with Docker; or run it by hand: gateway run"
    if [ -n "$with_mosquitto" ]; then
        command -v mosquitto_passwd >/dev/null ||
            fail "Mosquitto is not installed" "On Debian: apt-get install mosquitto mosquitto-clients"
        [ -d "$MOSQUITTO/conf.d" ] ||
            fail "there is no $MOSQUITTO/conf.d" "This is for Debian's package; elsewhere see deploy/conf.d/gateway.conf"
    fi
}

own() { [ -n "$DESTDIR" ] || chown "$@"; }

make_user_and_folders() {
    if [ -z "$DESTDIR" ] && ! getent passwd "$USER_NAME" >/dev/null; then
        useradd --system --user-group --no-create-home --home-dir /var/lib/mqtt-gateway --shell /usr/sbin/nologin "$USER_NAME"
        say "made     the user $USER_NAME"
    fi
    install -d -m 0755 "$SETTINGS" "$UNITS" "$DESTDIR/usr/local/bin" "$(dirname "$CODE")"
    install -d -m 0700 "$STATE"
    own "$USER_NAME:" "$STATE"
}

install_code() {
    say "installing the gateway to /opt/mqtt-gateway ..."
    local fresh=$CODE.new
    rm -rf "$fresh"
    # Made beside what runs, and changed places with it at the end: a failure leaves that alone.
    "$PYTHON" -m venv "$fresh"
    local pip=("$fresh/bin/python" -m pip --disable-pip-version-check install --quiet)
    if ! { "${pip[@]}" --require-hashes -r requirements/image.lock && "${pip[@]}" --no-deps --no-build-isolation .; }; then
        fail "the packages could not be installed" "What pip said stands above. What was installed before is as it was."
    fi
    # The paths in its commands are those of where it was made.
    grep -rlIF "$fresh" "$fresh/bin" "$fresh/pyvenv.cfg" | xargs -r sed -i "s|$fresh|$CODE|g"
    install -d -m 0755 "$fresh/doc"
    install -m 0644 docs/*.md "$fresh/doc/"
    install -m 0644 deploy/self_check.py "$fresh/self_check.py"
    rm -rf "$CODE.before"
    [ ! -d "$CODE" ] || mv "$CODE" "$CODE.before"
    mv "$fresh" "$CODE"
}

write_settings() {
    if [ ! -d "$SETTINGS/acl" ]; then
        cp -r acl "$SETTINGS/acl"
        chmod -R a+rX "$SETTINGS/acl"
        say "made     /etc/mqtt-gateway/acl, the policy"
    fi
    [ ! -f "$SETTINGS/settings" ] || return 0
    # systemd and gateway-admin read it as root: nobody else needs the secrets that may stand there one day.
    (umask 077 && cat >"$SETTINGS/settings") <<'SETTINGS'
# The settings of the gateway (README.md lists all), NAME=value. After a change: systemctl restart mqtt-gateway
MQTT_BROKER=127.0.0.1
GATEWAY_DATA_DIR=/var/lib/mqtt-gateway/data
TLS_CERT_PATH=/var/lib/mqtt-gateway/certs/server.crt
TLS_KEY_PATH=/var/lib/mqtt-gateway/certs/server.key
ACL_PATH=/etc/mqtt-gateway/acl
MONITORING_PATH=/etc/mqtt-gateway/monitoring.toml
SETTINGS
    say "made     /etc/mqtt-gateway/settings"
}

restart_mosquitto() {
    local limits=$1
    systemctl daemon-reload
    ! systemctl restart mosquitto || return 0
    # Whoever uses it has it back, and the next run tries again.
    rm "$MOSQUITTO/conf.d/gateway.conf" "$limits"
    systemctl daemon-reload
    # It has tried too often by now for systemd to let it.
    systemctl reset-failed mosquitto || true
    systemctl restart mosquitto ||
        fail "Mosquitto starts neither with /etc/mosquitto/conf.d/gateway.conf nor without it" \
            "The file was taken away again. See why: journalctl -u mosquitto -n 40"
    fail "Mosquitto did not start with /etc/mosquitto/conf.d/gateway.conf, and runs without it again" \
        "See why: journalctl -u mosquitto -n 40. Another listener on 1883, most often: take that out, then run this again."
}

serve_the_gateway_alone() {
    local password=$SETTINGS/bus-password limits=$UNITS/mosquitto.service.d/gateway.conf
    if [ ! -f "$password" ]; then
        (umask 077 && head -c 32 /dev/urandom | base64 | tr -d '\n' >"$password")
        own "$USER_NAME:" "$password"
        say "made     /etc/mqtt-gateway/bus-password"
    fi
    if [ ! -f "$MOSQUITTO/gateway.passwd" ]; then
        (umask 077 && printf 'gateway:%s\n' "$(cat "$password")" >"$MOSQUITTO/gateway.passwd")
        mosquitto_passwd -U "$MOSQUITTO/gateway.passwd"
        own mosquitto: "$MOSQUITTO/gateway.passwd"
        say "made     /etc/mosquitto/gateway.passwd"
    fi
    if [ ! -f "$MOSQUITTO/conf.d/gateway.conf" ]; then
        install -m 0644 deploy/conf.d/gateway.conf "$MOSQUITTO/conf.d/gateway.conf"
        say "made     /etc/mosquitto/conf.d/gateway.conf"
        install -d "$(dirname "$limits")"
        printf '[Service]\nLimitNOFILE=16384\n' >"$limits"
        [ -z "$start" ] || restart_mosquitto "$limits"
    fi
    grep -q '^MQTT_USERNAME=' "$SETTINGS/settings" ||
        printf 'MQTT_USERNAME=gateway\nMQTT_PASSWORD_FILE=/etc/mqtt-gateway/bus-password\n' >>"$SETTINGS/settings"
}

install_commands() {
    install -m 0644 deploy/systemd/mqtt-gateway.service "$UNITS/mqtt-gateway.service"
    install -m 0755 deploy/systemd/gateway-admin "$DESTDIR/usr/local/bin/gateway-admin"
    install -m 0755 deploy/systemd/gateway-admin "$DESTDIR/usr/local/bin/gateway"
}

start_it() {
    systemctl daemon-reload
    /usr/local/bin/gateway-admin init --san "$host" >/dev/null
    systemctl enable --quiet mqtt-gateway
    systemctl restart mqtt-gateway ||
        fail "the gateway did not start" "See why: journalctl -u mqtt-gateway -n 30, or gateway-admin status" \
            "What ran before is in /opt/mqtt-gateway.before."
    say "checking with a device of its own ..."
    GATEWAY_PROGRAM=self-check /usr/local/bin/gateway-admin ||
        fail "it runs, but not as it has to" "See the log: journalctl -u mqtt-gateway -n 30"
}

check
make_user_and_folders
install_code
write_settings
[ -z "$with_mosquitto" ] || serve_the_gateway_alone
install_commands
if [ -n "$start" ]; then
    start_it
    cat <<NEXT

The gateway is up at $host: devices at mqtts://$host:8883; the CA for them is /var/lib/mqtt-gateway/certs/ca.crt.

  gateway-admin device add lamp-1 --role sensor
  gateway-admin status
  journalctl -u mqtt-gateway -f
NEXT
else
    say "Installed, and nothing started:"
    [ -z "$with_mosquitto" ] || say "  systemctl restart mosquitto"
    say "  gateway-admin init --san $host" "  systemctl enable --now mqtt-gateway"
fi
