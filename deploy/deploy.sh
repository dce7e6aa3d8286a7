#!/usr/bin/env bash
# Set up the gateway and a Mosquitto behind it with Docker, on this host; or bring them to a newer version.
set -euo pipefail

usage() {
    cat <<'USAGE'
Set up the gateway and a Mosquitto behind it with Docker, on this host.

  deploy/deploy.sh [--host NAME] [--prod] [--watch]    set it up; run again it changes nothing
  deploy/deploy.sh --upgrade                           build this version and go over to it; data is kept
  deploy/deploy.sh --rollback                          back to what was before the last --upgrade
  deploy/deploy.sh --check                             add a device, let it publish, remove it: does it work?

  --host NAME   the name that devices connect to, for the certificate (this host's name)
  --prod        nginx in front, logs that rotate (compose.prod.yaml)
  --watch       with --prod: Prometheus and Grafana, too

What was said once counts from then on: it is kept in .env, which `docker compose` reads, too.
An upgrade that does not become healthy goes back by itself. Exit codes: 0 done, 1 not, and the last lines say
what to do; 2 wrong usage.
USAGE
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."

IMAGE=mqtt-security-gateway
PROJECT=mqtt-gateway
DATA=${PROJECT}_gateway-data
BEFORE=${PROJECT}_gateway-data-before
UNFINISHED=.unfinished-copy # in a volume: what is there is not all, or not yet the data of the image that is kept
NEEDED_MIB=2048
PATIENCE=${DEPLOY_PATIENCE:-180} # seconds until the gateway has to be healthy
action=set-up
host=
prod=
watch=

while [ $# -gt 0 ]; do
    case $1 in
        --host)
            [ -n "${2:-}" ] || { echo "deploy: --host needs a name" >&2; exit 2; }
            host=$2
            shift
            ;;
        --prod) prod=1 ;;
        --watch) watch=1 ;;
        --upgrade | --rollback | --check) action=${1#--} ;;
        -h | --help) usage; exit 0 ;;
        *) echo "deploy: there is no $1; see deploy/deploy.sh --help" >&2; exit 2 ;;
    esac
    shift
done

# What .env says of a name; the last counts, as for compose.
known() { [ ! -f .env ] || sed -n "s/^$1=//p" .env | tail -n 1; }

# The files and profiles of before, which may be more than ours, and what is said now.
COMPOSE_FILE=$(known COMPOSE_FILE)
COMPOSE_PROFILES=$(known COMPOSE_PROFILES)
case :$COMPOSE_FILE: in
    *:compose.prod.yaml:*) prod=1 ;;
    *) [ -z "$prod" ] || COMPOSE_FILE=${COMPOSE_FILE:-compose.yaml}:compose.prod.yaml ;;
esac
[ -z "$watch" ] || [ -n "$prod" ] || { echo "deploy: --watch goes with --prod" >&2; exit 2; }
case ,$COMPOSE_PROFILES, in
    *,watch,*) watch=1 ;;
    *) [ -z "$watch" ] || COMPOSE_PROFILES=${COMPOSE_PROFILES:+$COMPOSE_PROFILES,}watch ;;
esac
if [ -n "$COMPOSE_FILE" ]; then export COMPOSE_FILE; else unset COMPOSE_FILE; fi
if [ -n "$COMPOSE_PROFILES" ]; then export COMPOSE_PROFILES; else unset COMPOSE_PROFILES; fi

say() { printf '%s\n' "$*"; }
# What is wrong, and what to do about it.
fail() {
    printf 'deploy: %s\n' "$1" >&2
    shift
    printf '        %s\n' "$@" >&2
    exit 1
}

compose() { docker compose "$@"; }

# The gateway's container, running or not; empty when there is none.
container() { compose ps --all --quiet gateway 2>/dev/null | head -n 1; }

# The worst of all that there are to be: none, missing, unhealthy, stopped, starting, healthy. `secrets` has ended.
health() {
    local id service state worst=healthy
    local format='{{if not .State.Running}}stopped{{else if .State.Health}}{{.State.Health.Status}}{{else}}healthy{{end}}'
    [ -n "$(container)" ] || { echo none; return; }
    for service in $(compose config --services); do
        [ "$service" != secrets ] || continue
        id=$(compose ps --all --quiet "$service" | head -n 1)
        state=missing
        [ -z "$id" ] || state=$(docker inspect --format "$format" "$id")
        case $state in
            healthy) ;;
            starting) [ "$worst" != healthy ] || worst=starting ;;
            *) worst=$state ;;
        esac
    done
    echo "$worst"
}

check_docker() {
    command -v docker >/dev/null ||
        fail "docker is not installed" "Install Docker Engine and its compose plugin: https://docs.docker.com/engine/install/"
    docker info >/dev/null 2>&1 ||
        fail "the Docker engine does not answer" \
            "Start it (systemctl start docker), or let this user in: usermod -aG docker \"$(id -un)\", and log in again."
    local version needed=2.24
    version=$(docker compose version --short 2>/dev/null) ||
        fail "docker has no compose plugin" "Install it: on Debian and Ubuntu apt-get install docker-compose-plugin (or docker-compose-v2)."
    version=${version#v}
    [ "$(printf '%s\n%s\n' "$needed" "$version" | sort -V | head -n 1)" = "$needed" ] ||
        fail "docker compose is $version, and $needed is needed" "Upgrade the package docker-compose-plugin."
}

check_disk() {
    local folder free
    folder=$(docker info --format '{{.DockerRootDir}}' 2>/dev/null || true)
    [ -d "$folder" ] || folder=.
    free=$(df -Pm "$folder" | awk 'NR == 2 { print $4 }')
    [ "$free" -ge "$NEEDED_MIB" ] ||
        fail "$free MiB are free in $folder, and $NEEDED_MIB are needed for images and data" \
            "Make room: docker system prune takes away what no container uses."
}

check_clock() {
    # A clock that is behind makes certificates and tokens that nobody believes yet.
    local newest
    newest=$(stat -c %Y Dockerfile)
    [ "$(date +%s)" -ge "$((newest - 86400))" ] ||
        fail "the clock is wrong: it says $(date -u '+%Y-%m-%d %H:%M UTC'), before these files were written" \
            "Set it: timedatectl set-ntp true"
    if [ "$(timedatectl show --property NTPSynchronized --value 2>/dev/null || echo yes)" = no ]; then
        say "deploy: note: the clock is not synchronized; certificates and tokens need it (timedatectl set-ntp true)"
    fi
}

port_is_taken() {
    if command -v ss >/dev/null; then
        [ -n "$(ss -Hltn "sport = :$1" 2>/dev/null)" ]
    else
        (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
    fi
}

check_ports() {
    local port
    for port in 8883 8443 ${watch:+3000}; do
        ! port_is_taken "$port" ||
            fail "port $port is taken by another program" \
                "See which: ss -ltnp 'sport = :$port'. Stop it, or move its port; a gateway of \`make run\` is one, too."
    done
}

# The containers' users are others than who cloned this.
check_files() {
    local hidden
    hidden=$(find acl deploy -path 'deploy/compose/monitoring/*' -prune -o \
        \( -type d ! -perm -o=rx -o -type f ! -perm -o=r \) -print -quit)
    [ -z "$hidden" ] ||
        fail "the users in the containers can't read $hidden" "None of these files is one to hide: chmod -R o+rX acl deploy"
}

# Of these files, where they are a clone.
commit() { git rev-parse HEAD 2>/dev/null || true; }

# Whether all that was said is known from before.
nothing_new() {
    [ "${COMPOSE_FILE:-}" = "$(known COMPOSE_FILE)" ] && [ "${COMPOSE_PROFILES:-}" = "$(known COMPOSE_PROFILES)" ] &&
        [ "${host:-$(known PUBLIC_HOST)}" = "$(known PUBLIC_HOST)" ]
}

keep() {
    [ "$(known "$1")" != "$2" ] || return 0
    { [ ! -f .env ] || grep -v "^$1=" .env || true; echo "$1=$2"; } >.env.new
    [ ! -f .env ] || chmod --reference=.env .env.new
    mv .env.new .env
    say "made     .env, with $1=$2"
}

# In .env, which compose reads by itself: the certificate is made for this name, and `docker compose` by hand
# is to mean the same containers.
remember() {
    local before
    before=$(known PUBLIC_HOST)
    [ -n "$host" ] || host=${before:-$(hostname -f 2>/dev/null || hostname)}
    [[ $host =~ ^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$ ]] ||
        fail "$host is no host name" "Give the one that devices connect to: deploy/deploy.sh --host mqtt.example.org"
    [ "${before:-$host}" = "$host" ] ||
        say "deploy: note: it was set up as $before; the certificate keeps that name (docs/operating.md, Rotate, makes another)"
    keep PUBLIC_HOST "$host"
    keep COMPOSE_FILE "${COMPOSE_FILE:-}"
    keep COMPOSE_PROFILES "${COMPOSE_PROFILES:-}"
    export PUBLIC_HOST=$host
}

build() {
    say "building $IMAGE ..."
    compose build --quiet "$@" || fail "the image could not be built" "What docker said stands above; the network, most often."
}

start() {
    say "starting; certificates, keys and secrets are made where they are missing ..."
    compose up --detach --remove-orphans || {
        tell_logs
        say "deploy: the containers did not start: what docker said stands above, and each container's last lines" >&2
        return 1
    }
    wait_for_health
}

wait_for_health() {
    local state end=$((SECONDS + PATIENCE))
    while [ "$SECONDS" -lt "$end" ]; do
        state=$(health)
        case $state in
            healthy) return ;;
            unhealthy | stopped | missing | none) break ;;
        esac
        sleep 1
    done
    tell_logs
    return 1
}

tell_logs() {
    compose logs --no-color --tail 20 >&2 || true
    tell_ill >&2 || true
}

# What could not be started, or hangs, has no lines of its own: what the engine and the health check said of it.
tell_ill() {
    local said format='{{with .State.Error}}{{$.Name}} could not be started: {{.}}
{{end}}{{with .State.Health}}{{if eq .Status "unhealthy"}}{{range .Log}}{{if .ExitCode}}{{$.Name}} is unhealthy: {{.Output}}
{{end}}{{end}}{{end}}{{end}}'
    said=$(compose ps --all --quiet | xargs -r docker inspect --format "$format" | sed '/^ *$/d; s,^/,deploy: ,' | uniq)
    [ -z "$said" ] || say "$said"
    [[ $said != *"rlimit type 7"* ]] ||
        say "deploy: the engine may not open that many files: raise LimitNOFILE of docker and containerd (systemctl edit)," \
            "or lower nofile in the files of Compose"
}

self_check() {
    say "checking with a device of its own ..."
    compose exec -T gateway /opt/gateway/bin/python - <deploy/self_check.py
}

# Prometheus and Grafana, too: they may hold the addresses that are given out anew.
stop_gateway() {
    compose stop gateway ${watch:+prometheus grafana} ||
        fail "the gateway could not be stopped" "What docker said stands above."
}

in_volumes() { docker run --rm --network none --user 0:0 "$@"; }

is_whole() { in_volumes --volume "$1:/data:ro" --entrypoint test "$IMAGE:latest" ! -e "/data/$UNFINISHED"; }

# What was there goes. The copy counts from `finish_copy` on: whoever is killed before leaves none that looks whole.
copy_volume() {
    in_volumes --volume "$1:/from:ro" --volume "$2:/to" --entrypoint sh "$IMAGE:latest" \
        -c "touch /to/$UNFINISHED && find /to -mindepth 1 ! -path /to/$UNFINISHED -delete && cp -a /from/. /to/ && sync"
}

finish_copy() { in_volumes --volume "$1:/data" --entrypoint rm "$IMAGE:latest" "/data/$UNFINISHED"; }

say_next() {
    cat <<NEXT

The gateway is up at ${host:-this host}: devices at mqtts://${host:-localhost}:8883, the API at https://${host:-localhost}:8443.

  docker compose cp gateway:/var/lib/gateway/certs/ca.crt .      # for your devices
  docker compose exec gateway gateway-admin device add lamp-1 --role sensor
  docker compose exec gateway gateway-admin status
  docker compose exec gateway gateway-admin backup /var/lib/gateway/backup-\$(date +%F)      # then copy it elsewhere: docs/operating.md
NEXT
    [ -z "$watch" ] || cat <<'NEXT'
  Grafana is at http://127.0.0.1:3000, user admin; its password:
  docker compose exec grafana cat /run/grafana/password
NEXT
}

set_up() {
    local state
    check_docker
    state=$(health)
    if [ "$state" = healthy ] && nothing_new; then
        keep UPGRADING ""
        say "The gateway runs and is healthy: nothing was changed."
        say "deploy/deploy.sh --upgrade goes over to the version that is here, --check tries it with a device."
        return
    fi
    check_disk
    check_clock
    check_files
    [ "$state" != none ] || check_ports
    remember
    build
    ! docker volume inspect "$DATA" >/dev/null 2>&1 || check_data
    start || fail "the gateway is not healthy" "Its last lines stand above. Nothing is lost by running this again."
    self_check || fail "it runs, but not as it has to" "See gateway-admin status and the log: docker compose logs gateway"
    keep DEPLOYED "$(commit)"
    keep UPGRADING ""
    say_next
}

check_data() {
    local code=0
    is_whole "$DATA" || code=$?
    case $code in
        0) ;;
        1) fail "the data is not whole: a --rollback was cut off" "Once more: deploy/deploy.sh --rollback" ;;
        *) fail "nobody could look at the data" "What docker said stands above." ;;
    esac
}

upgrade() {
    local running
    check_docker
    running=$(container)
    [ -n "$running" ] || fail "there is nothing to upgrade" "Set it up first: deploy/deploy.sh"
    # Of the container, which keeps its image: `latest` is the new one already where an upgrade was cut off.
    running=$(docker inspect --format '{{.Image}}' "$running")
    check_disk
    check_clock
    check_files
    remember
    check_data
    compose pull --quiet --ignore-buildable ||
        fail "the images of the other containers could not be fetched" "What docker said stands above; the network, most often."
    build --pull
    # One that only rests shows first whether it is well.
    case $(known UPGRADING),$(health) in yes,stopped | yes,starting) { compose start gateway && wait_for_health; } || true ;; esac
    if [ -n "$(known UPGRADING)" ] && [ "$(health)" != healthy ]; then
        # Cut off before its check: what is here is the version that was tried, and the copy is of the one before it.
        say "the upgrade that was cut off is done once more; its copy of the data stays ..."
        stop_gateway
    else
        keep_a_copy "$running"
    fi
    if start && self_check; then
        keep DEPLOYED "$(commit)"
        keep UPGRADING ""
        say "Upgraded. deploy/deploy.sh --rollback goes back; devices and tokens made since would be lost then."
        return
    fi
    say "deploy: the new version does not work; going back ..." >&2
    go_back
    fail "the new version did not become healthy, and the one before runs again" \
        "Its last lines stand above. The data is that of the copy. The files here are still the new ones."
}

keep_a_copy() {
    keep UPGRADING "" # from here on the copy of an attempt before is no more
    say "keeping a copy of the data as it is now ..."
    stop_gateway
    # The image and the data of before belong together, so the copy counts only when its image has the name.
    { copy_volume "$DATA" "$BEFORE" && docker image tag "$1" "$IMAGE:before" && finish_copy "$BEFORE"; } || {
        docker volume rm "$BEFORE" >/dev/null || true
        docker image tag "$1" "$IMAGE:latest"
        compose start gateway ${watch:+prometheus grafana} || true
        fail "the data could not be copied, so nothing was changed" "What docker said stands above; the disk may be full." \
            "Until an --upgrade is done --rollback has nothing to go back to."
    }
    keep DEPLOYED_BEFORE "$(known DEPLOYED)"
    keep UPGRADING yes
}

go_back() {
    local before
    docker image inspect "$IMAGE:before" >/dev/null 2>&1 ||
        fail "there is no version before this one" "Only --upgrade keeps one."
    { docker volume inspect "$BEFORE" >/dev/null 2>&1 && is_whole "$BEFORE"; } ||
        fail "there is no copy of the data of before, or not all of it" "Restore a backup instead: docs/operating.md"
    before=$(known DEPLOYED_BEFORE)
    if [ -z "$before" ] || [ "$before" != "$(commit)" ]; then
        say "deploy: note: acl/ and the files of Compose stay as they are here, and an older gateway may refuse a newer policy" >&2
    fi
    stop_gateway
    { copy_volume "$BEFORE" "$DATA" && finish_copy "$DATA"; } ||
        fail "the data could not be copied back" "It is whole in the volume $BEFORE."
    docker image tag "$IMAGE:before" "$IMAGE:latest"
    keep DEPLOYED "$before"
    keep UPGRADING ""
    start || fail "the version before does not become healthy either" \
        "Its last lines stand above. Its data is back; newer are the files here, acl/ and those of Compose." \
        "Bring those of then back: first git checkout ${before:-the commit of then}, then deploy/deploy.sh"
}

rollback() {
    local running
    check_docker
    remember
    running=$(docker inspect --format '{{.Image}}' "$(container)" 2>/dev/null || echo none)
    # A second time would take away what came since the first.
    [ "$running" != "$(docker image inspect --format '{{.Id}}' "$IMAGE:before" 2>/dev/null)" ] ||
        fail "the version before is the one that is here" "If it does not run: docker compose up --detach"
    go_back
    self_check || fail "the version before runs, but not as it has to" "See the log: docker compose logs gateway"
    say "Back at the version before, with the data of then."
}

case $action in
    set-up) set_up ;;
    upgrade) upgrade ;;
    rollback) rollback ;;
    check)
        check_docker
        [ "$(health)" = healthy ] || fail "the gateway does not run" "Set it up: deploy/deploy.sh"
        self_check || fail "it does not work as it has to" "See the log: docker compose logs gateway"
        keep UPGRADING ""
        ;;
esac
