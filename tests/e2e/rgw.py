"""Real S3 stores for tests: clusters of Ceph's gateway (tools/test_ceph.sh), up in a second and gone with the test.

    tokyo = rgw.shared()                       # one cluster for the whole test program
    osaka = rgw.RgwCluster(tls=True)           # one of the test's own, to be broken: osaka.stop()
    owner = tokyo.user()                       # a fresh user, and a raw client with its keys
    bucket = owner.bucket(lock=True)           # a fresh bucket: plain, versioned or with Object Lock
    writer = tokyo.user(policy=[rgw.allow(["s3:PutObject"], bucket)])
    writer.s3.put(bucket, "key", b"bytes").expect(403)
    tokyo.freeze("osd"); tokyo.cont("osd")     # every request hangs; puts of timed-out clients land later
    tokyo.kill("rgw"); tokyo.restart()

From a shell, or another language:
    rgw.py user FOLDER NAME [POLICY]                        prints the two keys, kept in FOLDER/users/NAME
    rgw.py bucket FOLDER NAME plain|versioned|locked        a bucket of user `owner`
    rgw.py status FOLDER USER BUCKET                        what a listing of the bucket answers to the user
"""

import atexit
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.parse

import raw_s3

TOOL = pathlib.Path(__file__).resolve().parent.parent.parent / "tools" / "test_ceph.sh"
_clusters = []
_shared = {}
_lock = threading.Lock()
_number = iter(range(1, 1 << 30))


@atexit.register
def _clean_up():
    for cluster in list(_clusters):
        cluster.remove()


def _run(*words):
    done = subprocess.run([str(TOOL), *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"test_ceph.sh {' '.join(map(str, words))}: {done.stderr}")
    return done.stdout.strip()


def allow(actions, *resources, effect="Allow", **more):
    """One statement of a policy. A resource is a bucket, or bucket/key with wildcards; a bucket means itself and all in it."""
    names = []
    for resource in resources:
        names += [f"arn:aws:s3:::{resource}"] + ([f"arn:aws:s3:::{resource}/*"] if "/" not in resource else [])
    return {"Effect": effect, "Action": list(actions), "Resource": names, **more}


def deny(actions, *resources, **more):
    return allow(actions, *resources, effect="Deny", **more)


def policy_text(statements):
    return statements if isinstance(statements, str) else json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


class User:
    """Keys at one cluster, and a raw client that has them."""

    def __init__(self, cluster, name, access, secret):
        self.cluster, self.name, self.access, self.secret = cluster, name, access, secret
        self.s3 = raw_s3.Client(cluster.endpoint, access, secret, cluster.ca)

    def at(self, endpoint, ca=None):
        """The same keys at another endpoint: a proxy."""
        return raw_s3.Client(endpoint, self.access, self.secret, ca)

    def bucket(self, name=None, lock=False, versioned=False, default_days=None):
        name = name or f"b-{os.getpid()}-{next(_number)}"
        self.s3.create_bucket(name, lock=lock, versioned=versioned)
        if default_days:
            self.s3.set_default_retention(name, default_days)
        return name

    def set_policy(self, statements):
        self.cluster.set_user_policy(self.name, statements)

    def environment(self):
        """For the program under test, and for any S3 tool."""
        return {"AWS_ACCESS_KEY_ID": self.access, "AWS_SECRET_ACCESS_KEY": self.secret, "AWS_REGION": raw_s3.REGION,
                **({"AWS_CA_BUNDLE": str(self.cluster.ca)} if self.cluster.ca else {})}

    def profile(self, name="default"):
        """A section of a credentials file."""
        return f"[{name}]\naws_access_key_id = {self.access}\naws_secret_access_key = {self.secret}\n"


class RgwCluster:
    """Monitor, OSD and gateway on loopback, in a folder that goes with this process even when it is killed."""

    def __init__(self, folder=None, *, bluestore=False, tls=False, day=None, classes=(), port=None):
        if folder is None:
            parent = "/dev/shm" if not bluestore and os.access("/dev/shm", os.W_OK) else None
            folder = tempfile.mkdtemp(prefix="kuramori-rgw-", dir=parent)
        self.folder = pathlib.Path(folder).resolve()
        self.folder.chmod(0o755)
        words = ["start", self.folder, "--owner", os.getpid()]
        words += ["--bluestore"] if bluestore else []
        words += ["--tls"] if tls else []
        words += ["--day", day] if day else []
        words += ["--classes", ",".join(classes)] if classes else []
        words += ["--port", port] if port else []
        _clusters.append(self)
        self.endpoint = _run(*words)
        self._open()

    @classmethod
    def opened(cls, folder):
        """A cluster that somebody else started and will stop."""
        self = cls.__new__(cls)
        self.folder = pathlib.Path(folder).resolve()
        self.endpoint = (self.folder / "endpoint").read_text().strip()
        self._open()
        return self

    def _open(self):
        self.ca = self.folder / "ca.pem" if self.endpoint.startswith("https:") else None
        access, secret = (self.folder / "users" / "admin").read_text().split()
        self.admin = raw_s3.Client(self.endpoint, access, secret, self.ca)
        self._owner = None

    # Users.

    def user(self, name=None, policy=None, buckets=True):
        """A fresh user. `policy`: statements (allow, deny) or text; without one it may do everything with what is its
        own. `buckets=False`: it can make none (a policy alone does not keep it from that)."""
        name = name or f"u-{os.getpid()}-{next(_number)}"
        query = {"uid": name, "display-name": name, "key-type": "s3", "generate-key": "true", "max-buckets": "1000" if buckets else "-1"}
        key = json.loads(self._admin("PUT", "user", query).body)["keys"][0]
        user = User(self, name, key["access_key"], key["secret_key"])
        if policy is not None:
            self.set_user_policy(name, policy)
        return user

    def owner(self):
        """One user for tests that do not care which."""
        with _lock:
            if self._owner is None:
                self._owner = self.user()
            return self._owner

    def set_user_policy(self, name, statements):
        form = urllib.parse.urlencode({"Action": "PutUserPolicy", "UserName": name, "PolicyName": "role",
                                       "PolicyDocument": policy_text(statements), "Version": "2010-05-08"})
        self.admin.request("POST", body=form.encode(), headers={"Content-Type": "application/x-www-form-urlencoded"}, service="iam").expect(200)

    def _admin(self, method, what, query):
        return self.admin.request(method, "admin", what, query=query).expect(200)

    # Faults. PART is mon, osd or rgw.

    def freeze(self, part="osd"):
        """Requests hang. What a client gave up on is done later, on cont()."""
        _run("signal", self.folder, part, "STOP")

    def cont(self, part="osd"):
        _run("signal", self.folder, part, "CONT")

    def kill(self, part="rgw"):
        _run("signal", self.folder, part, "KILL")

    def restart(self, *parts):
        """Starts what does not run. In memory an OSD comes back empty; with bluestore it keeps what was confirmed."""
        _run("restart", self.folder, *parts)

    def stop(self):
        """The site burns: all of it at once."""
        _run("stop", self.folder)

    def remove(self):
        if self in _clusters:
            _clusters.remove(self)
        _run("stop", self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def port(self):
        return urllib.parse.urlsplit(self.endpoint).port

    def log(self, part="client.rgw"):
        return (self.folder / f"{part}.log").read_text(errors="replace")[-4000:]


def shared(**options):
    """The cluster this test program shares, one for each set of options; started when first asked for."""
    with _lock:
        key = json.dumps(options, sort_keys=True)
        if key not in _shared:
            _shared[key] = RgwCluster(**options)
        return _shared[key]


def _client(cluster, user):
    access, secret = (cluster.folder / "users" / user).read_text().split()
    return raw_s3.Client(cluster.endpoint, access, secret, cluster.ca)


def _main(words):
    if len(words) == 4 and words[0] == "bucket" and words[3] in ("plain", "versioned", "locked"):
        client = _client(RgwCluster.opened(words[1]), "owner")
        client.create_bucket(words[2], lock=words[3] == "locked", versioned=words[3] == "versioned")
    elif len(words) == 4 and words[0] == "status":
        try:
            print(_client(RgwCluster.opened(words[1]), words[2]).request("GET", words[3]).status)
        except OSError as problem:
            print(type(problem).__name__)
    elif len(words) in (3, 4) and words[0] == "user":
        cluster = RgwCluster.opened(words[1])
        user = cluster.user(words[2], policy=words[3] if len(words) == 4 else None)
        (cluster.folder / "users" / words[2]).write_text(f"{user.access} {user.secret}\n")
        print(user.access, user.secret)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    _main(sys.argv[1:])
