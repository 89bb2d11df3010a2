# shellcheck shell=bash
# Programs of another Debian suite, mostly a newer one, unpacked beside the host and relinked to their own loader and libraries.
# Sourced by what fetches them; nothing is installed.

# The mirror this host already uses for its own suite.
newer_suite_mirror() {
  apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
    awk '$2 == "bookworm" { print $1; exit }'
}

# newer_suite_unpack SUITE FOLDER PACKAGE…: with all dependencies, without documents
newer_suite_unpack() (
  set -e
  suite=$1 folder=$2
  shift 2
  mirror=$(newer_suite_mirror)
  state=$folder/.apt
  mkdir -p "$state"/{lists/partial,cache/archives/partial}
  : >"$state/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$state/sources.list"
  apt() {
    apt-get -o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=/dev/null \
      -o Dir::Etc::preferencesparts=/dev/null -o Dir::State::lists="$state/lists" \
      -o Dir::State::status="$state/status" -o Dir::Cache="$state/cache" \
      -o APT::Sandbox::User=root -o Debug::NoLocking=1 "$@"
  }
  apt -qq update >&2
  apt -qq -y --no-install-recommends --download-only install "$@" libc6 >/dev/null
  for package in "$state"/cache/archives/*.deb; do dpkg-deb -x "$package" "$folder"; done
  rm -rf "$state" "${folder:?}"/usr/share/{doc,man,locale} "${folder:?}"/var
)

# newer_suite_relink FOLDER FINAL PATH…: the programs and libraries of these files and folders below FOLDER.
# FINAL, where the folder will lie in the end, is what they must remember.
newer_suite_relink() {
  local folder=$1 final=$2 loader file
  shift 2
  # Beside the libraries first: in older suites that of lib64 is a link to the host's.
  loader=$(find "$folder"/{usr/lib,lib}/x86_64-linux-gnu "$folder"/{usr/lib64,lib64} -name ld-linux-x86-64.so.2 2>/dev/null | head -1 || true)
  find "$@" -type f | while read -r file; do
    [ "$(head -c4 "$file" | tail -c3)" = ELF ] || continue
    patchelf --set-interpreter "$final${loader#"$folder"}" "$file" 2>/dev/null || true  # libraries have none
    patchelf --force-rpath --set-rpath "$final/usr/lib/x86_64-linux-gnu:$final/lib/x86_64-linux-gnu" "$file"
  done
}
