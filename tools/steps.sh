# shellcheck shell=bash
# The steps of a test run: each with its seconds and its counts, and one line at the end.

start_steps() {
  RESULTS=$PWD/build/results
  rm -rf "$RESULTS"
  mkdir -p "$RESULTS"
  STEP_TABLE=()
  STEP_ENVIRONMENT=()
  PASSED=0
  FAILED=0
  # No test can show what a disk keeps when the power goes, and their fsyncs take most of the time on a busy one.
  MEMORY=''
  [ -n "${TMPDIR-}" ] || MEMORY=$(PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=tests/e2e python3 -c 'import harness; print(harness.memory() or "")')
}

# note_step NAME SECONDS PASSED FAILED
note_step() {
  local line
  printf -v line '%-22s %5d s  %5d passed  %3d failed' "$@"
  STEP_TABLE+=("$line")
  say "$line"  # at once too: a run that is cut off has said where its time went
  PASSED=$((PASSED + $3))
  FAILED=$((FAILED + $4))
}

# step NAME COMMAND…: what must work before there is anything to count
step() {
  local name=$1 begin=$SECONDS status=0
  shift
  say "== $name"
  "$@" || status=$?
  note_step "$name" $((SECONDS - begin)) 0 $((status != 0))
  return $status
}

# step_ctest NAME PRESET CTEST-ARGUMENT…: counts the cases inside, not the programs
step_ctest() {
  local name=$1 preset=$2 begin=$SECONDS folder counts
  shift 2
  folder=$RESULTS/$preset-${name// /-}
  mkdir -p "$folder"
  say "== $name"
  env "${STEP_ENVIRONMENT[@]}" TMPDIR="${MEMORY:-${TMPDIR:-/tmp}}" KURAMORI_TEST_DISK="${TMPDIR:-/tmp}" GTEST_BRIEF=1 GTEST_OUTPUT="xml:$folder/" ctest --test-dir "build/$preset" --output-on-failure --no-tests=ignore -j "$(nproc)" \
    --output-junit "$folder/ctest.xml" "$@" >"$folder/log" 2>&1
  if ! counts=$(python3 tools/count_results.py "$folder"); then
    tail -50 "$folder/log" >&2
    note_step "$name" $((SECONDS - begin)) 0 1
    return 1
  fi
  # shellcheck disable=SC2086  # two words
  note_step "$name" $((SECONDS - begin)) $counts
  if [ "${counts#* }" != 0 ]; then
    grep -vE '^ +Start +[0-9]+:|Passed +[0-9.]+ sec$' "$folder/log" >&2
    return 1
  fi
}

# Small programs of the small tests, whole: unit and property tests and the simulation. What is built for the address
# sanitizer is what the fuzz targets are linked with: a build of its own for them cost ten minutes more.
step_sanitizer() {
  local preset=$1
  step "build $preset" build_targets "$preset" tests_unit tests_simulation tests_fuzz || return 1
  STEP_ENVIRONMENT=(
    KURAMORI_TEST_SANITIZED="$preset"
    ASAN_OPTIONS=strict_string_checks=1
    UBSAN_OPTIONS=print_stacktrace=1
    TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1:suppressions=$PWD/tools/tsan.supp"
  )
  step_ctest "$preset" "$preset" -L 'unit|simulation' -j $(($(nproc) + 1))
  STEP_ENVIRONMENT=()
}

run_fuzz_targets() {
  local seconds=$1 target corpus failed=0
  FUZZED=0
  for target in build/asan/bin/*_fuzz; do
    [ -x "$target" ] || continue
    corpus=$PWD/build/asan/corpus/$(basename "$target")
    mkdir -p "$corpus"
    if "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=0 -verbosity=0 \
      -artifact_prefix="$PWD/build/asan/crash-$(basename "$target")-" "$corpus" \
      "$PWD/fuzz/corpus/$(basename "$target" _fuzz)" >"$corpus.log" 2>&1; then
      FUZZED=$((FUZZED + 1))
    else
      tail -30 "$corpus.log" >&2
      say "fuzz: $(basename "$target") failed; the input is build/asan/crash-$(basename "$target")-*"
      failed=$((failed + 1))
    fi
  done
  FUZZ_FAILED=$failed
  [ $failed = 0 ]
}

step_fuzz() {
  local begin=$SECONDS
  [ -n "$(ls fuzz/*.cc 2>/dev/null)" ] || return 0
  say "== fuzz, $1 s each"
  run_fuzz_targets "$1"
  note_step "fuzz" $((SECONDS - begin)) "$FUZZED" "$FUZZ_FAILED"
}

# Only what matches, and only what that needs is built.
step_only() {
  local pattern=$1 names
  configure release || { note_step configure 0 0 1; return 1; }
  ninja -C build/release --quiet build.ninja >/dev/null
  names=$(ctest --test-dir build/release -N -R "$pattern" | sed -n 's/^ *Test *#[0-9]*: //p')
  if [ -n "$names" ]; then
    # shellcheck disable=SC2086  # a list
    if [ -n "$(targets_among release kuramori $names)" ]; then
      step "build" build_targets release kuramori kuramori-wal $names || return 1
      place_programs
    fi
    step_ctest "matching $pattern" release -R "$pattern"
  else
    step "build" build_targets release tests_unit tests_simulation || return 1
    GTEST_FILTER="*$pattern*" GTEST_FAIL_IF_NO_TEST_SELECTED=0 step_ctest "cases matching $pattern" release -L 'unit|simulation'
  fi
}

finish_steps() {
  printf '\n' >&2
  printf '%s\n' "${STEP_TABLE[@]}" >&2
  printf '%s passed, %s failed\n' "$PASSED" "$FAILED"
  [ "$FAILED" = 0 ] && [ "$PASSED" -gt 0 ]
}
