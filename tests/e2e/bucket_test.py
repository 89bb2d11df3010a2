"""Buckets, whole: into the vault with versions, metadata and tags, proven, back into folders and buckets (H1, H2, H3, H4, K6, A4)."""

import signal
import time

import harness
import rgw

CONFIG = """vaults:
  here: {{ at: "file://{vault}", site: here, key_file: "{key}" }}
resources:
  assets:
    kind: bucket
    at: s3://{bucket}/prod
    endpoint: {endpoint}
    credentials: {{ access_key_file: {folder}/access, secret_key_file: {folder}/secret }}
    keep_versions: 30d
    limits: {{ processes: 4 }}
{more}
plans:
  all: {{ resources: [assets], vault: here, schedule: "0 * * * *", timezone: UTC, keep: {{ all: 7d }} }}
"""


class Bucket(harness.Case):
    def setUp(self):
        super().setUp()
        self.cluster = rgw.shared()
        self.owner = self.cluster.owner()
        self.s3 = self.owner.s3
        self.bucket = self.owner.bucket(versioned=True)
        for name, value in (("access", self.owner.access), ("secret", self.owner.secret)):
            (self.folder / name).write_text(value)
        self.configure()
        self.mine("vault", "init", "here")

    def configure(self, more=""):
        self.config.write_text(CONFIG.format(vault=self.vault, key=self.key, folder=self.folder, bucket=self.bucket,
                                             endpoint=self.cluster.endpoint, more=more))

    def mine(self, *words, **more):
        return self.kuramori(*words, user=False, **{**more, "env": {"KURAMORI_STATE": self.folder / "state"}})

    def put(self, key, body, **headers):
        self.s3.put(self.bucket, "prod/" + key, body.encode() if isinstance(body, str) else body, headers=headers or None).expect(200)

    def get(self, key, bucket=None):
        answer = self.s3.get(bucket or self.bucket, "prod/" + key)
        return answer.body.decode() if answer.ok else answer.status

    def url(self, bucket, prefix):
        return f"s3://{bucket}/{prefix}"

    def test_H4_K6_a_bucket_is_kept_proven_and_comes_back_as_of_a_moment(self):
        for number in range(300):
            self.put(f"photos/{number % 7}/{number}.jpg", f"photo {number}", **{"Content-Type": "image/jpeg", "x-amz-meta-of": str(number)})
        self.put("a", "a key")
        self.put("a/b", "below it")
        self.put("a.b", "beside it")
        self.put("large", b"l" * 20_000_000)
        first = self.mine("backup", "assets", "--json").json()["snapshot"]
        self.assertEqual(first["files"], 304)
        self.assertEqual(first["defects"], [])
        again = self.mine("backup", "assets", "--json").json()["snapshot"]
        self.assertEqual((again["files_as_before"], again["bytes_read"]), (304, 0))
        time.sleep(0.05)
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{int(time.time() % 1 * 1000):03d}Z"
        time.sleep(0.05)
        self.put("photos/0/0.jpg", "another photo")
        self.s3.delete(self.bucket, "prod/photos/1/1.jpg").expect()
        self.put("photos/new.jpg", "new")
        changed = self.mine("backup", "assets", "--json").json()["snapshot"]
        self.assertLess(changed["bytes_read"], 200)
        proof = self.mine("drill", "assets", "--json").json()["proof"]
        self.assertTrue(proof["passed"], proof)
        # Into a folder: what stands there now, and what stood there at the moment.
        self.mine("restore", "assets", "--to", self.folder / "now")
        self.assertEqual((self.folder / "now/photos/0/0.jpg").read_text(), "another photo")
        self.assertFalse((self.folder / "now/photos/1/1.jpg").exists())
        self.assertEqual((self.folder / "now/a/%=").read_text(), "a key")
        self.assertEqual((self.folder / "now/a/b").read_text(), "below it")
        self.mine("restore", "assets", "--at", moment, "--to", self.folder / "then")
        self.mine("restore", f"assets@{again['id']}", "--to", self.folder / "snapshot")

        def files(name):
            root = self.folder / name
            return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        self.assertEqual(len(files("then")), 304)
        self.assertEqual(files("then"), files("snapshot"))
        self.mine("restore", "assets", "--only", "photos/3", "--to", self.folder / "some")
        self.assertEqual({name.split("/")[1] for name in files("some")}, {"3"})
        # Into a bucket, with everything that belongs to it.
        target = self.owner.bucket(versioned=True)
        self.mine("restore", "assets", "--to", self.url(target, "prod"))
        self.assertEqual(self.get("large", target), "l" * 20_000_000)
        head = self.s3.head(target, "prod/photos/2/2.jpg")
        self.assertEqual((head.headers["content-type"], head.headers["x-amz-meta-of"]), ("image/jpeg", "2"))

        def histories(bucket):
            found = {}
            for key, version, _, marker in reversed(self.s3.versions(bucket, "prod/")):
                found.setdefault(key, []).append("gone" if marker else self.s3.get(bucket, key, version=version).body)
            return found
        self.assertEqual(histories(target), histories(self.bucket))
        refused = self.mine("restore", "assets", "--to", self.url(target, "prod"), status=5)
        self.assertIn("not empty", refused.err)
        self.mine("restore", "assets", "--to", self.folder / "now", status=5)
        # A vault and a key are enough.
        self.kuramori("restore", "assets", "--vault", self.vault, "--key-file", self.key, "--to", self.folder / "alone", config=False, user=False)
        self.assertEqual(files("alone"), files("now"))

    def test_A4_versioning_switched_off_is_detected(self):
        self.put("x", "x")
        healthy = self.mine("doctor", "assets", "--json", status=None).json()["findings"]
        self.assertNotIn("problem", [finding["severity"] for finding in healthy], healthy)
        body = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
        self.s3.request("PUT", self.bucket, query={"versioning": ""}, body=body).expect()
        found = self.mine("doctor", "assets", status=None)
        self.assertIn("switched off", found.out + found.err)

    def test_a_bucket_that_is_not_there_is_told_in_words(self):
        self.config.write_text(self.config.read_text().replace(self.bucket, "no-such-bucket"))
        failed = self.mine("backup", "assets", status=1)
        self.assertIn("there is no bucket", failed.err)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    harness.main()
