"""Where the vault of an end-to-end test stands. A Case asks for one by name; KURAMORI_TEST_PLACE names another:

    folder    a folder
    rgw       a bucket of a real S3 store (Ceph's gateway, TLS)
    locked    a bucket with Object Lock that keeps everything for a day, and a ledger in a plain bucket beside it
    line      a bucket behind a line of 50 ms, in a shop that answers 503 to one request in five
"""

import os
import pathlib

KINDS = ("folder", "rgw", "locked", "line")
LOCK = "1d"
LINE_DELAY_MS, LINE_BUSY = 50, 0.2


def make(kind, case):
    return Folder(case) if kind == "folder" else Bucket(case, kind)


class Folder:
    kind = "folder"

    def __init__(self, case):
        self.case = case

    @property
    def root(self):
        return self.case.vault  # some tests move it

    def yaml(self):
        """What a vault's entry in kuramori.yaml says of its place."""
        return f'at: "file://{self.root}"'

    def objects(self, prefix=""):
        """[(name, bytes)] of all that stands there, sorted."""
        found = []
        for path in pathlib.Path(self.root).rglob("*"):
            name = path.relative_to(self.root).as_posix()
            if path.is_file() and name.startswith(prefix) and not path.name.startswith("."):
                found.append((name, path.stat().st_size))
        return sorted(found)

    def get(self, name):
        return (pathlib.Path(self.root) / name).read_bytes()


class Bucket:
    """A user, buckets and key files of this test alone, in the cluster that the test program shares."""

    def __init__(self, case, kind, cluster=None):
        import rgw
        import slow_proxy
        self.kind = kind
        self.cluster = cluster or rgw.shared(tls=True)
        self.user = self.cluster.user()
        self.s3 = self.user.s3
        self.bucket = self.user.bucket(lock=kind == "locked")
        self.ledger = self.user.bucket() if kind == "locked" else None
        self.endpoint = self.cluster.endpoint
        if kind == "line":
            self.proxy = slow_proxy.shared(self.cluster, delay_ms=LINE_DELAY_MS, busy=LINE_BUSY)
            self.endpoint = self.proxy.endpoint
        self.keys = {}
        for name, text in (("access", self.user.access), ("secret", self.user.secret)):
            self.keys[name] = case.folder / f"{self.bucket}.{name}"
            self.keys[name].write_text(text + "\n")
            self.keys[name].chmod(0o600)
            case.give(self.keys[name])
        self.ca = None
        if self.cluster.ca:
            self.ca = case.folder / f"{self.bucket}.ca.pem"
            self.ca.write_bytes(pathlib.Path(self.cluster.ca).read_bytes())
            self.ca.chmod(0o644)

    @property
    def location(self):
        return f"s3://{self.bucket}/vault"

    def yaml(self):
        words = [f'at: "{self.location}"', f'endpoint: "{self.endpoint}"', "region: us-east-1",
                 f'credentials: {{ access_key_file: "{self.keys["access"]}", secret_key_file: "{self.keys["secret"]}" }}']
        if self.ca:
            words.append(f'ca_file: "{self.ca}"')
        if self.kind == "locked":
            words += [f"lock: {LOCK}", f'ledger: "s3://{self.ledger}/ledger"']
        return ", ".join(words)

    def objects(self, prefix=""):
        return [(name.removeprefix("vault/"), size) for name, size in self.s3.list(self.bucket, "vault/" + prefix)]

    def get(self, name):
        return self.s3.get(self.bucket, "vault/" + name).expect(200).body


def chosen(default):
    kind = os.environ.get("KURAMORI_TEST_PLACE") or default
    if kind not in KINDS:
        raise SystemExit(f"KURAMORI_TEST_PLACE={kind}: one of {', '.join(KINDS)}")
    return kind
