# shellcheck shell=bash disable=SC2154  # what tools/demo/stage.sh sets
# The main job: snapshots while clients write, the accident, and back to a moment. Sourced by tools/demo.sh.

title "A shop, with a real PostgreSQL 15"
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
make_shop

title "A vault in a folder, and a snapshot while clients write"
kuramori vault init cellar
start_server
start_clients
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
note_the_moment
sleep 2

title "The accident"
two_mistakes
sleep 7  # it goes unnoticed for a while; the clients go on writing
wait_for_the_moment cellar
lose_the_server

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
check_that_it_is_whole

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

say_how_to_connect
printf '\n'
