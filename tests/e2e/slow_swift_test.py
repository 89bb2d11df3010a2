"""A store of another maker: OpenStack Swift through its S3 interface. It knows no conditional put, so a vault's objects stand
there and its ledger elsewhere; without one the vault is refused (P73). Skipped where Swift is not installed."""

import unittest

import harness
import lifecycle_test
import round_trip_test
import swift_server

_shared = []
_number = iter(range(100, 1 << 30))  # a bucket's name has three letters or more


def swift():
    if not _shared:
        _shared.append(swift_server.Swift())
    return _shared[0]


class SwiftPlace:
    """Objects in a container of Swift's, the ledger in a folder."""

    kind = "swift"

    def __init__(self, case):
        self.case, self.store = case, swift()
        self.s3, self.endpoint = self.store.s3, self.store.endpoint
        self.bucket = f"b-{next(_number)}"
        self.s3.request("PUT", self.bucket).expect()
        self.keys = {}
        for name, text in (("access", self.store.access), ("secret", self.store.secret)):
            self.keys[name] = case.folder / f"swift.{name}"
            self.keys[name].write_text(text + "\n")
            self.keys[name].chmod(0o600)
            case.give(self.keys[name])
        self.ledger = case.folder / "ledger"

    def yaml(self, ledger=True, conditional=False):
        words = [f'at: "s3://{self.bucket}/vault{"" if conditional else "?conditional=no"}"', f'endpoint: "{self.endpoint}"', "region: us-east-1",
                 f'credentials: {{ access_key_file: "{self.keys["access"]}", secret_key_file: "{self.keys["secret"]}" }}']
        return ", ".join(words + ([f'ledger: "file://{self.ledger}"'] if ledger else []))

    def objects(self, prefix=""):
        return [(name.removeprefix("vault/"), size) for name, size in self.s3.list(self.bucket, "vault/" + prefix)]


class OnSwift:
    def setUp(self):
        if swift_server.missing():
            raise unittest.SkipTest(f"Swift is not installed: {', '.join(swift_server.missing())} (tools/packages.txt, group swift)")
        super().setUp()
        self.place = SwiftPlace(self)


class Refused(OnSwift, harness.Case):
    def test_without_a_ledger_elsewhere_it_is_refused_in_words_P73(self):
        for ledger, conditional in ((False, True), (False, False), (True, True)):
            with self.subTest(ledger=ledger, conditional=conditional):
                self.config.write_text(f'vaults:\n  here: {{ {self.place.yaml(ledger, conditional)}, site: here, key_file: "{self.key}" }}\n')
                refused = self.kuramori("vault", "init", "here", status=5)
                self.assert_refused(refused, "ledger:" if not ledger else "conditional")
                probed = self.kuramori("vault", "probe", "here", status=5)
                self.assert_refused(probed, "ledger:" if not ledger else "conditional")
                self.assertFalse(self.key.exists(), "a key was made for a vault that was not")
        self.assertEqual([name for name, _ in self.place.objects() if not name.startswith("probe/")], [])


class Holds(OnSwift, harness.Case):
    def test_a_hold_harms_nothing_where_the_store_knows_none_P73(self):
        """Swift passes over `?legal-hold` and `?retention`: a PUT would put the words of a lock over a pack."""
        server = self.server(initdb=["--wal-segsize=1"])
        server.sql("create table entry as select generate_series(1, 1000) id")
        snapshot = self.kuramori("backup", "db", "--json").json()["snapshot"]["id"]
        before = self.place.objects()
        self.kuramori("hold", "add", snapshot, "--name", "audit")
        self.assertLessEqual(set(before), set(self.place.objects()))
        self.kuramori("vault", "scrub", "here")
        self.kuramori("prune")
        self.kuramori("hold", "remove", snapshot, "--name", "audit")
        self.kuramori("restore", f"db@{snapshot}", "--to", self.folder / "restored")


class RoundTripOnSwift(OnSwift, round_trip_test.RoundTrip):
    pass


class LifecycleOnSwift(OnSwift, lifecycle_test.Lifecycle):
    pass


for each in (RoundTripOnSwift, LifecycleOnSwift):
    for name in dir(each):
        if name.startswith("test_postgresql_") and name != "test_postgresql_15":
            setattr(each, name, None)

if __name__ == "__main__":
    harness.main()
