#!/bin/bash
# Kuramori, shown: a real PostgreSQL is protected, destroyed, and brought back to a chosen second.
# Run it through ./dev demo [--region-loss] [--keep]. Everything lives in one folder, which goes at the end, also after Ctrl-C.
set -euo pipefail
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
cd /

keep='' story=main_job
while [ $# -gt 0 ]; do
  case $1 in
    --keep) keep=yes ;;
    --region-loss) story=region_loss ;;
    *) echo "./dev demo takes --region-loss and --keep, and nothing else" >&2; exit 2 ;;
  esac
  shift
done

# shellcheck source=tools/demo/stage.sh
source "$root/tools/demo/stage.sh"
# shellcheck disable=SC1090  # one of the stories
source "$root/tools/demo/$story.sh"
