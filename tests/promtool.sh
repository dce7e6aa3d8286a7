#!/bin/sh
# Puts promtool, which checks metrics and rules of Prometheus, into a folder: the first argument. It is taken out
# of Debian's package prometheus, for installing that would start a server on this machine.
set -eu

folder=$1
if command -v promtool >/dev/null || [ -x "$folder/promtool" ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "make: please install promtool, which comes with Prometheus, by the means of your system" >&2
    exit 1
fi
echo "Taking promtool out of the Debian package prometheus ..."
draft=$(mktemp -d)
trap 'rm -rf "$draft"' EXIT
chmod 755 "$draft"
cd "$draft"
if ! apt-get download -qq prometheus 2>/dev/null; then
    as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    $as_root apt-get update -qq
    apt-get download -qq prometheus
fi
dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool
cd "$OLDPWD"
mv "$draft/usr/bin/promtool" "$folder/promtool"
