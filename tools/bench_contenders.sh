#!/bin/bash
# What ./dev bench incremental measures kuramori beside and Debian 12 has only older: pgBackRest with block
# incremental, restic and borg of the newer suite, unpacked beside the host.
#
#   tools/bench_contenders.sh bin     print the folder with pgbackrest, restic and borg, fetched if need be
#
# The cache is ${KURAMORI_TEST_CACHE:-.cache of the checkout}/contenders.

set -uo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tools/newer_suite.sh
source "$ROOT/tools/newer_suite.sh"

CONTENDERS_SUITE=trixie

# contenders_make SCRATCH FINAL
contenders_make() (
  set -e
  newer_suite_unpack "$CONTENDERS_SUITE" "$1" pgbackrest restic borgbackup
  python=$(find "$1/usr/bin" -name 'python3.[0-9]*' -type f | head -1)
  newer_suite_relink "$1" "$2" "$1/usr/bin/pgbackrest" "$1/usr/bin/restic" "$python"
  mkdir "$1/programs"
  for program in pgbackrest restic; do ln -s "../usr/bin/$program" "$1/programs/$program"; done
  # borg is Python; its interpreter finds its modules from where it lies itself.
  printf '#!/bin/sh\nexec %s %s "$@"\n' "$2/usr/bin/${python##*/}" "$2/usr/bin/borg" >"$1/programs/borg"
  chmod 755 "$1/programs/borg"
  chmod -R a+rX "$1"
)

contenders_bin() {
  local cache=${KURAMORI_TEST_CACHE:-$ROOT/.cache} folder scratch
  case $cache in /*) ;; *) cache=$PWD/$cache ;; esac
  folder=$cache/contenders
  scratch=$cache/.new-contenders
  mkdir -p "$cache" || return 1
  (
    flock 9
    [ -e "$folder/.whole" ] && exit 0
    umask 022
    rm -rf "$scratch" "$folder"
    contenders_make "$scratch" "$folder" && mv -T "$scratch" "$folder" || exit 1
    for program in "pgbackrest version" "restic version" "borg --version"; do
      # shellcheck disable=SC2086  # words, on purpose
      "$folder/programs/"$program >/dev/null || exit 1
    done
    touch "$folder/.whole"
  ) 9>"$cache/.lock-contenders" >&2 || {
    echo "bench_contenders: cannot fetch pgbackrest, restic and borg into $folder" >&2
    return 1
  }
  echo "$folder/programs"
}

case ${1-} in
  bin) contenders_bin ;;
  *) sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
