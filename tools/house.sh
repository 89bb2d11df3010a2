# shellcheck shell=bash
# What ./dev and .ci/run share: packages, builds, places. Sourced in the checkout's root.

say() { printf '%s\n' "$*" >&2; }

export LC_ALL=C.UTF-8
# Debian's modules live with Debian's python, whatever else comes first in PATH.
python3() { /usr/bin/python3 "$@"; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

packages_of() { awk -v groups=" $* " '$1 !~ /^#/ && NF && index(groups, " " $1 " ") { print $2 }' tools/packages.txt | sort -u; }

missing_packages() {
  local package
  for package in $(packages_of "$@"); do
    case $package in
      npm) command -v npm >/dev/null && continue ;;  # also comes with other distributions of Node
    esac
    # shellcheck disable=SC2016  # dpkg's own variable
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
  done
}

# install_missing GROUP…: nothing at all when nothing is missing, so that it works without root then
install_missing() {
  local missing
  mapfile -t missing < <(missing_packages "$@")
  [ ${#missing[@]} -eq 0 ] && return 0
  say "installing from Debian: ${missing[*]}"
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    say "./dev: cannot install packages as $(id -un), and there is no sudo"
    say "type, as root: apt-get install --no-install-recommends ${missing[*]}"
    exit 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  # A fresh machine has no lists; an old one may have stale ones.
  local apt=(apt-get -qq -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io)
  as_root "${apt[@]}" update || say "apt-get update failed; trying with the lists that are there"
  case " ${missing[*]} " in
    *" postgresql-15 "*) no_uninvited_cluster "${apt[@]}" ;;
  esac
  if ! without_services "${missing[@]}" -- as_root "${apt[@]}" install --no-install-recommends "${missing[@]}" >/tmp/kuramori-apt.$$ 2>&1; then
    tail -20 /tmp/kuramori-apt.$$ >&2
    say "./dev: installing failed; all of it is in /tmp/kuramori-apt.$$"
    exit 1
  fi
  rm -f /tmp/kuramori-apt.$$
}

# Debian makes and starts a cluster on port 5432 when the server is first installed. Nobody asked for one.
no_uninvited_cluster() {
  [ -e /etc/postgresql-common/createcluster.conf ] && return 0
  as_root "$@" install --no-install-recommends postgresql-common >/dev/null 2>&1 || return 0
  as_root sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
}

# What of the packages Debian would start, now and at every boot. The tests start their own.
services_of() {
  local package
  for package in "$@"; do
    case $package in
      etcd-server) echo etcd ;;
      openssh-server) echo ssh ;;
      haproxy | lighttpd | memcached | redis-server) echo "$package" ;;
    esac
  done
}

# without_services PACKAGE… -- COMMAND…: the command installs them, and no service of theirs runs afterwards
without_services() {
  local packages=() policy=/usr/sbin/policy-rc.d service
  while [ "$1" != -- ]; do packages+=("$1") && shift; done
  shift
  [ -n "$(services_of "${packages[@]}")" ] || { "$@"; return; }
  if [ -e $policy ]; then
    "$@" || return
  else
    (
      trap 'as_root rm -f $policy' EXIT
      # Should this end before it can remove the file, that has no effect.
      printf '#!/bin/sh\nkill -0 %s 2>/dev/null && exit 101\nexit 0\n' $$ | as_root tee $policy >/dev/null && as_root chmod 755 $policy
      "$@"
    ) || return
  fi
  for service in $(services_of "${packages[@]}"); do as_root update-rc.d "$service" disable || true; done
}

configure() {
  [ -e "build/$1/build.ninja" ] || cmake --preset "$1" >"build/.configure-$1" 2>&1 ||
    { cat "build/.configure-$1" >&2; return 1; }
}

# targets_among PRESET NAME…: those of the names that can be built
targets_among() {
  local preset=$1
  shift
  ninja -C "build/$preset" -t targets all 2>/dev/null | sed -n 's/: phony$//p' | grep -xF "$(printf '%s\n' "$@")"
}

# build_targets PRESET TARGET…: those that exist
build_targets() {
  local preset=$1 wanted
  shift
  mkdir -p build
  configure "$preset" || return 1
  ninja -C "build/$preset" --quiet build.ninja || return 1  # a new file may bring a new target
  mapfile -t wanted < <(targets_among "$preset" "$@")
  [ ${#wanted[@]} -gt 0 ] || { say "./dev: no target $* exists"; return 1; }
  ninja -C "build/$preset" --quiet "${wanted[@]}"
}

# build/kuramori and its small client, renamed into place: what runs now keeps its file.
place_programs() {
  local program
  for program in kuramori kuramori-wal; do
    [ -x "build/release/bin/$program" ] || continue
    cp -p "build/release/bin/$program" "build/.$program.new" && mv -f "build/.$program.new" "build/$program"
  done
}

cpp_files() { git ls-files --cached --others --exclude-standard -- '*.cc' '*.h' | grep -E '^(src|tests|bench|fuzz|cmake)/'; }

compiled_only() {
  local file
  while read -r file; do grep -qF "\"$PWD/$file\"" "build/$1/compile_commands.json" && echo "$file"; done
}

bench_names() { find bench -name "*.cc" -printf "%f\n" 2>/dev/null | sed "s/\.cc$//" | sort; }

dev_doctor() {
  local group missing
  . /etc/os-release
  say "system      $PRETTY_NAME, $(nproc) cores, $(awk '/MemTotal/ { printf "%.0f", $2 / 1048576 }' /proc/meminfo) GiB memory"
  say "disk        $(df -h --output=avail . | tail -1 | tr -d ' ') free here"
  for group in build demo test fuzz lint bench swift vm; do
    missing=$(missing_packages "$group" | tr '\n' ' ')
    printf '%-11s %s\n' "$group" "${missing:+missing: }${missing:-ok}" >&2
  done
  if [ "$(id -u)" = 0 ]; then
    say "user        root: servers are run as user postgres$(id postgres >/dev/null 2>&1 || echo ' (which comes with postgresql-15)')"
    reachable_by_servers . || say "            user postgres cannot reach $PWD: test servers are kept in $(shared_cache) instead"
  else
    say "user        $(id -un)"
  fi
  [ -x build/kuramori ] && say "program     build/kuramori ($(build/kuramori version 2>/dev/null | head -1))"
  [ -n "$(missing_packages build demo test fuzz lint bench)" ] && say "a verb installs what it needs by itself"
  return 0
}

reachable_by_servers() {
  [ "$(id -u)" != 0 ] || ! id postgres >/dev/null 2>&1 ||
    setpriv --reuid=postgres --regid=postgres --clear-groups test -x "$1" 2>/dev/null
}
shared_cache() { echo /var/cache/kuramori-test; }

# A checkout below /root cannot be entered by the servers' user; then the fetched servers live elsewhere.
if [ -z "${KURAMORI_TEST_CACHE-}" ] && ! reachable_by_servers "$PWD"; then
  KURAMORI_TEST_CACHE=$(shared_cache)
  export KURAMORI_TEST_CACHE
fi
