"""What a store really does is found out before a vault is made there: buckets of a real S3 store in every mood."""

import json

import harness
import jsonschema


class Probe(harness.Case):
    place_kind = "rgw"

    def setUp(self):
        super().setUp()
        self.user = self.place.user

    def write(self, bucket, *more):
        """A configuration of one vault in that bucket."""
        words = [f'at: "s3://{bucket}/vault"', *self.place.yaml().split(", ")[1:], "site: here", f'key_file: "{self.key}"', *more]
        self.config.write_text(f"vaults:\n  here: {{ {', '.join(words)} }}\n")
        self.config.chmod(0o644)

    def probe(self, status=0, *more):
        document = self.kuramori("vault", "probe", "here", "--json", *more, status=status).json()
        jsonschema.validate(document, json.loads((harness.ROOT / "docs/schema/probe.schema.json").read_text()))
        return document

    def test_a_plain_bucket_holds_a_vault_alone(self):
        self.write(self.user.bucket())
        before = self.probe()  # a place can be tried before there is a vault
        self.assertTrue(before["accepted"])
        self.assertEqual(before["recorded"], "")
        self.assertEqual({finding["verdict"] for finding in before["places"][0]["findings"]}, {"holds"})
        self.kuramori("vault", "init", "here")
        after = self.probe(0, "--through", self.place.endpoint)
        self.assertTrue(after["recorded"].startswith("probes/"))
        self.assertIn("atomic create", self.kuramori("vault", "show", "here").out)
        self.kuramori("vault", "scrub", "here")

    def test_a_bucket_that_cannot_put_once_is_refused_or_given_a_ledger_P73(self):
        for lock in (False, True):
            with self.subTest(lock=lock):
                bucket = self.user.bucket(lock=lock, versioned=not lock)
                self.write(bucket, *(["lock: 1d"] if lock else []))
                self.key.unlink(missing_ok=True)
                refused = self.kuramori("vault", "init", "here", status=5)
                self.assert_refused(refused, "does not put an object exactly once", "ledger:")
                self.assertFalse(self.key.exists(), "a key was made for a vault that was not")
                # The same bucket as a ledger will not do either; a plain one will.
                self.write(bucket, f'ledger: "s3://{bucket}/ledger"')
                self.kuramori("vault", "init", "here", status=5)
                ledger = self.user.bucket()
                self.write(bucket, f'ledger: "s3://{ledger}/ledger"', *(["lock: 1d"] if lock else []))
                self.kuramori("vault", "init", "here")
                self.kuramori("vault", "scrub", "here")
        found = self.probe()
        self.assertEqual([place["place"] for place in found["places"]], ["objects", "ledger"])
        self.assertEqual([place["versioned"] for place in found["places"]], [True, False])
        self.assertEqual([place["can_lock"] for place in found["places"]], [True, False])
        # The one object that the probe itself locked, for two seconds.
        self.assertLessEqual(found["places"][0]["left_behind"], 2)

    def test_a_lock_that_no_bucket_keeps_is_refused(self):
        self.write(self.user.bucket(), "lock: 1d")
        self.assert_refused(self.kuramori("vault", "init", "here", status=5), "lock:", "Object Lock")

    def test_a_bucket_that_locks_whatever_is_put_is_told_V21(self):
        bucket = self.user.bucket(lock=True, default_days=1)
        self.write(bucket, f'ledger: "s3://{self.user.bucket()}/ledger"')
        self.kuramori("vault", "init", "here")
        self.assertIn("locks everything by default", self.kuramori("vault", "show", "here").out)
        self.assertNotEqual(self.place.s3.keys(bucket, "vault/probe/"), [])  # it may not be removed; it is in nobody's way
        self.kuramori("vault", "scrub", "here")
        if harness.ALL:
            found = self.probe()
            self.assertAlmostEqual(found["places"][0]["default_lock_seconds"], 86400, delta=60)
            self.assertGreater(found["places"][0]["left_behind"], 1000)


if __name__ == "__main__":
    harness.main()
