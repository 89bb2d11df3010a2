#!/bin/bash
# The main job, shown: a real PostgreSQL is protected, destroyed, and brought back to a chosen second.
# Run it through ./dev demo [--keep]. Everything lives in one folder, which goes at the end, also after Ctrl-C.
set -euo pipefail
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
cd /

keep=''
case ${1-} in
  --keep) keep=yes ;;
  '') ;;
  *) echo "./dev demo takes --keep and nothing else" >&2; exit 2 ;;
esac

bin=/usr/lib/postgresql/15/bin
clients=4
commits_per_second=200
place=$(mktemp -d "${KURAMORI_DEMO_DIR:-/tmp}/kuramori-demo.XXXXXX")
log=$place/log
: >"$log"

# --- what goes away, in the order it must ------------------------------------------------------------------------------

client_process=''
servers=()  # data directories
clean_up() {
  local status=$? data
  trap - EXIT INT TERM
  [ -n "$client_process" ] && kill "$client_process" 2>/dev/null
  for data in "${servers[@]}"; do
    [ -n "$keep" ] && [ "$status" = 0 ] && [ "$data" = "$place/restored" ] && continue
    [ -e "$data/postmaster.pid" ] && kill -QUIT "$(head -1 "$data/postmaster.pid")" 2>/dev/null
  done
  wait 2>/dev/null || true
  if [ "$status" != 0 ] && [ "$status" != 130 ]; then
    printf '\n%sthe demo failed; the end of its log:%s\n' "$bold" "$plain" >&2
    tail -25 "$log" >&2
  fi
  # A postmaster told to quit needs a moment to let go of its files.
  [ -n "$keep" ] && [ "$status" = 0 ] || { sleep 0.3; rm -rf "$place"; }
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# --- how it looks --------------------------------------------------------------------------------------------------------

bold='' dim='' plain='' red='' green=''
if [ -t 1 ] && [ -z "${NO_COLOR-}" ]; then
  bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m' red=$'\e[31m' green=$'\e[32m'
fi
title() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }
fact() { printf '   %-38s %s\n' "$1" "$2"; }
passed() { printf '   %s✓%s %-36s %s\n' "$green" "$plain" "$1" "$2"; }
# agrees WHAT QUERY VALUE UNIT
agrees() {
  local found
  found=$(sql "$2")
  if [ "$found" != "$3" ]; then
    printf '   %s✗ %s: %s %s, but %s were there%s\n' "$red" "$1" "$found" "$4" "$3" "$plain"
    exit 4
  fi
  passed "$1" "$3 $4"
}
command_line() { printf '   %s$ %s%s\n' "$dim" "$1" "$plain"; }
now() { printf '%s' "${EPOCHREALTIME/./}"; }  # microseconds
since() { awk -v us=$(($(now) - $1)) 'BEGIN { printf "%.1f s", us / 1e6 }'; }
megabytes() { awk -v bytes="$1" 'BEGIN { printf "%d MB", bytes / 1e6 }'; }
bytes_of() { du -sb "$@" | awk '{ sum += $1 } END { print sum }'; }
clock() { date -u -d "@$(awk -v us="$1" 'BEGIN { printf "%.3f", us / 1e6 }')" '+%H:%M:%S.%3N UTC'; }

# --- who does it: PostgreSQL refuses root ----------------------------------------------------------------------------------

as_server() {
  if [ "$(id -u)" = 0 ]; then
    setpriv --reuid=postgres --regid=postgres --clear-groups env HOME="$place" "$@"
  else
    "$@"
  fi
}
[ "$(id -u)" != 0 ] || chown postgres: "$place"
chmod 755 "$place"
mkdir "$place/bin"
cp "$root"/build/kuramori "$place/bin/"
[ ! -x "$root/build/kuramori-wal" ] || cp "$root/build/kuramori-wal" "$place/bin/"
wal_client=$place/bin/kuramori
[ ! -x "$place/bin/kuramori-wal" ] || wal_client=$place/bin/kuramori-wal

psql_words=("$bin/psql" -XqAt -v ON_ERROR_STOP=1 -h "$place" -U postgres)
sql() { as_server "${psql_words[@]}" -d shop -c "$1" 2>>"$log"; }
kuramori() {
  local shown=() word
  for word in "$@"; do case $word in *' '*) shown+=("\"$word\"") ;; *) shown+=("$word") ;; esac; done
  command_line "kuramori ${shown[*]}"
  as_server "$place/bin/kuramori" --config "$place/kuramori.yaml" "$@" >>"$log" 2>&1
}
# The last restorable moment of a `window --json`, in microseconds since 1970.
window_end_of() {
  /usr/bin/python3 -c 'import datetime, json, sys
ends = [w["to"] for w in json.load(sys.stdin)["windows"] if w["to"]]
print(max(round(datetime.datetime.fromisoformat(end.replace("Z", "+00:00")).timestamp() * 1e6) for end in ends))'
}
quietly_json() { as_server "$place/bin/kuramori" --config "$place/kuramori.yaml" "$@" --json 2>>"$log"; }

# --- the story -------------------------------------------------------------------------------------------------------------

title "A shop, with a real PostgreSQL 15"
begin=$(now)
as_server "$bin/initdb" -D "$place/data" -U postgres -A trust -k -E UTF8 --locale=C.UTF-8 >>"$log" 2>&1
cat >>"$place/data/postgresql.conf" <<EOF
listen_addresses = ''
unix_socket_directories = '$place'
shared_buffers = 256MB
max_wal_size = 4GB
track_commit_timestamp = on
archive_mode = on
archive_timeout = 5s
archive_command = '$wal_client --config $place/kuramori.yaml wal push %p'
EOF
cat >"$place/kuramori.yaml" <<EOF
vaults:
  cellar: { at: "file://$place/vault", site: here, key_file: "$place/cellar.owner.key" }
resources:
  shop:
    kind: postgres
    connect: "host=$place user=postgres dbname=shop"
    objectives: { rpo: 1m, rto: 5m }
plans:
  shop:
    resources: [shop]
    vault: cellar
    schedule: "0 * * * *"
    timezone: UTC
    wal: archive
    window: 14d
    keep: { all: 14d, monthly: 7y }
    drill:
      schedule: "0 5 1 * *"
      sql:
        - { query: "select count(*) > 0 from ledger", expect: "t" }
        - { query: "select count(*) from product", expect: "unchanged" }
EOF
chmod 644 "$place/kuramori.yaml"
start_server() {
  as_server "$bin/pg_ctl" -D "$place/data" -l "$place/server.log" -w start >>"$log" 2>&1
  servers+=("$place/data")
}
# Filled without an archive: what is loaded before the first snapshot is in that snapshot.
sed -i 's/^archive_mode = on/archive_mode = off/' "$place/data/postgresql.conf"
start_server
as_server "${psql_words[@]}" -d postgres -c "create database shop" >>"$log" 2>&1
part() {
  local name switches=()
  for name in schema people orders events files; do
    switches+=(-v "is_$name=$([ "$name" = "$1" ] && echo on || echo off)")
  done
  as_server "${psql_words[@]}" -d shop "${switches[@]}" -f - <"$root/tools/demo/shop.sql" >>"$log" 2>&1
}
part schema
(part people && part events) &
first=$!
(part orders && part files) &
wait $! && wait $first
sql "select count(*) from order_item" >"$place/items"
as_server "$bin/pg_ctl" -D "$place/data" -w -m fast stop >>"$log" 2>&1
sed -i 's/^archive_mode = off/archive_mode = on/' "$place/data/postgresql.conf"
cluster_bytes=$(bytes_of "$place/data/base")
items=$(cat "$place/items")
fact "filled" "$(megabytes "$cluster_bytes") in 8 tables, $(since "$begin")"

title "A vault in a folder, and a snapshot while clients write"
kuramori vault init cellar
start_server
touch "$place/acknowledged"
[ "$(id -u)" != 0 ] || chown postgres "$place/acknowledged"
as_server /usr/bin/python3 - "$place/acknowledged" $clients $commits_per_second "${psql_words[@]}" -d shop <"$root/tools/demo/clients.py" >>"$log" 2>&1 &
client_process=$!
sleep 2
fact "$clients clients write all the time" "$(($(wc -l <"$place/acknowledged") / 2)) commits a second"
begin=$(now)
kuramori backup shop
snapshot_seconds=$(since "$begin")
snapshot_bytes=$(bytes_of "$place/vault")
fact "a complete snapshot" "$(megabytes "$cluster_bytes") read, $(megabytes "$snapshot_bytes") kept, sealed and opened again, $snapshot_seconds"
sleep 6
begin=$(now)
kuramori backup shop
second_bytes=$(($(bytes_of "$place/vault") - snapshot_bytes))
fact "another, of what changed" "$(megabytes $second_bytes) more with the WAL between, $(since "$begin")"
sleep 3

title "A moment"
moment=$(sql "select (extract(epoch from clock_timestamp()) * 1000000)::bigint")
moment_text=$(sql "select to_char(to_timestamp($moment / 1000000.0) at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00:00'")
fact "T" "$moment_text"
sleep 2

title "The accident"
sql "delete from order_item" >/dev/null
printf '   %sdelete from order_item;%s\n' "$red" "$plain"
sql "drop table customer cascade" >/dev/null
printf '   %sdrop table customer;%s\n' "$red" "$plain"
sleep 7  # it goes unnoticed for a while; the clients go on writing
postmaster=$(head -1 "$place/data/postmaster.pid")
kill -QUIT "$postmaster"
lost_at=$(now)
rm -rf "$place/data" 2>/dev/null || { sleep 1; rm -rf "$place/data"; }
printf '   %srm -rf %s%s\n' "$red" "$place/data" "$plain"
kill "$client_process" 2>/dev/null || true
wait "$client_process" 2>/dev/null || true
client_process=''
fact "commits the clients were promised" "$(wc -l <"$place/acknowledged")"

title "Back to T, in a new folder"
window=$(quietly_json window shop)
window_end=$(window_end_of <<<"$window")
fact "could be restored up to" "$(clock "$window_end")"
begin=$(now)
servers+=("$place/restored")
kuramori restore shop --to "$place/restored" --at "$moment_text" --start
rto=$(since "$begin")
fact "restored, started, open for queries" "$rto"

title "Is it whole?"
socket=$(sed -n 5p "$place/restored/postmaster.pid")
restored_port=$(sed -n 4p "$place/restored/postmaster.pid")
psql_words=("$bin/psql" -XqAt -v ON_ERROR_STOP=1 -h "$socket" -p "$restored_port" -U postgres)
for _ in $(seq 100); do [ "$(sql 'select pg_is_in_recovery()')" = f ] && break; sleep 0.1; done
verdict=$(sql "select client || ' ' || number from ledger" | /usr/bin/python3 "$root/tools/demo/check.py" "$place/acknowledged" "$moment") ||
  { echo "   ${red}NOT the commits up to T: expected, missing, too much: $verdict$plain"; exit 4; }
read -r expected missing extra gap <<<"$verdict"
passed "every commit up to T is there" "$((expected - missing)) of $expected"
passed "nothing after T is" "$extra rows; the last commit was $(awk -v us="$gap" 'BEGIN { printf "%.1f", us / 1000 }') ms before T"
# Each commit brought one more item.
agrees "the deleted rows are back" "select count(*) from order_item" $((items + expected)) "items"
agrees "the dropped table is back" "select count(*) from customer" 150000 "customers"

title "The proof"
begin=$(now)
kuramori drill shop --at "$moment_text"
fact "restored again in a sandbox, checked, signed" "$(since "$begin")"
wal_bytes=$(bytes_of "$place/vault/wal")

title "Report"
fact "database" "$(megabytes "$cluster_bytes")"
fact "vault" "$(megabytes "$(($(bytes_of "$place/vault") - wal_bytes))") in 2 snapshots, $(megabytes "$wal_bytes") of WAL"
fact "snapshot" "$snapshot_seconds while $clients clients wrote"
fact "RPO achieved" "$(awk -v us=$((lost_at - window_end)) 'BEGIN { printf "%.1f s", us / 1e6 }') of commits could not have been restored"
fact "RTO achieved" "$rto from the command to the first query"
fact "commits checked" "$expected, none missing, none too many"

if [ -n "$keep" ]; then
  title "The restored server runs"
  prefix=''
  [ "$(id -u)" != 0 ] || prefix='setpriv --reuid=postgres --regid=postgres --clear-groups '
  printf '   connect   %spsql -h %s -p %s -U postgres shop\n' "$prefix" "$socket" "$restored_port"
  printf '   stop      kill -INT %s && rm -rf %s\n' "$(head -1 "$place/restored/postmaster.pid")" "$place"
fi
printf '\n'
