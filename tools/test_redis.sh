#!/bin/bash
# Real Redis and Valkey servers for tests, fetched once into a cache folder.
#
#   tools/test_redis.sh bin NAME      print the folder with the programs of redis6, redis7, redis8 or valkey8
#   tools/test_redis.sh fetch         fetch what is missing, print nothing
#
# redis7 is the distribution's own (tools/packages.txt); redis6 comes from an older Debian suite, the others from a
# newer one, unpacked beside the host and relinked to their own loader and libraries. No suite has Valkey 7.2.
# The cache is ${KURAMORI_TEST_CACHE:-.cache of the checkout}/redis; every call may race with another.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tools/newer_suite.sh
source "$ROOT/tools/newer_suite.sh"
OLDER=bullseye NEWER=trixie

cache_folder() { # SUITE
  local cache=${KURAMORI_TEST_CACHE:-$ROOT/.cache}
  case $cache in /*) ;; *) cache=$PWD/$cache ;; esac
  echo "$cache/redis/$1"
}

# Whether what is there runs: programs that were relinked to a folder that has since been moved do not.
runs() { # FOLDER PROGRAM…
  local folder=$1 program
  shift
  for program in "$@"; do
    "$folder/usr/bin/$program" --version >/dev/null 2>&1 || return 1
  done
}

# Built in a scratch folder and renamed when whole, so a kill leaves no half.
fetch() { # SUITE PROGRAM…: of the packages of the same names, and their tools
  local suite=$1 folder scratch
  shift
  folder=$(cache_folder "$suite")
  runs "$folder" "$@" && return 0
  mkdir -p "$(dirname "$folder")"
  scratch=$(mktemp -d "$(dirname "$folder")/.fetch.XXXXXX")
  if newer_suite_unpack "$suite" "$scratch" "$@" "${@/%-server/-tools}" &&
    newer_suite_relink "$scratch" "$folder" "$scratch/usr/bin"; then
    chmod -R a+rX "$scratch"
    if [ -e "$folder" ] && ! runs "$folder" "$@"; then mv -T "$folder" "$scratch.before"; fi
    mv -T "$scratch" "$folder" 2>/dev/null || true # another call was first
  fi
  rm -rf "$scratch" "$scratch.before"
  runs "$folder" "$@"
}
fetch_older() { fetch $OLDER redis-server >&2; }
fetch_newer() { fetch $NEWER redis-server valkey-server >&2; }

case ${1-} in
  bin)
    case ${2-} in
      redis6) fetch_older && echo "$(cache_folder $OLDER)/usr/bin" ;;
      redis7) dirname "$(command -v redis-server)" ;;
      redis8 | valkey8) fetch_newer && echo "$(cache_folder $NEWER)/usr/bin" ;;
      *) echo "tools/test_redis.sh: no such server: ${2-}" >&2 && exit 2 ;;
    esac
    ;;
  fetch) fetch_older && fetch_newer ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
esac
