"""Buckets, whole: into the vault with versions, metadata and tags, proven, back into folders and buckets (H1, H2, H3, H4, K6, A4)."""

import concurrent.futures
import json
import os
import random
import signal
import socket
import subprocess
import time

import jsonschema

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

    def in_bucket(self, *words):
        document = self.mine(*words, "--json").json()
        jsonschema.validate(document, json.loads((harness.ROOT / "docs/schema/bucket.schema.json").read_text()))
        return document["bucket"]

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
        before = self.s3.versions(self.bucket)
        healthy = self.mine("doctor", "assets", "--json", status=None).json()["findings"]
        self.assertNotIn("problem", [finding["severity"] for finding in healthy], healthy)
        self.assertEqual(self.s3.versions(self.bucket), before, "a look leaves nothing behind")
        body = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
        self.s3.request("PUT", self.bucket, query={"versioning": ""}, body=body).expect()
        found = self.mine("doctor", "assets", status=None)
        self.assertIn("switched off", found.out + found.err)
        self.assertIn("kuramori bucket fix assets --versioning", found.out + found.err)
        self.mine("bucket", "fix", "assets", "--versioning")
        self.assertNotIn("switched off", self.mine("doctor", "assets", status=None).out)

    def test_H1_K6_what_was_deleted_or_overwritten_comes_back_in_the_bucket(self):
        for key in ("doc", "folder/a", "folder/b", "folderless"):
            self.put(key, "v1")
            self.put(key, "v2")
            self.s3.delete(self.bucket, "prod/" + key).expect()
        said = self.in_bucket("restore", "assets", "--undelete", "doc", "--estimate")
        self.assertEqual((said["changed"], self.get("doc")), (1, 404))
        self.mine("restore", "assets", "--undelete", "doc")
        self.assertEqual(self.get("doc"), "v2")
        self.mine("restore", "assets", "--undelete", "folder")
        self.assertEqual([self.get(key) for key in ("folder/a", "folder/b", "folderless")], ["v2", "v2", 404])
        versions = self.in_bucket("bucket", "versions", "assets", "doc")["versions"]
        oldest = versions[-1]["version"]
        self.mine("restore", "assets", "--only", "doc", "--version", oldest, status=5)
        self.assertEqual(self.get("doc"), "v2")
        self.mine("restore", "assets", "--only", "doc", "--version", oldest, "--overwrite")
        self.assertEqual(self.get("doc"), "v1")
        self.assertEqual(len(self.in_bucket("bucket", "versions", "assets", "doc")["versions"]), 3)
        self.mine("restore", "assets", "--only", "doc", "--version", "no-such-version", "--overwrite", status=1)
        self.mine("restore", "assets", "--undelete", "never-there", status=1)

    def test_H4_a_prefix_is_set_back_to_a_moment_in_the_bucket(self):
        self.put("a/kept", "kept")
        self.put("a/changed", "before")
        self.put("a/deleted", "was there")
        self.put("b/changed", "before")
        time.sleep(0.05)
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{int(time.time() % 1 * 1000):03d}Z"
        time.sleep(0.05)
        for key in ("a/changed", "b/changed", "a/new"):
            self.put(key, "after")
        self.s3.delete(self.bucket, "prod/a/deleted").expect()
        self.mine("restore", "assets", "--in-bucket", "--at", moment, "--only", "a", status=5)
        self.mine("restore", "assets", "--in-bucket", "--at", moment, "--only", "a", "--overwrite")
        self.assertEqual([self.get(key) for key in ("a/kept", "a/changed", "a/deleted", "a/new", "b/changed")],
                         ["kept", "before", "was there", 404, "after"])
        again = self.in_bucket("restore", "assets", "--in-bucket", "--at", moment, "--only", "a", "--overwrite")
        self.assertEqual((again["changed"], again["as_they_should_be"]), (0, 4))
        # Where nothing keeps what is replaced, nothing is replaced.
        body = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
        self.s3.request("PUT", self.bucket, query={"versioning": ""}, body=body).expect()
        self.mine("restore", "assets", "--in-bucket", "--at", moment, "--overwrite", status=5)

    def test_H3_I6_A4_versioning_and_lifecycle_are_switched_on_and_read_back(self):
        fast = rgw.shared(day=2)
        owner = fast.owner()
        bucket = owner.bucket()
        for name, value in (("access", owner.access), ("secret", owner.secret)):
            (self.folder / name).write_text(value)
        self.cluster, self.bucket, self.s3 = fast, bucket, owner.s3
        self.configure()
        owner.s3.set_lifecycle(bucket, "<Rule><ID>theirs</ID><Filter><Prefix>tmp/</Prefix></Filter><Status>Enabled</Status>"
                                       "<Expiration><Days>1</Days></Expiration></Rule>")
        self.assertIn("keeps no versions", self.mine("doctor", "assets", status=None).out)
        said = self.in_bucket("bucket", "fix", "assets", "--versioning", "--keep-versions", "30d", "--lifecycle", "90d", "--dry-run")
        self.assertEqual(len(said["done"]), 3)
        self.assertNotIn(b"Enabled", owner.s3.request("GET", bucket, query={"versioning": ""}).body)
        self.mine("bucket", "fix", "assets", "--versioning", "--keep-versions", "30d", "--lifecycle", "90d")
        self.assertIn(b"Enabled", owner.s3.request("GET", bucket, query={"versioning": ""}).body)
        rules = {rule.findtext("ID"): rule for rule in owner.s3.request("GET", bucket, query={"lifecycle": ""}).xml().iter("Rule")}
        self.assertEqual(set(rules), {"theirs", "kuramori-expire:prod/", "kuramori-versions:prod/"})
        self.assertEqual(rules["kuramori-expire:prod/"].findtext("Expiration/Days"), "90")
        self.assertEqual(rules["kuramori-versions:prod/"].findtext("NoncurrentVersionExpiration/NoncurrentDays"), "30")
        # Sooner than promised: said, and mended.
        self.mine("bucket", "fix", "assets", "--keep-versions", "3d")
        found = self.mine("doctor", "assets", "--json", status=None).json()["findings"]
        self.assertTrue([one for one in found if one["severity"] == "problem" and "promised" in one["what"]], found)
        self.mine("bucket", "fix", "assets", "--keep-versions", "30d")
        # A day is two seconds here: what is older than the rule says goes.
        self.put("log", "old enough soon")
        self.mine("bucket", "fix", "assets", "--lifecycle", "2d")
        for _ in range(300):
            if self.get("log") == 404:
                break
            time.sleep(0.2)
        self.assertEqual(self.get("log"), 404)

    def approvals(self, *acts):
        self.config.write_text(self.config.read_text() + f"approvals: {{ for: [{', '.join(acts)}] }}\n")
        second = self.folder / "second.key"
        self.mine("vault", "key", "new", "here", "--role", "keeper", "--name", "second", "--to", second)

        def approve(act):
            request = self.mine("approve", "--json").json()["requests"][0]
            self.assertEqual((request["act"], request["state"]), (act, "waits"))
            self.mine("--key-file", second, "approve", request["id"])
            return request["lines"]
        return approve

    def test_O3_what_makes_objects_go_or_replaces_them_needs_a_second_person(self):
        approve = self.approvals("bucket-fix", "restore-in-place")
        fix = ("bucket", "fix", "assets", "--keep-versions")
        self.mine("bucket", "fix", "assets", "--versioning")  # takes nothing away
        self.mine(*fix, "30d", status=5)
        approve("bucket-fix")
        self.mine(*fix, "3d", status=5)
        self.mine(*fix, "30d")
        for text in ("one", "two"):
            self.put("a", text)
        older = next(one["version"] for one in self.in_bucket("bucket", "versions", "assets", "a")["versions"] if not one["newest"])
        back = ("restore", "assets", "--version", older, "--overwrite", "--only")
        self.mine(*back, "a", status=5)
        self.assertEqual(approve("restore-in-place")[1:], ["only a"])
        self.mine(*back, "b", status=5)
        self.assertEqual(self.get("a"), "two")
        self.mine(*back, "a")
        self.assertEqual(self.get("a"), "one")

    def test_a_bucket_that_is_not_there_is_told_in_words(self):
        self.config.write_text(self.config.read_text().replace(self.bucket, "no-such-bucket"))
        failed = self.mine("backup", "assets", status=1)
        self.assertIn("there is no bucket", failed.err)


def low_port():
    """The first of three free ports below those that connections are given: while a server is away, whoever asks for it again and
    again would now and then be connected with itself, and hold its port."""
    while True:
        port = random.randrange(20_000, 30_000)
        try:
            for number in range(port, port + 3):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))
            return port
        except OSError:
            continue


FAR_PORT = low_port()


class Replication(Bucket):
    """Two stores at two sites."""

    COUNT = 10_000 if harness.ALL else 1_500

    def setUp(self):
        super().setUp()
        self.site = rgw.shared(port=FAR_PORT)  # another cluster than the source's
        self.far = self.site.owner()
        self.copy = self.far.bucket(versioned=True)
        for name, value in (("far-access", self.far.access), ("far-secret", self.far.secret)):
            (self.folder / name).write_text(value)
        self.replicate_to()
        self.running = []

    def tearDown(self):
        for process in self.running:
            process.kill()
            process.wait()
        super().tearDown()

    def replicate_to(self, more=""):
        self.configure(f"    replicate: {{ to: s3://{self.copy}/copy, endpoint: {self.site.endpoint}, every: 1s{more},\n"
                       f"      credentials: {{ access_key_file: {self.folder}/far-access, secret_key_file: {self.folder}/far-secret }} }}\n")

    def once(self, *words, status=0):
        document = self.mine("replicate", "assets", "--once", *words, "--json", status=status).json()
        jsonschema.validate(document, json.loads((harness.ROOT / "docs/schema/replication.schema.json").read_text()))
        return document["replication"]

    def there(self, key):
        answer = self.far.s3.get(self.copy, "copy/" + key)
        return answer.body.decode() if answer.ok else answer.status

    def fill(self, count, word="object"):
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda number: self.put(f"{number % 100}/{number}", f"{word} {number}"), range(count)))

    def start(self, beside=False):
        # Whoever runs beside another writes after it, not over it.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (0 if beside else os.O_TRUNC)
        out = os.open(self.folder / "replicate.out", flags, 0o644)
        self.running.append(subprocess.Popen([str(self.programs / "kuramori"), "--config", str(self.config), "replicate", "assets", "--json"],
                                             stdout=out, stderr=subprocess.DEVNULL, env=harness.environment(KURAMORI_STATE=self.folder / "state")))
        os.close(out)
        return self.running[-1]

    def lines(self):
        return [json.loads(line)["replication"] for line in (self.folder / "replicate.out").read_text().splitlines() if line.endswith("}")]

    def wait(self, what, seconds=60):
        for _ in range(seconds * 10):
            if what():
                return
            time.sleep(0.1)
        self.fail((self.folder / "replicate.out").read_text()[-2000:])

    def histories(self, s3, bucket, prefix):
        found = {}
        for key, version, _, marker in reversed(s3.versions(bucket, prefix)):
            found.setdefault(key[len(prefix):], []).append("gone" if marker else s3.get(bucket, key, version=version).body)
        return found

    def test_H2_only_what_changed_is_copied_and_everything_of_it(self):
        self.fill(self.COUNT)
        first = self.once()
        self.assertEqual((first["copied"], first["lag_seconds"]), (self.COUNT, 0))
        pages = -(-self.COUNT // 1000)
        again = self.once()
        self.assertEqual(again["copied"], 0)
        self.assertLessEqual(again["requests"], 2 * pages + pages // 2 + 5)  # this store does not fill every page
        changed = self.COUNT // 100
        self.fill(changed, "changed")
        second = self.once()
        self.assertEqual(second["copied"], changed)
        self.assertLessEqual(second["requests"], 2 * pages + pages // 2 + 5 + 4 * changed)
        self.assertEqual(self.there("7/7"), "changed 7")
        # Metadata, tags, parts, and the order of versions.
        self.put("page", "<p>", **{"Content-Type": "text/html", "x-amz-meta-of": "me", "x-amz-tagging": "a=1&b=2"})
        for content in ("one", "two", "one"):
            self.put("often", content)
        self.s3.delete(self.bucket, "prod/often").expect()
        self.put("often", "four")
        upload = self.s3.multipart_begin(self.bucket, "prod/parts")
        etags = [self.s3.multipart_put(self.bucket, "prod/parts", upload, number, bytes([number]) * size).headers["etag"]
                 for number, size in ((1, 6_000_000), (2, 6_000_000), (3, 10))]
        self.s3.multipart_complete(self.bucket, "prod/parts", upload, etags).expect(200)
        self.once()
        head = self.far.s3.head(self.copy, "copy/page")
        self.assertEqual((head.headers["content-type"], head.headers["x-amz-meta-of"], head.headers["x-amz-tagging-count"]), ("text/html", "me", "2"))
        mine, theirs = self.histories(self.s3, self.bucket, "prod/"), self.histories(self.far.s3, self.copy, "copy/")
        for key in ("often", "page", "parts", "7/7"):
            self.assertEqual(theirs[key], mine[key], key)
        quiet = self.once()
        self.assertEqual(quiet["copied"], 0)

    def test_H2_a_source_that_was_emptied_is_not_followed(self):
        self.fill(60)
        self.once()
        for number in range(5):
            self.s3.delete(self.bucket, f"prod/{number}/{number}").expect()
        self.assertEqual(self.once()["deleted"], 5)
        self.assertEqual(self.there("3/3"), 404)
        # Ten a day are few enough; five were followed already, also by another process.
        for number in range(5, 15):
            self.s3.delete(self.bucket, f"prod/{number}/{number}").expect()
        self.put("new", "still copied")
        held = self.once(status=5)
        self.assertEqual((held["deleted"], held["held_deletes"], self.there("7/7"), self.there("new")), (0, 10, "object 7", "still copied"))
        for key in self.s3.keys(self.bucket, "prod/"):
            self.s3.delete(self.bucket, key).expect()
        (self.folder / "state" / "replication" / "assets.json.deletes").unlink()
        held = self.once(status=5)
        self.assertIn("empty", held["why_held"])
        self.assertEqual(self.there("20/20"), "object 20")
        self.assertEqual(self.once("--allow-deletes", "100")["deleted"], 56)
        # What stands there and is not of its making stays.
        self.far.s3.put(self.copy, "copy/theirs", b"theirs").expect(200)
        self.once("--allow-deletes", "100")
        self.assertEqual(self.there("theirs"), "theirs")
        # O3: of so many, once, by two.
        approve = self.approvals("replicate-deletes")
        self.mine("replicate", "assets", "--once", "--allow-deletes", "3", status=5)
        self.assertIn("delete up to 3 in ", approve("replicate-deletes")[0])
        self.mine("replicate", "assets", "--once", "--allow-deletes", "4", status=5)
        self.once("--allow-deletes", "3")
        self.mine("replicate", "assets", "--once", "--allow-deletes", "3", status=5)

    def test_H2_a_target_that_is_away_loses_nothing_and_a_kill_does_no_harm(self):
        self.fill(200)
        process = self.start()
        self.wait(lambda: self.lines() and self.lines()[-1]["passes"] > 0)
        self.site.kill("rgw")
        begun = time.monotonic()
        try:
            self.fill(300, "while it was away")
            away = 60 if harness.ALL else 12
            self.wait(lambda: time.monotonic() - begun > away, 90)
            self.assertGreater(self.lines()[-1]["lag_seconds"], away / 2)
            told = len(self.lines())
            self.wait(lambda: len(self.lines()) > told, 5)
        finally:
            self.site.restart("rgw")
        self.wait(lambda: self.lines()[-1]["lag_seconds"] == 0 and self.lines()[-1]["waiting"] == 0 and self.there("99/299") != 404, 90)
        for number in range(300):
            self.assertEqual(self.there(f"{number % 100}/{number}"), f"while it was away {number}")
        # Killed while it copies; two of them at once.
        self.fill(300, "killed")
        process.send_signal(signal.SIGKILL)
        process.wait()
        state = json.loads((self.folder / "state" / "replication" / "assets.json").read_text())
        self.assertEqual(state["schema"], "kuramori/replication/1")
        self.start()
        self.start(beside=True)
        self.wait(lambda: self.lines() and self.lines()[-1]["passes"] > 0 and self.lines()[-1]["lag_seconds"] == 0)
        for number in range(300):
            self.assertEqual(self.there(f"{number % 100}/{number}"), f"killed {number}")


# The cases of the bucket alone are run once.
for _name in [name for name in dir(Bucket) if name.startswith("test_")]:
    setattr(Replication, _name, None)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    harness.main()
