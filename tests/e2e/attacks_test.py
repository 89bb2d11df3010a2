"""Attack × stolen credential × store, each cell by exit code (details of the table: docs/keys.md):

    denied    the store itself refuses the request
    refused   the program refuses what the thief wanted with it
    named     one scrub by the owner ends with 4 and names the object
    survived  named, and what was attacked still comes back whole

A raw attacker has the stolen key bundle (thief.py) and, in a store, the stolen access key under the printed policy
(role_users.py, raw_s3.py). A folder enforces nothing: there only the keys stand between the thief and the data.
V15, V16, V17, V28; requirements O1–O3."""

import os
import pathlib
import shutil
import time

import harness
import role_users
import thief

WRITER, READER, KEEPER = "writer", "reader", "keeper"
DENIED, REFUSED, NAMED, SURVIVED = "denied", "refused", "named", "survived"
GARBAGE = b"garbage" * 100
FORMAT_VERSION_AT = 5  # in an object's head: docs/vault-format.md, "The envelope"
EPOCH = "0000000001/"
OF_LEDGER = ("sessions/", "commits/", "prune/", "gc/")

# attack: {store: {credential: verdict}}. A credential that is not named has the right to do it, or cannot be told from
# its rightful holder: a stolen writer's key may add snapshots, a stolen keeper's may prune what is not held.
OTHERS_NAMED = {WRITER: NAMED, READER: NAMED, KEEPER: NAMED}
ALL_DENIED = {WRITER: DENIED, READER: DENIED, KEEPER: DENIED}
KEEPER_ALONE = {WRITER: DENIED, READER: DENIED, KEEPER: NAMED}
KEEPER_SURVIVED = {WRITER: DENIED, READER: DENIED, KEEPER: SURVIVED}
TABLE = {
    "read": {"folder": {WRITER: REFUSED, KEEPER: REFUSED}, "rgw": {WRITER: DENIED, KEEPER: REFUSED}, "locked": {WRITER: DENIED, KEEPER: REFUSED}},
    "read_by_copying": {"rgw": {WRITER: DENIED}, "locked": {WRITER: DENIED}},
    "overwrite_anothers_pack": {"folder": OTHERS_NAMED, "rgw": KEEPER_ALONE, "locked": KEEPER_SURVIVED},
    "overwrite_a_pack_of_the_writer": {"folder": OTHERS_NAMED, "rgw": {WRITER: NAMED, READER: DENIED, KEEPER: NAMED},
                                       "locked": {WRITER: SURVIVED, READER: DENIED, KEEPER: SURVIVED}},
    "truncate_a_pack_to_nothing": {"folder": OTHERS_NAMED, "rgw": {WRITER: NAMED, READER: DENIED, KEEPER: NAMED},
                                   "locked": {WRITER: SURVIVED, READER: DENIED, KEEPER: SURVIVED}},
    "swap_two_packs": {"folder": OTHERS_NAMED, "rgw": {WRITER: NAMED, READER: DENIED, KEEPER: NAMED},
                       "locked": {WRITER: SURVIVED, READER: DENIED, KEEPER: SURVIVED}},
    "change_bytes_inside_a_pack": {"folder": OTHERS_NAMED, "rgw": {WRITER: NAMED, READER: DENIED, KEEPER: NAMED},
                                   "locked": {WRITER: SURVIVED, READER: DENIED, KEEPER: SURVIVED}},
    "overwrite_a_page_map": {"folder": OTHERS_NAMED, "rgw": {WRITER: NAMED, READER: DENIED, KEEPER: NAMED},
                             "locked": {WRITER: SURVIVED, READER: DENIED, KEEPER: SURVIVED}},
    "overwrite_a_grant": {"folder": OTHERS_NAMED, "rgw": KEEPER_ALONE, "locked": KEEPER_SURVIVED},
    "overwrite_a_mirrored_commit": {"locked": {WRITER: SURVIVED, READER: DENIED, KEEPER: SURVIVED}},
    "claim_a_later_format_for_a_grant": {"folder": OTHERS_NAMED, "rgw": KEEPER_ALONE, "locked": KEEPER_SURVIVED},
    "claim_a_later_format_for_a_pack": {"folder": OTHERS_NAMED, "rgw": {WRITER: NAMED, READER: DENIED, KEEPER: NAMED},
                                        "locked": {WRITER: SURVIVED, READER: DENIED, KEEPER: SURVIVED}},
    "claim_a_later_format_for_a_mirrored_commit": {"locked": {WRITER: SURVIVED, READER: DENIED, KEEPER: SURVIVED}},
    "claim_a_later_format_for_wal": {"folder": OTHERS_NAMED, "rgw": {WRITER: NAMED, READER: DENIED, KEEPER: NAMED},
                                     "locked": {WRITER: SURVIVED, READER: DENIED, KEEPER: SURVIVED}},
    "overwrite_what_the_vault_is": {"folder": OTHERS_NAMED, "rgw": ALL_DENIED, "locked": ALL_DENIED},
    "overwrite_wal": {"folder": OTHERS_NAMED, "rgw": {WRITER: NAMED, READER: DENIED, KEEPER: NAMED},
                      "locked": {WRITER: SURVIVED, READER: DENIED, KEEPER: SURVIVED}},
    "delete_a_pack": {"folder": OTHERS_NAMED, "rgw": KEEPER_ALONE, "locked": KEEPER_SURVIVED},
    "delete_the_newest_commit": {"folder": OTHERS_NAMED, "rgw": ALL_DENIED, "locked": ALL_DENIED},
    "delete_a_version": {"locked": ALL_DENIED},
    "shorten_a_lock": {"locked": ALL_DENIED},
    "take_off_the_lock_of_the_bucket": {"locked": ALL_DENIED},
    "delete_the_bucket_policy_or_give_rights": {"rgw": ALL_DENIED, "locked": ALL_DENIED},
    "put_over_anothers_ledger_key": {"folder": OTHERS_NAMED, "rgw": KEEPER_ALONE, "locked": KEEPER_ALONE},
    "replace_the_newest_commit_by_another_valid_one": {"folder": {WRITER: NAMED}, "rgw": {WRITER: NAMED}, "locked": {WRITER: NAMED}},
    "forge_a_snapshot_at_anothers_key": {"folder": OTHERS_NAMED, "rgw": KEEPER_ALONE, "locked": KEEPER_ALONE},
    "forge_a_snapshot_with_a_role_that_may_not": {"folder": {READER: NAMED, KEEPER: NAMED}, "rgw": {READER: DENIED, KEEPER: NAMED},
                                                  "locked": {READER: DENIED, KEEPER: NAMED}},
    "forge_a_snapshot_without_a_signature": {"folder": OTHERS_NAMED, "rgw": {WRITER: NAMED, READER: DENIED, KEEPER: NAMED},
                                             "locked": {WRITER: NAMED, READER: DENIED, KEEPER: NAMED}},
    "forge_a_snapshot_as_the_owner": {"folder": OTHERS_NAMED, "rgw": KEEPER_ALONE, "locked": KEEPER_ALONE},
    "replay_an_old_commit_as_a_new_one": {"folder": OTHERS_NAMED, "rgw": {WRITER: NAMED, READER: DENIED, KEEPER: NAMED},
                                          "locked": {WRITER: NAMED, READER: DENIED, KEEPER: NAMED}},
    "occupy_anothers_commit_key": {"folder": OTHERS_NAMED, "rgw": KEEPER_ALONE, "locked": KEEPER_ALONE},
    "put_a_garbage_commit": {"folder": OTHERS_NAMED, "rgw": {WRITER: NAMED, READER: DENIED, KEEPER: NAMED},
                             "locked": {WRITER: NAMED, READER: DENIED, KEEPER: NAMED}},
    "forge_a_sweep": {"folder": {WRITER: NAMED, READER: NAMED}, "rgw": {WRITER: DENIED, READER: DENIED}, "locked": {WRITER: DENIED, READER: DENIED}},
    "forge_a_prune": {"folder": {WRITER: NAMED, READER: NAMED}, "rgw": {WRITER: DENIED, READER: DENIED}, "locked": {WRITER: DENIED, READER: DENIED}},
    "forge_a_catalog": {"folder": OTHERS_NAMED, "rgw": KEEPER_ALONE, "locked": KEEPER_ALONE},
    "forge_a_proof": {"folder": {WRITER: NAMED, KEEPER: NAMED}, "rgw": {WRITER: DENIED, KEEPER: NAMED}, "locked": {WRITER: DENIED, KEEPER: NAMED}},
    "grant_itself_a_role": {"folder": OTHERS_NAMED, "rgw": KEEPER_ALONE, "locked": KEEPER_ALONE},
    "take_a_revocation_away": {"folder": OTHERS_NAMED, "rgw": ALL_DENIED, "locked": ALL_DENIED},
    "take_an_audit_record_away": {"folder": OTHERS_NAMED, "rgw": ALL_DENIED, "locked": ALL_DENIED},
}
# Of what a store lets through: in every run, on every store. ./dev test --all tries the rest.
SHORT = {"change_bytes_inside_a_pack", "overwrite_wal", "overwrite_a_grant", "overwrite_a_mirrored_commit", "delete_a_pack",
         "put_over_anothers_ledger_key", "replace_the_newest_commit_by_another_valid_one", "forge_a_snapshot_without_a_signature",
         "claim_a_later_format_for_a_grant", "claim_a_later_format_for_a_pack", "claim_a_later_format_for_a_mirrored_commit", "claim_a_later_format_for_wal"}


class Denied(Exception):
    """The store said no."""


class FolderTarget:
    """A copy of the vault in a folder, open to whoever can write there."""

    def __init__(self, case, number):
        self.case, self.root = case, case.folder / f"copy{number}"
        shutil.copytree(case.vault, self.root, symlinks=True)
        for path in [self.root, *self.root.rglob("*")]:
            path.chmod(0o777 if path.is_dir() else 0o666)

    def names(self, prefix=""):
        return sorted(name for name in (path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())
                      if name.startswith(prefix) and not name.startswith("."))

    def read(self, name):
        return (self.root / name).read_bytes()

    def bound_name(self, name):
        return name

    def get(self, _who, name):
        return self.read(name)

    def put(self, _who, name, data):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o666)
        for folder in path.parents:
            if folder == self.root:
                break
            folder.chmod(0o777)

    def delete(self, _who, name):
        (self.root / name).unlink()

    def owner(self, *words, status=None):
        return self.case.kuramori(*words, "--vault", self.root, "--key-file", self.case.key, config=False, status=status, env=self.case.state)

    def as_role(self, who, *words, status=None):
        return self.case.kuramori(*words, "--vault", self.root, "--key-file", self.case.keys[who], config=False, status=status)


class BucketTarget:
    """The same under a prefix of its own in the bucket (and ledger), with the roles' policies for that prefix."""

    def __init__(self, case, number):
        self.case, self.place, self.prefix = case, case.place, f"copy{number}"
        self.s3 = self.place.s3
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86400))
        lock = {"x-amz-object-lock-mode": "COMPLIANCE", "x-amz-object-lock-retain-until-date": until} if self.place.ledger else {}
        for bucket, key, body in case.contents:
            self.s3.put(bucket, self.moved(key), body, headers=lock if bucket == self.place.bucket else None).expect(200)
        self.configs = {}
        for who, config in [("owner", case.config), *case.roles.configs.items()]:
            text = config.read_text().replace(f"s3://{self.place.bucket}/vault", f"s3://{self.place.bucket}/{self.prefix}")
            if self.place.ledger:
                text = text.replace(f"s3://{self.place.ledger}/ledger", f"s3://{self.place.ledger}/{self.prefix}")
            self.configs[who] = case.folder / f"{self.prefix}-{who}.yaml"
            self.configs[who].write_text(text)
        for who, user in case.roles.users.items():
            policy = case.kuramori("--config", self.configs["owner"], "vault", "policy", "here", "--role", who, "--key", who,
                                   "--form", "ceph", config=False).out
            user.set_policy(policy)

    def moved(self, key):
        return self.prefix + key[key.index("/"):]

    def bound_name(self, name):
        return EPOCH + name if self.place.ledger and name.startswith(OF_LEDGER) else name

    def where(self, name):
        bucket = self.place.ledger if self.place.ledger and name.startswith(OF_LEDGER) else self.place.bucket
        return bucket, f"{self.prefix}/{self.bound_name(name)}"

    def names(self, prefix=""):
        bucket, key = self.where(prefix)
        strip = key[:len(key) - len(prefix)]
        return sorted(name.removeprefix(strip) for name, _ in self.s3.list(bucket, key))

    def read(self, name):
        return self.s3.get(*self.where(name)).expect(200).body

    def allowed(self, answer):
        if answer.status in (401, 403):
            raise Denied(str(answer))
        return answer.expect()

    def get(self, who, name):
        return self.allowed(self.case.roles.raw(who).get(*self.where(name))).body

    def put(self, who, name, data):
        self.allowed(self.case.roles.raw(who).put(*self.where(name), data))

    def delete(self, who, name):
        self.allowed(self.case.roles.raw(who).delete(*self.where(name)))

    def owner(self, *words, status=None):
        return self.case.kuramori("--config", self.configs["owner"], *words, config=False, status=status, env=self.case.state)

    def as_role(self, who, *words, status=None):
        return self.case.kuramori("--config", self.configs[who], *words, config=False, status=status)


class Attacks:
    """What the thief does. Each returns the names that a scrub must mention."""

    def __init__(self, case, target, who):
        self.case, self.target, self.who = case, target, who
        self.thief = thief.Thief(case.keys[who])

    def put(self, name, data):
        self.target.put(self.who, name, data)
        return name

    def raw(self):
        return self.case.roles.raw(self.who)

    # Reading.

    def read(self):
        data = self.target.get(self.who, self.case.pack_of_other)
        self.case.assertFalse(self.thief.opens_packs(data))
        self.target.as_role(self.who, "restore", "db", "--to", self.case.folder / "never", status=5)
        self.case.assertFalse((self.case.folder / "never").exists())
        raise Refused

    def read_by_copying(self):
        bucket, key = self.target.where(self.case.pack_of_other)
        own = self.target.where(f"packs/00/{self.thief.prefix}{'0' * 24}-0")
        self.target.allowed(self.raw().copy(*own, bucket, key))

    # Destroying.

    def overwrite_anothers_pack(self):
        return [self.put(self.case.pack_of_other, GARBAGE)]

    def overwrite_a_pack_of_the_writer(self):
        return [self.put(self.case.packs_of_writer[0], GARBAGE)]

    def truncate_a_pack_to_nothing(self):
        return [self.put(self.case.packs_of_writer[0], b"")]

    def swap_two_packs(self):
        one, two = self.case.packs_of_writer[:2]
        first, second = self.target.read(one), self.target.read(two)
        return [self.put(one, second), self.put(two, first)]

    def change_bytes_inside_a_pack(self):
        """Its head and trailers stay, so that it looks like the one that is bound until a frame is opened."""
        name = self.case.packs_of_writer[0]
        data = bytearray(self.target.read(name))
        for at in range(len(data) // 4, len(data) // 2, 997):
            data[at] ^= 1
        return [self.put(name, bytes(data))]

    def overwrite_a_grant(self):
        """Both copies of what makes the writer's snapshots count."""
        return [self.put(name, GARBAGE) for name in self.target.names(f"signers/{self.case.thief_of('writer').id.hex()}/")]

    def overwrite_a_mirrored_commit(self, data=GARBAGE):
        bucket, key = self.target.where("")
        name = EPOCH + self.case.newest_commit
        self.target.allowed(self.raw().put(bucket, key + name, data))
        return [self.case.newest_commit]

    def of_a_later_format(self, name):
        """What stands there, but for the one byte that says which format it has: nothing before it is authenticated."""
        data = bytearray(self.target.read(name))
        data[FORMAT_VERSION_AT] += 1
        return bytes(data)

    def claim_a_later_format_for_a_grant(self):
        names = self.target.names(f"signers/{self.case.thief_of('writer').id.hex()}/")
        return [self.put(name, self.of_a_later_format(name)) for name in names]

    def claim_a_later_format_for_a_pack(self):
        name = self.case.packs_of_writer[0]
        return [self.put(name, self.of_a_later_format(name))]

    def claim_a_later_format_for_a_mirrored_commit(self):
        return self.overwrite_a_mirrored_commit(self.of_a_later_format(self.case.newest_commit))

    def claim_a_later_format_for_wal(self):
        name = self.target.names("wal/")[-1]
        return [self.put(name, self.of_a_later_format(name))]

    def overwrite_a_page_map(self):
        name = [name for name in self.target.names("maps/") if f"/{self.case.writer_prefix}" in name][0]
        return [self.put(name, GARBAGE)]

    def overwrite_what_the_vault_is(self):
        return [self.put("vault", GARBAGE)]

    def overwrite_wal(self):
        return [self.put(self.target.names("wal/")[-1], GARBAGE)]

    def delete_a_pack(self):
        self.target.delete(self.who, self.case.packs_of_writer[0])
        return [self.case.packs_of_writer[0]]

    def delete_the_newest_commit(self):
        self.target.delete(self.who, self.case.newest_commit)
        return [self.case.newest_commit]

    def delete_a_version(self):
        bucket, key = self.target.where(self.case.packs_of_writer[0])
        version = self.target.s3.versions(bucket, key)[0][1]
        self.target.allowed(self.raw().delete(bucket, key, version=version, bypass=True))

    def shorten_a_lock(self):
        bucket, key = self.target.where(self.case.packs_of_writer[0])
        soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))
        for mode in ("COMPLIANCE", "GOVERNANCE"):
            self.target.allowed(self.raw().set_retention(bucket, key, soon, mode=mode, bypass=True))

    def take_off_the_lock_of_the_bucket(self):
        answer = self.raw().request("PUT", self.target.place.bucket, query={"versioning": ""}, body=(
            b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Suspended</Status></VersioningConfiguration>'))
        self.target.allowed(answer)

    def delete_the_bucket_policy_or_give_rights(self):
        everybody = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}]}'
        for answer in (self.raw().request("PUT", self.target.place.bucket, query={"policy": ""}, body=everybody.encode()),
                       self.raw().request("DELETE", self.target.place.bucket, query={"policy": ""})):
            if answer.status not in (401, 403):
                self.target.allowed(answer)
        raise Denied

    def put_over_anothers_ledger_key(self):
        return [self.put(self.case.commit_of_other, GARBAGE)]

    def take_a_revocation_away(self):
        revoked = [name for name in self.target.names("signers/") if "revoked" in name]
        self.case.assertTrue(revoked)
        for name in revoked:
            self.target.delete(self.who, name)
        return revoked

    def take_an_audit_record_away(self):
        first = self.target.names("audit/")[0]
        self.target.delete(self.who, first)
        return [first]

    # Forging.

    def commit_body(self, snapshot, session, source=None, **changes):
        """A commit that says what a real one says, of another snapshot."""
        source = source or self.case.newest_commit
        _, body = self.thief.open(self.target.bound_name(source), self.target.read(source))
        fields = reader_fields(body)
        fields[1], fields[2] = [snapshot], [session]
        fields.update({number: value for number, value in changes.items()})
        return thief.message(fields)

    def commit_name(self, snapshot, session):
        return f"commits/{self.case.resource.hex()}/{snapshot.hex()}.{session.hex()}"

    def forge(self, session, **options):
        snapshot = os.urandom(8)
        name = self.commit_name(snapshot, session)
        body = self.commit_body(snapshot, session)
        return [self.put(name, self.thief.record(thief.COMMIT, self.target.bound_name(name), body, self.case.resource, **options))]

    def replace_the_newest_commit_by_another_valid_one(self):
        name = self.case.newest_commit_of_writer
        session, snapshot = bytes.fromhex(name[-32:]), bytes.fromhex(name[-49:-33])
        body = self.commit_body(snapshot, session, name)
        return [self.put(name, self.thief.record(thief.COMMIT, self.target.bound_name(name), body, self.case.resource))]

    def forge_a_snapshot_at_anothers_key(self):
        return self.forge(self.case.thief_of("other").session())

    def forge_a_snapshot_with_a_role_that_may_not(self):
        return self.forge(self.thief.session())

    def forge_a_snapshot_without_a_signature(self):
        return self.forge(self.thief.session(), signed=False)

    def forge_a_snapshot_as_the_owner(self):
        owner = thief.reader.sha256(self.thief.owner)[:16]
        return self.forge(owner[:4] + os.urandom(12), signer=owner)

    def replay_an_old_commit_as_a_new_one(self):
        name = self.commit_name(os.urandom(8), self.thief.session())
        return [self.put(name, self.target.read(self.case.commit_of_other))]

    def occupy_anothers_commit_key(self):
        name = self.commit_name(os.urandom(8), self.case.thief_of("other").session())
        return [self.put(name, GARBAGE)]

    def put_a_garbage_commit(self):
        return [self.put(self.commit_name(os.urandom(8), self.thief.session()), GARBAGE)]

    def forge_a_sweep(self):
        content = [name for prefix in ("live/", "maps/", "packs/") for name in self.target.names(prefix)]
        number = len([name for name in self.target.names("gc/") if name.endswith("/sweep")]) + 1
        body = thief.message({1: number, 2: [name.encode() for name in sorted(content)]})
        named = []
        for kind, leaf in ((thief.PLAN, "plan"), (thief.SWEEP, "sweep")):
            name = f"gc/{number:010}/{leaf}"
            named.append(self.put(name, self.thief.record(kind, self.target.bound_name(name), body)))
        self.deletes_nothing("vault", "collect", "here")
        return named

    def forge_a_prune(self):
        number = len([name for name in self.target.names("prune/") if name.endswith("/final")]) + 1
        body = thief.message({1: number, 2: [name.encode() for name in self.target.names("commits/")]})
        named = []
        for kind, leaf in ((thief.PRUNE_INTENT, "intent"), (thief.PRUNE_FINAL, "final")):
            name = f"prune/{number:010}/{leaf}"
            named.append(self.put(name, self.thief.record(kind, self.target.bound_name(name), body)))
        self.deletes_nothing("vault", "collect", "here")
        return named

    def forge_a_catalog(self):
        """Well made, the newest of all, and in it a fence where the newest commit stands."""
        name, commit = f"catalog/0000000777.{os.urandom(8).hex()}", self.target.bound_name(self.case.newest_commit)
        fence = self.thief.record(thief.FENCE, commit, thief.message({1: b"gone", 2: 2}), self.case.resource)
        body = thief.message({1: 777, 2: 2, 3: thief.message({1: commit.encode(), 2: fence})})
        self.put(name, self.thief.record(thief.CATALOG, name, body))
        listed = self.target.owner("snapshots")
        self.case.assertIn(self.case.newest_commit[-49:-33], listed.out)
        return [name]

    def deletes_nothing(self, *words):
        before = self.target.names("packs/")
        outcome = self.target.owner(*(word if word != "here" else self.case.name_of(self.target) for word in words))
        self.case.assertNotEqual(outcome.status, 0, outcome)
        self.case.assertEqual(self.target.names("packs/"), before)

    def forge_a_proof(self):
        snapshot = bytes.fromhex(self.case.newest_commit[-49:-33])
        name = f"proofs/{snapshot.hex()}/{time.time_ns():016x}-00000000"
        body = thief.message({1: snapshot, 2: self.case.resource, 5: 1, 7: 2 * time.time_ns()})
        return [self.put(name, self.thief.record(thief.PROOF, name, body))]

    def grant_itself_a_role(self):
        made = thief.nacl.signing.SigningKey.generate()
        public = bytes(made.verify_key)
        signer = thief.reader.sha256(public)[:16].hex()
        names = [f"signers/{signer}/grant", f"signers/{signer}/grant.2"]
        return [self.put(name, self.thief.record(thief.GRANT, name, thief.message({1: public, 2: 4, 3: b"me"}))) for name in names]


class Refused(Exception):
    """The program said no to the thief itself."""


def reader_fields(body):
    return {number: list(values) for number, values in thief.reader.Message(body).fields.items()}


class OnFolder(harness.Case):
    place_kind = "folder"
    in_memory = True

    def setUp(self):
        super().setUp()
        self.cluster = self.server(initdb=["--wal-segsize=1"])
        self.cluster.sql("create table entry as select i id, md5(i::text) t from generate_series(1, 2000) i")
        self.state = {"KURAMORI_STATE": str(self.folder / "state")}
        (self.folder / "state").mkdir(mode=0o700)
        harness.give_to_server(self.folder / "state")
        self.numbers = iter(range(1, 1000))
        self.make_keys()
        # Two snapshots of the writer, one of another in between, WAL, a collection, a key that was revoked.
        self.run_as("writer", "backup", "db")
        self.run_as("other", "backup", "db")
        self.cluster.sql("update entry set t = 'changed' where id % 3 = 0", "checkpoint")
        self.cluster.switch_wal()
        self.run_as("writer", "backup", "db")
        self.cluster.switch_wal()
        self.kuramori("vault", "key", "revoke", "here", "gone")
        self.snapshot_ids = [snapshot["id"] for snapshot in self.kuramori("snapshots", "db", "--json", env=self.state).json()["snapshots"]]
        self.look_around()
        self.kuramori("vault", "scrub", "here", env=self.state)

    def make_keys(self):
        self.keys = {"owner": self.key}
        for name, role in (("writer", WRITER), ("other", WRITER), ("reader", READER), ("keeper", KEEPER), ("gone", WRITER)):
            self.keys[name] = self.folder / f"{name}.key"
            self.kuramori("vault", "key", "new", "here", "--role", role, "--name", name, "--to", self.keys[name])

    def run_as(self, who, *words):
        return self.kuramori("--key-file", self.keys[who], *words)

    def thief_of(self, who):
        return thief.Thief(self.keys[who])

    def look_around(self):
        target = self.new_target()
        self.writer_prefix = self.thief_of("writer").prefix
        self.packs_of_writer = [name for name in target.names("packs/") if f"/{self.writer_prefix}" in name]
        self.pack_of_other = [name for name in target.names("packs/") if f"/{self.thief_of('other').prefix}" in name][0]
        commits = {name: name[-49:-33] for name in target.names("commits/")}
        by_snapshot = {snapshot: name for name, snapshot in commits.items()}
        self.commit_of_other, self.newest_commit = by_snapshot[self.snapshot_ids[1]], by_snapshot[self.snapshot_ids[2]]
        self.newest_commit_of_writer = self.newest_commit
        self.resource = bytes.fromhex(self.newest_commit.split("/")[1])
        self.assertGreater(len(self.packs_of_writer), 1)
        self.untouched = target

    def new_target(self):
        return FolderTarget(self, next(self.numbers))

    def name_of(self, target):
        return target.root

    def scrub(self, target):
        # The owner's machine has seen this vault before: it remembers the newest commits.
        return target.owner("vault", "scrub", self.name_of(target))

    def verdict(self, attack, who, target):
        try:
            names = getattr(Attacks(self, target, who), attack)()
        except Denied:
            return DENIED
        except Refused:
            return REFUSED
        outcome = self.scrub(target)
        said = outcome.out + outcome.err
        missing = [name for name in names or [] if name not in said]
        if outcome.status != 4 or missing:
            return f"NOT NAMED: {missing}\n{outcome}"
        return NAMED

    def survives(self, target):
        """All that was there before the attack comes back, WAL included."""
        for words in ([f"db@{self.snapshot_ids[0]}"], ["db", "--latest"]):
            path = self.folder / f"survived{next(self.numbers)}"
            outcome = target.owner("restore", *words, "--to", path)
            shutil.rmtree(path, ignore_errors=True)
            if outcome.status != 0:
                return f"NOT SURVIVED: {outcome}"
        return SURVIVED

    def test_every_attack_with_every_stolen_credential(self):
        store, wrong, cells = self.place_kind, [], 0
        for attack, stores in TABLE.items():
            done = False
            for who, expected in stores.get(store, {}).items():
                # What a store lets through costs a copy of the vault there. Behind the store only signatures and digests
                # count, which the folder's run tries in full: some attacks with one credential each are enough here.
                if store != "folder" and expected in (NAMED, SURVIVED) and not harness.ALL:
                    if done or attack not in SHORT:
                        continue
                    done = True
                # What is denied changes nothing, and so needs no copy of its own.
                target = self.untouched if expected in (DENIED, REFUSED) else self.new_target()
                got = self.verdict(attack, who, target)
                if got == NAMED and expected == SURVIVED:
                    got = self.survives(target)
                cells += 1
                if got != expected:
                    wrong.append(f"{attack} with {who}'s: expected {expected}, got {got}")
                    if target is self.untouched:
                        self.untouched = self.new_target()
        self.assertEqual(wrong, [], "\n".join(wrong))
        self.assertGreater(cells, 40)
        outcome = self.scrub(self.untouched)
        self.assertEqual(outcome.status, 0, outcome)


class OnRgw(OnFolder):
    """One plain bucket: the store's policy stands before the keys."""

    place_kind = "rgw"

    def make_keys(self):
        # At Ceph an object belongs to whoever put it: its bucket's owner reads it all the same (docs/keys.md).
        for bucket in filter(None, (self.place.bucket, self.place.ledger)):
            self.place.s3.set_bucket_policy(bucket, role_users.owners_bucket_policy(self.place.user.name, bucket))
        self.roles = role_users.RoleUsers(self)
        for name, role in (("writer", WRITER), ("other", WRITER), ("reader", READER), ("keeper", KEEPER), ("gone", WRITER)):
            self.roles.make(role, name)
        self.keys = {"owner": self.key, **self.roles.keys}

    def run_as(self, who, *words):
        return self.roles.run(who, *words)

    def new_target(self):
        if not hasattr(self, "contents"):
            self.contents = [(bucket, key, self.place.s3.get(bucket, key).expect(200).body)
                             for bucket in filter(None, (self.place.bucket, self.place.ledger))
                             for key, _ in self.place.s3.list(bucket, "")]
            for who in ("other", "gone"):
                self.roles.users.pop(who), self.roles.configs.pop(who)
        return BucketTarget(self, next(self.numbers))

    def name_of(self, _target):
        return "here"


class OnRgwLocked(OnRgw):
    """Objects under Object Lock, and a ledger in a bucket of its own."""

    place_kind = "locked"


if __name__ == "__main__":
    harness.main()
