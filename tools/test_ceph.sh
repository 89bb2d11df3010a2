#!/bin/bash
# One real S3 server for tests: a Ceph cluster of a monitor, one OSD and a gateway (RGW), all in one folder.
#
#   tools/test_ceph.sh start FOLDER [OPTION…]   make and start a cluster; prints its endpoint when it answers
#       --bluestore           data on a sparse file, so that it survives `restart` (default: in memory)
#       --tls                 the gateway speaks TLS alone; its authority's certificate is FOLDER/ca.pem
#       --day SECONDS         a lifecycle rule's day lasts so long
#       --classes A,B         more storage classes: STANDARD_IA, GLACIER …
#       --port N              the gateway's; the monitor takes N+1 and N+2 (default: free ones)
#       --owner PID           stopped and removed when this process ends, however it ends
#   tools/test_ceph.sh stop FOLDER              end all of it (the folder stays)
#   tools/test_ceph.sh restart FOLDER [PART…]   start again what does not run (bluestore keeps its data)
#   tools/test_ceph.sh signal FOLDER PART NAME  PART: mon, osd, rgw; NAME: STOP, CONT, KILL, TERM
#
# FOLDER/endpoint holds the URL. FOLDER/users/admin holds the two keys of a user who may make users and buckets through
# the gateway's own admin interface. Everything is bound to 127.0.0.1. Runs as root or as anybody.
#
# Why it is up in a second: no manager, a monitor that proposes at once, one replica, four placement groups a
# pool. cephx stays on: without it this release's gateway never connects.
set -euo pipefail

START_SECONDS_MAX=90
STOP_SECONDS_MAX=20

fail() { printf 'test_ceph: %s\n' "$*" >&2; exit 1; }

# A dead daemon may stay a zombie for seconds where PID 1 reaps late: its state tells, not its existence.
alive() { [ -n "${1-}" ] && grep -q '^State:.[^ZX]' "/proc/$1/status" 2>/dev/null; }
pid_file() { case $2 in rgw) echo "$1/run/client.rgw.pid" ;; osd) echo "$1/run/osd.0.pid" ;; mon) echo "$1/run/mon.a.pid" ;; *) fail "no part '$2'" ;; esac; }
pid_of() { cat "$(pid_file "$1" "$2")" 2>/dev/null || true; }

free_ports() {
  /usr/bin/python3 - <<'PYTHON'
import socket
held = [socket.socket() for _ in range(3)]
for one in held: one.bind(("127.0.0.1", 0))
print(*[one.getsockname()[1] for one in held])
PYTHON
}

# cephx: type 1, time of creation, length, sixteen random bytes.
new_key() { { printf '\1\0\0\0\0\0\0\0\0\0\20\0'; head -c 16 /dev/urandom; } | base64; }
random_word() { head -c 64 /dev/urandom | base64 | tr -dc A-Za-z0-9 | head -c "$1"; }

write_keyring() {
  local name
  for name in mon. client.admin osd.0 client.rgw; do
    printf '[%s]\n\tkey = %s\n\tcaps mon = "allow *"\n\tcaps osd = "allow *"\n\tcaps mgr = "allow *"\n' "$name" "$(new_key)"
  done >"$1/keyring"
  chmod 600 "$1/keyring"
}

# The authority and one certificate of it for 127.0.0.1 and localhost.
write_certificates() (
  cd "$1"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj "/CN=test authority" \
    -keyout ca.key -out ca.pem 2>/dev/null
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=localhost" -keyout gateway.key -out gateway.csr 2>/dev/null
  printf 'subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:*.localhost\n' >gateway.ext
  openssl x509 -req -in gateway.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile gateway.ext -out gateway.crt 2>/dev/null
  cat gateway.key gateway.crt >gateway.pem
  chmod 600 ./*.key gateway.pem
)

write_config() {  # FOLDER FSID MONITOR RGW-PORT STORE TLS DAY
  local front="beast endpoint=127.0.0.1:$4 tcp_nodelay=1"
  [ -n "$6" ] && front="beast ssl_endpoint=127.0.0.1:$4 ssl_certificate=$1/gateway.pem tcp_nodelay=1"
  cat >"$1/ceph.conf" <<CONF
[global]
fsid = $2
mon host = $3
public addr = 127.0.0.1
cluster addr = 127.0.0.1
run dir = $1/run
admin socket = $1/run/\$name.asok
log file = $1/\$name.log
pid file = $1/run/\$name.pid
keyring = $1/keyring
crash dir = $1/run
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
[mon]
mon data = $1/mon
paxos propose interval = 0.02
paxos min wait = 0.01
mon data avail crit = 1
mon data avail warn = 1
[osd]
osd data = $1/osd
osd objectstore = $5
memstore device bytes = 8589934592
bluestore block size = 10737418240
bluestore block create = true
bluestore block db create = false
bluestore block wal create = false
bluestore fsck on mount = false
osd memory target = 939524096
bluestore cache autotune = false
bluestore cache size = 67108864
osd op num shards = 2
osd class dir = $(class_folder)
[client]
rgw frontends = $front
rgw data = $1/rgw
rgw thread pool size = 64
rgw enable usage log = false
rgw crypt require ssl = false
rgw lc debug interval = $7
CONF
}

class_folder() { dirname "$(dpkg -L ceph-osd 2>/dev/null | grep -m1 '/rados-classes/' || echo /usr/lib/x86_64-linux-gnu/rados-classes/x)"; }

# A port that was free a moment ago may be taken now: the daemon says so and ends.
start_part() {
  local folder=$1 part=$2
  alive "$(pid_of "$folder" "$part")" && return 0
  case $part in
    mon) ceph-mon -i a ;;
    osd) ceph-osd -i 0 ;;
    rgw) radosgw -n client.rgw ;;
  esac >>"$folder/start.log" 2>&1
}

# Until the gateway answers anything at all.
await_gateway() {
  local folder=$1 deadline=$((SECONDS + START_SECONDS_MAX))
  until curl -s -o /dev/null --max-time 5 ${CA:+--cacert "$CA"} "$(cat "$folder/endpoint")/"; do
    alive "$(pid_of "$folder" rgw)" || { tail -5 "$folder/client.rgw.log" >&2 2>/dev/null; return 1; }
    [ $SECONDS -lt $deadline ] || return 1
    sleep 0.02
  done
}

await_gone() {
  local deadline=$((SECONDS + STOP_SECONDS_MAX))
  while alive "$1" && [ $SECONDS -lt $deadline ]; do sleep 0.02; done
  ! alive "$1"
}

stop_cluster() {  # nothing in a test's cluster needs a gentle end
  local folder=$1 part pid
  for part in rgw osd mon; do
    pid=$(pid_of "$folder" "$part")
    # The process that has this number now must be the daemon of this folder.
    if alive "$pid" && grep -qE 'radosgw|ceph-(mon|osd)' "/proc/$pid/comm"; then
      kill -KILL "$pid" 2>/dev/null || true
      await_gone "$pid" || fail "process $pid ($part of $folder) does not end"
    fi
    rm -f "$(pid_file "$folder" "$part")"
  done
}

# A process's number is used again; its start time with it is not.
started_at() { awk '{ sub(/.*\) /, ""); print $20 }' "/proc/$1/stat" 2>/dev/null; }

watch_owner() {  # in the background, in a session of its own
  local folder=$1 owner=$2 since=$3
  while alive "$owner" && [ "$(started_at "$owner")" = "$since" ]; do
    [ -d "$folder" ] || exit 0
    sleep 0.5
  done
  stop_cluster "$folder"
  rm -rf "$folder"
}

create_admin() {
  local folder=$1 access secret
  access=$(random_word 20) secret=$(random_word 40)
  mkdir -p "$folder/users"
  radosgw-admin user create --uid=admin --display-name=admin --access-key="$access" --secret-key="$secret" \
    --caps='users=*;buckets=*;metadata=*;user-policy=*;roles=*' >/dev/null 2>>"$folder/start.log"
  (umask 077; printf '%s %s\n' "$access" "$secret" >"$folder/users/admin")
}

add_classes() {
  local class
  for class in ${2//,/ }; do
    radosgw-admin zonegroup placement add --rgw-zonegroup default --placement-id default-placement --storage-class "$class"
    radosgw-admin zone placement add --rgw-zone default --placement-id default-placement --storage-class "$class" \
      --data-pool "default.rgw.$class.data"
  done >/dev/null 2>>"$1/start.log"
}

make_cluster() {
  local folder=$1 monitor fsid uuid
  local port=$2 mon2=$3 mon1=$4
  mkdir -p "$folder"/{mon,osd,run,rgw}
  fsid=$(cat /proc/sys/kernel/random/uuid) uuid=$(cat /proc/sys/kernel/random/uuid)
  monitor="[v2:127.0.0.1:$mon2/0,v1:127.0.0.1:$mon1/0]"
  [ -n "$TLS" ] && write_certificates "$folder"
  write_keyring "$folder"
  write_config "$folder" "$fsid" "$monitor" "$port" "$STORE" "$TLS" "$DAY"
  echo "http${TLS:+s}://127.0.0.1:$port" >"$folder/endpoint"
  export CEPH_CONF=$folder/ceph.conf
  monmaptool --create --clobber --fsid "$fsid" --addv a "$monitor" --enable-all-features --set-min-mon-release 16 \
    "$folder/monmap" >/dev/null
  ceph-mon --mkfs -i a --monmap "$folder/monmap" --keyring "$folder/keyring" >>"$folder/start.log" 2>&1 || return 1
  start_part "$folder" mon || return 1
  timeout $START_SECONDS_MAX ceph osd new "$uuid" 0 >>"$folder/start.log" 2>&1 || return 1
  ceph-osd -i 0 --mkfs --osd-uuid "$uuid" >>"$folder/start.log" 2>&1 || return 1
  start_part "$folder" osd || return 1
  create_admin "$folder" || return 1  # makes the default zone, too
  [ -z "$CLASSES" ] || add_classes "$folder" "$CLASSES" || return 1
  start_part "$folder" rgw || return 1
  CA=${TLS:+$folder/ca.pem} await_gateway "$folder"
}

verb=${1-} FOLDER=${2-}
case $verb:$FOLDER in
  start:/* | stop:/* | restart:/* | signal:/*) ;;
  *) sed -n '2,20s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
shift 2
# Not what the caller's shell may hold for its own cluster.
unset CEPH_ARGS CEPH_KEYRING
export CEPH_CONF=$FOLDER/ceph.conf

case $verb in
  start)
    STORE=memstore TLS='' DAY=-1 CLASSES='' PORT='' OWNER=''
    while [ $# -gt 0 ]; do
      case $1 in
        --bluestore) STORE=bluestore ;;
        --tls) TLS=yes ;;
        --day) DAY=$2; shift ;;
        --classes) CLASSES=$2; shift ;;
        --port) PORT=$2; shift ;;
        --owner) OWNER=$2; shift ;;
        *) fail "no option '$1'" ;;
      esac
      shift
    done
    command -v radosgw >/dev/null || fail "no radosgw here: apt-get install --no-install-recommends ceph-mon ceph-osd radosgw ceph-common"
    [ ! -e "$FOLDER/ceph.conf" ] || fail "$FOLDER holds a cluster already"
    mkdir -p "$FOLDER"
    if [ -n "$OWNER" ]; then
      since=$(started_at "$OWNER")
      [ -n "$since" ] || fail "no process $OWNER"
      # Nothing of the caller's stays open in it: a caller that reads our output to its end would wait for the watcher.
      (trap '' HUP INT TERM; watch_owner "$FOLDER" "$OWNER" "$since") </dev/null >/dev/null 2>&1 &
      disown
    fi
    for attempt in 1 2 3; do
      if [ -n "$PORT" ]; then ports=("$PORT" $((PORT + 1)) $((PORT + 2))); else read -ra ports <<<"$(free_ports)"; fi
      if make_cluster "$FOLDER" "${ports[@]}"; then
        cat "$FOLDER/endpoint"
        exit 0
      fi
      stop_cluster "$FOLDER"
      tail -5 "$FOLDER/start.log" >&2 || true
      printf 'test_ceph: attempt %s on port %s failed\n' "$attempt" "${ports[0]}" >&2
      rm -rf "${FOLDER:?}"/{mon,osd,run,rgw,users,monmap,keyring,ceph.conf}
    done
    fail "no cluster could be started in $FOLDER"
    ;;
  stop) stop_cluster "$FOLDER" ;;
  restart)
    [ $# -gt 0 ] || set -- mon osd rgw
    for part; do
      # What was killed has left its number behind.
      alive "$(pid_of "$FOLDER" "$part")" || rm -f "$(pid_file "$FOLDER" "$part")"
      start_part "$FOLDER" "$part" || fail "$part of $FOLDER does not start: see $FOLDER/start.log"
    done
    ca=$FOLDER/ca.pem
    [ -e "$ca" ] || ca=''
    CA=$ca await_gateway "$FOLDER" || fail "the gateway of $FOLDER does not answer"
    ;;
  signal)
    pid=$(pid_of "$FOLDER" "${1?PART}")
    alive "$pid" || fail "$1 of $FOLDER does not run"
    kill -"${2?SIGNAL}" "$pid"
    case $2 in KILL | TERM) await_gone "$pid" || fail "process $pid does not end" ;; esac
    ;;
esac
