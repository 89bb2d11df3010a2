# shellcheck shell=bash disable=SC2154  # what tools/demo/stage.sh sets
# A region is lost: the database and its vault in Tokyo burn, and everything comes back from the copy in Osaka, to the
# second. Two real S3 clusters stand for the two. Sourced by tools/demo.sh.

# open_site NAME: a cluster, a user, a bucket; sets endpoint_NAME.
open_site() {
  local folder=$place/$1-store endpoint
  mkdir "$folder"
  sites+=("$folder")
  endpoint=$("$root/tools/test_ceph.sh" start "$folder" --tls --owner $$ 2>>"$log")
  read -r access secret <<<"$(/usr/bin/python3 "$root/tests/e2e/rgw.py" user "$folder" owner 2>>"$log")"
  /usr/bin/python3 "$root/tests/e2e/rgw.py" bucket "$folder" kuramori plain >>"$log" 2>&1
  printf '%s\n' "$access" >"$place/$1.access"
  printf '%s\n' "$secret" >"$place/$1.secret"
  chmod 600 "$place/$1.access" "$place/$1.secret"
  [ "$(id -u)" != 0 ] || chown postgres "$place/$1.access" "$place/$1.secret"
  cp "$folder/ca.pem" "$place/$1.ca.pem"
  chmod 644 "$place/$1.ca.pem"
  declare -g "endpoint_$1=$endpoint"
}
vault_line() {
  local endpoint=endpoint_$1
  printf '  %s: { at: "s3://kuramori/vault", endpoint: "%s", region: us-east-1, ca_file: "%s", site: %s, key_file: "%s"%s,\n' \
    "$1" "${!endpoint}" "$place/$1.ca.pem" "$1" "$place/shop.owner.key" "$2"
  printf '    credentials: { access_key_file: "%s", secret_key_file: "%s" } }\n' "$place/$1.access" "$place/$1.secret"
}

title "Two regions, and a shop in one of them"
begin=$(now)
open_site tokyo
open_site osaka
fact "two real S3 clusters" "Tokyo and Osaka, $(since "$begin")"
cat >"$place/kuramori.yaml" <<EOF
vaults:
$(vault_line tokyo '')
$(vault_line osaka ', copy_of: tokyo')
resources:
  shop:
    kind: postgres
    connect: "host=$place user=postgres dbname=shop"
    objectives: { rpo: 1m, rto: 5m }
plans:
  shop:
    resources: [shop]
    vault: tokyo
    schedule: "0 * * * *"
    timezone: UTC
    wal: archive
    window: 14d
    keep: { all: 14d }
    copies: [ { to: osaka, keep: 14d, window: 14d } ]
EOF
chmod 644 "$place/kuramori.yaml"
make_shop

title "Protected in Tokyo, copied to Osaka"
kuramori vault init tokyo
kuramori vault init osaka
start_server
start_clients
begin=$(now)
kuramori backup shop
fact "a complete snapshot" "$(megabytes "$cluster_bytes") read, $(since "$begin")"
begin=$(now)
kuramori copy shop --to osaka
fact "in Osaka, and read back there" "$(since "$begin")"
(while :; do
  sleep 1
  quietly_json copy shop --to osaka >>"$log" 2>&1 || true
done) &
copying=$!
others+=("$copying")
fact "what follows is copied" "by the same command, every second"
sleep 10

title "A moment"
note_the_moment
sleep 10
wait_for_the_moment osaka
fact "it could be restored from Osaka" "$(since "$moment") after it"

title "Tokyo is lost"
two_mistakes
sleep 2
lose_the_server
kill "$copying" 2>/dev/null || true
wait "$copying" 2>/dev/null || true
"$root/tools/test_ceph.sh" stop "$place/tokyo-store" >>"$log" 2>&1
rm -rf "$place/tokyo-store"
printf '   %sthe vault in Tokyo is gone%s\n' "$red" "$plain"

title "Back to T, from Osaka alone"
window=$(quietly_json window shop --vault osaka)
window_end=$(window_end_of <<<"$window")
fact "could be restored up to" "$(clock "$window_end")"
begin=$(now)
servers+=("$place/restored")
kuramori restore shop --vault osaka --to "$place/restored" --at "$moment_text" --start
rto=$(since "$begin")
fact "restored, started, open for queries" "$rto"

title "Is it whole?"
check_that_it_is_whole

title "The proof"
begin=$(now)
kuramori drill shop --vault osaka --at "$moment_text"
fact "restored again in a sandbox, checked, signed" "$(since "$begin")"

title "Report"
fact "database" "$(megabytes "$cluster_bytes")"
fact "RPO achieved, with a region gone" "$(awk -v us=$((lost_at - window_end)) 'BEGIN { printf "%.1f s", us / 1e6 }') of commits could not have been restored"
fact "RTO achieved" "$rto from the command to the first query"
fact "commits checked" "$expected, none missing, none too many"

say_how_to_connect
printf '\n'
