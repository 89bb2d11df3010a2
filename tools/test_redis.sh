#!/bin/bash
# Real Redis and Valkey servers for tests, fetched once into a cache folder.
#
#   tools/test_redis.sh bin NAME      print the folder with the programs of redis7, redis8 or valkey8
#   tools/test_redis.sh fetch         fetch what is missing, print nothing
#
# redis7 is the distribution's own (tools/packages.txt); the others come from a newer Debian suite, unpacked beside
# the host and relinked to their own loader and libraries.
# The cache is ${KURAMORI_TEST_CACHE:-.cache of the checkout}/redis; every call may race with another.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tools/newer_suite.sh
source "$ROOT/tools/newer_suite.sh"
SUITE=trixie
PACKAGES="redis-server redis-tools valkey-server valkey-tools"

cache_folder() {
  local cache=${KURAMORI_TEST_CACHE:-$ROOT/.cache}
  case $cache in /*) ;; *) cache=$PWD/$cache ;; esac
  echo "$cache/redis/$SUITE"
}

# Built in a scratch folder and renamed when whole, so a kill leaves no half.
fetch() {
  local folder scratch
  folder=$(cache_folder)
  [ -x "$folder/usr/bin/valkey-server" ] && return 0
  mkdir -p "$(dirname "$folder")"
  scratch=$(mktemp -d "$(dirname "$folder")/.fetch.XXXXXX")
  # shellcheck disable=SC2086  # a list of names
  if newer_suite_unpack "$SUITE" "$scratch" $PACKAGES && newer_suite_relink "$scratch" "$folder" "$scratch/usr/bin"; then
    chmod -R a+rX "$scratch"
    mv -T "$scratch" "$folder" 2>/dev/null || true # another call was first
  fi
  rm -rf "$scratch"
  [ -x "$folder/usr/bin/valkey-server" ]
}

case ${1-} in
  bin)
    case ${2-} in
      redis7) dirname "$(command -v redis-server)" ;;
      redis8 | valkey8) fetch >&2 && echo "$(cache_folder)/usr/bin" ;;
      *) echo "tools/test_redis.sh: no such server: ${2-}" >&2 && exit 2 ;;
    esac
    ;;
  fetch) fetch >&2 ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
esac
