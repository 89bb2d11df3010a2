"""The main job with its vault in a real S3 store: the tests of the folder, unchanged, on every kind of place. Here the
shortest of them on each; ./dev test --all runs them all, and KURAMORI_TEST_PLACE moves any test's vault."""

import harness
import lifecycle_test
import places
import round_trip_test

SHORT = {
    "rgw": {"test_postgresql_15"},
    "locked": {"test_postgresql_15"},
    "line": {"test_postgresql_15"},
}
LONG = {
    "rgw": {"test_every_snapshot_of_a_changing_database_comes_back_as_it_was_P6_P7_P9",
            "test_prune_does_what_its_dry_run_says_and_collect_frees_it_P57_P58_P59_V26"} | {f"test_postgresql_{major}" for major in harness.MAJORS},
    "locked": {"test_every_snapshot_of_a_changing_database_comes_back_as_it_was_P6_P7_P9"},
    "line": {"test_every_snapshot_of_a_changing_database_comes_back_as_it_was_P6_P7_P9",
             "test_prune_does_what_its_dry_run_says_and_collect_frees_it_P57_P58_P59_V26"},
}


def put_on(kind, base):
    """The tests of `base` that are wanted on this kind of place, as a class of their own."""
    wanted = SHORT[kind] | (LONG[kind] if harness.ALL else set())
    names = {name for name in dir(base) if name.startswith("test_")}
    members = {name: None for name in names - wanted}  # what is no function is no test
    if names & wanted:
        title = f"{base.__name__}On{kind.title()}"
        globals()[title] = type(title, (base,), {"place_kind": kind, "__module__": __name__, **members})


for each in places.KINDS[1:]:
    put_on(each, round_trip_test.RoundTrip)
    put_on(each, lifecycle_test.Lifecycle)

if __name__ == "__main__":
    harness.main()
