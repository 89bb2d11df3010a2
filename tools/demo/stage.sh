# shellcheck shell=bash disable=SC2154,SC2034  # root and keep are the caller's; what is set here is the stories'
# What the demo's stories stand on: a folder that goes at the end, a shop that is filled, clients that write, and how it
# looks. Sourced by tools/demo.sh, which sets `root` and `keep`.

bin=/usr/lib/postgresql/15/bin
clients=4
commits_per_second=200
place=$(mktemp -d "${KURAMORI_DEMO_DIR:-/tmp}/kuramori-demo.XXXXXX")
log=$place/log
: >"$log"

# --- what goes away, in the order it must ------------------------------------------------------------------------------

client_process=''
others=()   # processes besides
servers=()  # data directories
sites=()    # folders of S3 clusters
clean_up() {
  local status=$? data process
  set +e  # what is gone already is no reason to leave the rest
  trap - EXIT INT TERM
  for process in $client_process "${others[@]}"; do kill "$process" 2>/dev/null; done
  for data in "${servers[@]}"; do
    [ -n "$keep" ] && [ "$status" = 0 ] && [ "$data" = "$place/restored" ] && continue
    [ -e "$data/postmaster.pid" ] && kill -QUIT "$(head -1 "$data/postmaster.pid")" 2>/dev/null
  done
  for data in "${sites[@]}"; do "$root/tools/test_ceph.sh" stop "$data" >/dev/null 2>&1; done
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

# wait_for_the_moment VAULT: until it could be restored from there, however slow the machine is.
wait_for_the_moment() {
  local until=$((SECONDS + 300)) end
  while ! { end=$(quietly_json window shop --vault "$1" | window_end_of) && [ "$end" -gt "$moment" ]; } 2>>"$log"; do
    if [ $SECONDS -ge $until ]; then
      printf '   %sT is not in %s after five minutes%s\n' "$red" "$1" "$plain"
      exit 1
    fi
    sleep 0.5
  done
}

# --- the shop ------------------------------------------------------------------------------------------------------------

start_server() {
  as_server "$bin/pg_ctl" -D "$place/data" -l "$place/server.log" -w start >>"$log" 2>&1
  servers+=("$place/data")
}
part() {
  local name switches=()
  for name in schema people orders events files; do
    switches+=(-v "is_$name=$([ "$name" = "$1" ] && echo on || echo off)")
  done
  as_server "${psql_words[@]}" -d shop "${switches[@]}" -f - <"$root/tools/demo/shop.sql" >>"$log" 2>&1
}
# A cluster of about 500 MB below $place/data, which archives by the configured program; it runs no more afterwards.
# Sets cluster_bytes and items.
make_shop() {
  local begin first
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
  # Filled without an archive: what is loaded before the first snapshot is in that snapshot.
  sed -i 's/^archive_mode = on/archive_mode = off/' "$place/data/postgresql.conf"
  start_server
  as_server "${psql_words[@]}" -d postgres -c "create database shop" >>"$log" 2>&1
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
}

start_clients() {
  touch "$place/acknowledged"
  [ "$(id -u)" != 0 ] || chown postgres "$place/acknowledged"
  as_server /usr/bin/python3 - "$place/acknowledged" $clients $commits_per_second "${psql_words[@]}" -d shop <"$root/tools/demo/clients.py" >>"$log" 2>&1 &
  client_process=$!
  sleep 2
  fact "$clients clients write all the time" "$(($(wc -l <"$place/acknowledged") / 2)) commits a second"
}

# Sets moment and moment_text.
note_the_moment() {
  moment=$(sql "select (extract(epoch from clock_timestamp()) * 1000000)::bigint")
  moment_text=$(sql "select to_char(to_timestamp($moment / 1000000.0) at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00:00'")
  fact "T" "$moment_text"
}

two_mistakes() {
  sql "delete from order_item" >/dev/null
  printf '   %sdelete from order_item;%s\n' "$red" "$plain"
  sql "drop table customer cascade" >/dev/null
  printf '   %sdrop table customer;%s\n' "$red" "$plain"
}

# The database's machine is gone. Sets lost_at.
lose_the_server() {
  kill -QUIT "$(head -1 "$place/data/postmaster.pid")"
  lost_at=$(now)
  rm -rf "$place/data" 2>/dev/null || { sleep 1; rm -rf "$place/data"; }
  printf '   %srm -rf %s%s\n' "$red" "$place/data" "$plain"
  kill "$client_process" 2>/dev/null || true
  wait "$client_process" 2>/dev/null || true
  client_process=''
  fact "commits the clients were promised" "$(wc -l <"$place/acknowledged")"
}

# Asks the server in $place/restored. Sets expected and missing.
check_that_it_is_whole() {
  local extra gap verdict
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
}

say_how_to_connect() {
  [ -n "$keep" ] || return 0
  title "The restored server runs"
  prefix=''
  [ "$(id -u)" != 0 ] || prefix='setpriv --reuid=postgres --regid=postgres --clear-groups '
  printf '   connect   %spsql -h %s -p %s -U postgres shop\n' "$prefix" "$socket" "$restored_port"
  printf '   stop      kill -INT %s && rm -rf %s\n' "$(head -1 "$place/restored/postmaster.pid")" "$place"
}
