#!/bin/sh
# Sees to it that the programs of these Debian packages are there; on another system says what is missing.
set -eu

program_of() {
    case $1 in
        mosquitto-clients) echo mosquitto_pub ;;
        libnginx-mod-stream) echo /usr/lib/nginx/modules/ngx_stream_module.so ;;
        systemd) echo systemd-analyze ;;
        *) echo "$1" ;;
    esac
}

missing=
for package in "$@"; do
    program=$(program_of "$package")
    [ -e "$program" ] || PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$program" >/dev/null ||
        missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "make: please install the programs of these Debian packages by the means of your system:$missing" >&2
    exit 1
fi
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
echo "Installing the Debian packages$missing ..."
$as_root apt-get update -qq
# Word splitting is wanted: a name a package.
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
