"""Container images, whole (I5, S14): saved by digest out of a real registry, the registry's own collection run over it, and back
into an image layout, the same and another registry with the same digests, as skopeo and umoci see them."""

import crypt
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request

import harness

CONFIG = """vaults:
  here: {{ at: "file://{vault}", site: here, key_file: "{key}" }}
resources:
  images: {{ kind: image, registry: "{registry}", images: [{images}], {more} }}
plans:
  all: {{ resources: [images], vault: here, schedule: "0 * * * *", timezone: UTC, keep: {{ all: 7d }} }}
"""
PEAK_BYTES_MAX = 96 << 20


class Registry:
    """Debian's docker-registry, its content in a folder."""

    def __init__(self, folder, name, auth="", tls=""):
        self.folder = folder / name
        self.folder.mkdir()
        self.port = harness.free_port()
        self.scheme = "https" if tls else "http"
        self.config = self.folder / "config.yml"
        self.config.write_text(f"""version: 0.1
storage: {{filesystem: {{rootdirectory: {self.folder}/data}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{self.port}"{tls}}}
log: {{level: error, accesslog: {{disabled: true}}}}
{auth}""")
        self.process = None
        self.start()

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def start(self):
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", self.config], stdout=log, stderr=log)
        for _ in range(500):
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.process = None

    def collect_garbage(self):
        """As its operators do: stopped, and everything removed that no tag leads to."""
        self.stop()
        subprocess.run(["docker-registry", "garbage-collect", "--delete-untagged", self.config], check=True, capture_output=True)
        self.start()

    def blob(self, digest):
        return self.folder / f"data/docker/registry/v2/blobs/sha256/{digest[7:9]}/{digest[7:]}/data"

    def delete(self, repository, digest):
        request = urllib.request.Request(f"{self.url}/v2/{repository}/manifests/{digest}", method="DELETE")
        urllib.request.urlopen(request).close()


def run(*words):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout


class Images(harness.Case):
    def setUp(self):
        super().setUp()
        self.registries = []
        self.layout = self.folder / "made"
        run("umoci", "init", "--layout", self.layout)

    def tearDown(self):
        for registry in self.registries:
            registry.stop()
        super().tearDown()

    def registry(self, name, **more):
        self.registries.append(Registry(self.folder, name, **more))
        return self.registries[-1]

    def configure_images(self, registry, images='"team/*"', more=""):
        self.config.write_text(CONFIG.format(vault=self.vault, key=self.key, registry=registry.url, images=images, more=more))
        if not self.vault.exists():
            self.mine("vault", "init", "here")

    def mine(self, *words, **more):
        env = {"KURAMORI_STATE": self.folder / "state", **more.pop("env", {})}
        return self.kuramori(*words, user=False, **more, env=env)

    def make(self, name, size):
        """An image in the layout, with one layer that does not shrink."""
        files = self.folder / "content"
        files.mkdir(exist_ok=True)
        with open(files / "data", "wb") as out:  # in pieces: what this process held, its children are counted for
            for at in range(0, size, 1 << 20):
                out.write(os.urandom(min(1 << 20, size - at)))
        run("umoci", "new", "--image", f"{self.layout}:{name}")
        run("umoci", "insert", "--image", f"{self.layout}:{name}", files, "/app")

    def push(self, name, registry, image, *options):
        run("skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", *options, f"oci:{self.layout}:{name}",
            f"docker://127.0.0.1:{registry.port}/{image}")

    @staticmethod
    def digest(place):
        """What skopeo computes of it."""
        tls = ["--tls-verify=false"] if place.startswith("docker:") else []
        raw = subprocess.run(["skopeo", "inspect", "--raw", *tls, place], check=True, capture_output=True).stdout
        return "sha256:" + hashlib.sha256(raw).hexdigest()

    def at(self, registry, image):
        return f"docker://127.0.0.1:{registry.port}/{image}"

    def test_I5_images_come_back_with_their_digests_after_the_registry_collected_them(self):
        first, second = self.registry("first"), self.registry("second")
        self.configure_images(first)
        self.make("one", 2_000_000)
        self.make("two", 1_000_000)
        for name, image in (("one", "team/app:v1"), ("two", "team/app:v2"), ("one", "team/api:v1")):
            self.push(name, first, image)
        digests = {image: self.digest(self.at(first, image)) for image in ("team/app:v1", "team/app:v2", "team/api:v1")}
        whole = self.mine("backup", "images", "--json").json()["snapshot"]
        # Shared by tags and repositories, kept once.
        self.assertLess(whole["size_bytes"], 3_100_000)
        # Nothing changed: nothing but the names is read.
        again = self.mine("backup", "images", "--json").json()["snapshot"]
        self.assertLess(again["bytes_read"], 5_000)
        self.assertLess(again["added_bytes"], 20_000)
        proof = self.mine("drill", "images", "--json").json()["proof"]
        self.assertTrue(proof["passed"], proof)

        # A tag moves, another is deleted, and the registry collects what nothing leads to.
        self.push("two", first, "team/app:v1")
        first.delete("team/api", digests["team/api:v1"])
        first.collect_garbage()
        layers = json.loads(run("skopeo", "inspect", "--raw", f"oci:{self.layout}:one"))["layers"]
        self.assertFalse(first.blob(layers[0]["digest"]).exists())
        self.mine("backup", "images")
        listed = [one["id"] for one in self.mine("snapshots", "images", "--json").json()["snapshots"]]
        self.assertEqual(len(listed), 3)

        # The older one has the older images still: as a layout, with a vault and a key alone.
        self.kuramori("restore", f"images@{whole['id']}", "--vault", self.vault, "--key-file", self.key, "--to", self.folder / "back",
                      config=False, user=False)
        for image, digest in digests.items():
            self.assertEqual(self.digest(f"oci:{self.folder}/back:{image}"), digest)
        run("skopeo", "--insecure-policy", "copy", "-q", f"oci:{self.folder}/back:team/api:v1", f"oci:{self.folder}/copied:v1")
        # To another registry, some and all; twice is once.
        self.mine("restore", f"images@{whole['id']}", "--to", self.at(second, "from/vault"), "--only", "team/app:v2")
        self.assertEqual(run("curl", "-s", f"{second.url}/v2/_catalog").strip(), '{"repositories":["from/vault/team/app"]}')
        self.mine("restore", f"images@{whole['id']}", "--to", self.at(second, "from/vault"))
        self.mine("restore", f"images@{whole['id']}", "--to", self.at(second, "from/vault"))
        for image, digest in digests.items():
            self.assertEqual(self.digest(self.at(second, f"from/vault/{image}")), digest)
        # And to where it was: a tag that stands for something else is not moved unless told.
        refused = self.mine("restore", f"images@{whole['id']}", "--to", f"docker://127.0.0.1:{first.port}", status=5)
        self.assertIn("team/app:v1", refused.err)
        self.assertIn("--overwrite", refused.err)
        self.mine("restore", f"images@{whole['id']}", "--to", f"docker://127.0.0.1:{first.port}", "--overwrite")
        for image, digest in digests.items():
            self.assertEqual(self.digest(self.at(first, image)), digest)
        self.mine("restore", f"images@{whole['id']}", "--to", self.folder / "back", status=5)
        self.assertIn("no image", self.mine("restore", "images", "--to", self.folder / "none", "--only", "team/none", status=1).err)

    def test_I5_images_are_pushed_to_a_second_registry(self):
        first, second = self.registry("first"), self.registry("second")
        self.configure_images(first, more=f'replicate: {{ to: "docker://127.0.0.1:{second.port}/mirror" }}')
        self.make("one", 500_000)
        self.make("two", 500_000)
        self.push("one", first, "team/app:v1")
        self.push("one", first, "team/api:v1")
        sent = self.mine("replicate", "images", "--json").json()
        self.assertEqual((sent["images"], sent["images_as_before"], sent["blobs_mounted"], sent["defects"]), (2, 0, 2, []))
        self.assertEqual(self.digest(self.at(second, "mirror/team/app:v1")), self.digest(self.at(first, "team/app:v1")))
        again = self.mine("replicate", "images", "--json").json()
        self.assertEqual((again["images_as_before"], again["blobs"], again["bytes"]), (2, 0, 0))
        self.push("two", first, "team/app:v1")
        moved = self.mine("replicate", "images", "--json").json()
        self.assertEqual((moved["images_as_before"], moved["defects"]), (1, []))
        self.assertEqual(self.digest(self.at(second, "mirror/team/app:v1")), self.digest(self.at(first, "team/app:v1")))
        # The first registry is gone for good: the second one serves.
        first.stop()
        shutil.rmtree(first.folder)
        run("skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", self.at(second, "mirror/team/app:v1"),
            f"oci:{self.folder}/served:v1")
        self.mine("replicate", "images", status=1)

    def test_S14_what_could_not_be_saved_is_no_success(self):
        registry = self.registry("first")
        self.configure_images(registry)
        self.make("one", 300_000)
        self.make("two", 300_000)
        self.push("one", registry, "team/app:v1")
        self.push("two", registry, "team/api:v1")
        lost = json.loads(run("skopeo", "inspect", "--raw", f"oci:{self.layout}:two"))["layers"][0]["digest"]
        kept = registry.blob(lost).read_bytes()
        # Bytes that are others, and none at all: the image is named and the others are kept.
        for damage in (lambda: registry.blob(lost).write_bytes(kept[:-1] + bytes([kept[-1] ^ 1])), lambda: registry.blob(lost).unlink()):
            damage()
            partial = self.mine("backup", "images", "--json", status=3).json()["snapshot"]
            self.assertEqual([defect["path"] for defect in partial["defects"]], [f"blobs/sha256/{lost[7:]}"])
            failed = self.mine("drill", "images", "--json", status=4).json()["proof"]
            self.assertIn("team/api:v1", json.dumps(failed))
            self.assertEqual(self.digest(self.at(registry, "team/app:v1")), self.digest(f"oci:{self.layout}:one"))
        back = self.mine("restore", "images", "--to", self.at(registry, "back"), status=3)
        self.assertIn("team/api:v1", back.err)
        self.assertEqual(self.digest(self.at(registry, "back/team/app:v1")), self.digest(f"oci:{self.layout}:one"))
        registry.blob(lost).write_bytes(kept)
        self.mine("backup", "images")
        self.assertTrue(self.mine("drill", "images", "--json").json()["proof"]["passed"])
        # A registry that is not there, and an image that is not: no snapshot, and doctor says why.
        before = len(self.mine("snapshots", "images", "--json").json()["snapshots"])
        registry.stop()
        self.assertIn("error:", self.mine("backup", "images", status=1).err)
        self.assertIn("fix:", self.mine("doctor", "images", status=1).out)
        registry.start()
        self.configure_images(registry, images='"team/none:v1"')
        self.mine("backup", "images", status=1)
        self.assertIn("team/none", self.mine("doctor", "images", status=1).out)
        self.assertEqual(len(self.mine("snapshots", "images", "--json").json()["snapshots"]), before)

    def test_a_registry_with_credentials_and_a_certificate_of_its_own(self):
        password = "s3cret-" + os.urandom(6).hex()
        users = self.folder / "users"
        users.write_text("joe:" + crypt.crypt(password, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)) + "\n")
        key, certificate = self.folder / "tls.key", self.folder / "tls.pem"
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj",
            "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
        registry = self.registry("first", auth=f"auth: {{htpasswd: {{realm: r, path: {users}}}}}\n",
                                 tls=f", tls: {{certificate: {certificate}, key: {key}}}")
        (self.folder / "password").write_text(password + "\n")
        self.make("one", 100_000)
        self.push("one", registry, "team/app:v1", f"--dest-creds=joe:{password}")
        access = f'user: joe, password_file: "{self.folder}/password"'
        # Not trusted, not let in, and then both.
        self.configure_images(registry, more=access)
        self.assertIn("ca_file", self.mine("backup", "images", status=2).err)
        self.configure_images(registry, more=f'ca_file: "{certificate}"')
        self.mine("backup", "images", status=1)
        self.assertIn("user:", self.mine("doctor", "images", status=1).out)
        self.configure_images(registry, more=f'ca_file: "{certificate}", {access}')
        outcome = self.mine("backup", "images", "--verbose")
        self.assertNotIn(password, outcome.out + outcome.err)
        self.assertEqual(self.mine("doctor", "images").out, "nothing is wrong\n")
        self.mine("restore", "images", "--to", self.at(registry, "back"))
        catalog = run("curl", "-s", "--cacert", certificate, "-u", f"joe:{password}", f"{registry.url}/v2/_catalog")
        self.assertIn("back/team/app", catalog)
        for path in (self.folder / "state").rglob("*"):
            if path.is_file():
                self.assertNotIn(password.encode(), path.read_bytes(), path)

    def test_a_large_layer_passes_in_little_memory_while_the_registry_goes_away_and_comes_back(self):
        registry, second = self.registry("first"), self.registry("second")
        self.configure_images(registry)
        self.make("large", 160 << 20)
        self.push("large", registry, "team/large:v1")
        digest = self.digest(self.at(registry, "team/large:v1"))

        def away():
            time.sleep(0.6)
            registry.stop()
            time.sleep(1)
            registry.start()

        passer = threading.Thread(target=away)
        passer.start()
        measured = []
        for words in (("backup", "images"), ("drill", "images"), ("restore", "images", "--to", self.at(second, "back"))):
            with open(self.folder / "measured", "wb") as out:
                process = subprocess.Popen([str(self.programs / "kuramori"), "--config", str(self.config), *words], stdout=out, stderr=out,
                                           env=harness.environment(KURAMORI_STATE=str(self.folder / "state")), cwd="/")
                _, ended, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(ended)
            if words[0] == "backup":
                passer.join()
            self.assertEqual(process.returncode, 0, (self.folder / "measured").read_text())
            measured.append(usage.ru_maxrss << 10)
        self.assertEqual(self.digest(self.at(second, "back/team/large:v1")), digest)
        self.assertLess(max(measured), PEAK_BYTES_MAX, measured)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    harness.main()
