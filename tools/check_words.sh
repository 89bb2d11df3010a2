#!/bin/bash
# No tracked file may hold a path of somebody's machine or the name of a private registry or mirror: whoever clones
# this has neither. Exits 1 and names file, line and word.
set -uo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." || exit 1

# Written so that this file does not find itself.
words=(
  '/wo[r]k/' '/ho[m]e/[a-z]' '/ro[o]t/[a-zA-Z.]' '/Us[e]rs/[a-z]' 'C:\\\\Us[e]rs'
  'artif[a]ctory' 'artif[a]ct-reg' 'artif[a]cts\.' '\bne[x]us\.' 'registry\.np[m]js' '\bpypi\.o[r]g' 'deb\.deb[i]an\.org' 'ghcr\.i[o]' 'docker\.i[o]'
  '\.inter[n]al\b' '\.cor[p]\b' '\b10\.[0-9]+\.[0-9]+\.[0-9]+\b' '\b192\.168\.'
)
pattern=$(IFS='|'; echo "${words[*]}")
if git grep -nIE "$pattern" -- . ':!LICENSE' ':!*.golden' | grep -v 'words: allow'; then
  echo "the lines above name a machine, a registry or a mirror" >&2
  exit 1
fi
