"""The main job with its vault in a real S3 store: the tests of the folder, unchanged, on every kind of place. Here the
shortest of them on each; slow_s3_main_job_test.py has them all, and KURAMORI_TEST_PLACE moves any test's vault."""

import harness
import lifecycle_test
import places
import restore_test
import restore_traps_test
import round_trip_test
import standby_test

EVERY_STATE = "test_every_snapshot_of_a_changing_database_comes_back_as_it_was_P6_P7_P9_P53"
# Not these, elsewhere than in a folder: they reach into it by hand (tests/e2e/s3_faults_test.py has their like), or count
# on space that a lock does not give back (tests/e2e/locks_test.py).
REACHES_IN = {"test_a_missing_segment_is_refused_by_name_and_never_promotes_P44_D6"}
WANTS_SPACE = {"test_prune_does_what_its_dry_run_says_and_collect_frees_it_P57_P58_P59_V26"}
BASES = (round_trip_test.RoundTrip, lifecycle_test.Lifecycle, restore_test.Targets, restore_test.Places, restore_test.Afterwards,
         restore_traps_test.RestoreTraps, standby_test.Standby)
SHORT = {"test_postgresql_15"}
# A test that was given another name must not drop out unseen.
for each in {EVERY_STATE, *REACHES_IN, *WANTS_SPACE, *SHORT}:
    if not any(hasattr(base, each) for base in BASES):
        raise SystemExit(f"{each}: no test has this name")


def wanted(kind, name, long):
    if name in REACHES_IN or (kind == "locked" and name in WANTS_SPACE):
        return False
    # Through the bad line the same in less: every request takes its time.
    return name in SHORT or (long and (kind != "line" or name == EVERY_STATE))


def classes(long):
    """{name: class}: the tests that are wanted on each kind of place."""
    found = {}
    for kind in places.KINDS[1:]:
        for base in BASES:
            names = [name for name in dir(base) if name.startswith("test_")]
            members = {name: None for name in names if not wanted(kind, name, long)}  # what is no function is no test
            if len(members) < len(names):
                title = f"{base.__name__}On{kind.title()}"
                found[title] = type(title, (base,), {"place_kind": kind, **members})
    return found


globals().update(classes(long=False))

if __name__ == "__main__":
    harness.main()
