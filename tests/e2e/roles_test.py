"""Who may do what (O2, V16): every verb with every role's key, by exit code, on a folder; keys made, wrapped anew, handed over and revoked.

A folder enforces nothing. What is refused here is refused by the keys and by the program; what a store refuses besides is
attacks_test.py's."""

import pathlib
import shutil
import subprocess
import unittest

import harness

ROLES = ("owner", "writer", "reader", "keeper")
DONE, REFUSED = 0, 5


class WithRoles(harness.Case):
    """A server that is backed up by its owner, and a key of every role."""

    in_memory = True

    def setUp(self):
        super().setUp()
        self.cluster = self.server(initdb=["--wal-segsize=1"])
        self.cluster.sql("create table entry as select i id, md5(i::text) t from generate_series(1, 2000) i")
        self.keys = {"owner": self.key}
        for role in ROLES[1:]:
            self.make_key(role)

    def make_key(self, role, name=None, *more, status=0):
        name = name or role
        path = self.folder / f"{name}.key"
        outcome = self.kuramori("vault", "key", "new", "here", "--role", role, "--name", name, "--to", path, *more, status=status)
        self.keys[name] = path
        return outcome

    def run_as(self, who, *words, status=0, **options):
        return self.kuramori("--key-file", self.keys[who], *words, status=status, **options)

    def backup_as(self, who, *more, status=0):
        return self.run_as(who, "backup", "db", *more, "--json", status=status).json()["snapshot"]

    def three_lines(self, outcome):
        lines = [line.split(":")[0] for line in outcome.err.splitlines()]
        self.assertEqual([word for word in lines if word in ("error", "why", "next")], ["error", "why", "next"], outcome)


class Verbs(WithRoles):
    def test_every_verb_with_every_role(self):
        self.kuramori("backup", "db")
        self.cluster.switch_wal()
        snapshot = self.snapshots()[0]["id"]
        segment = self.archived()[0]
        fresh = iter(range(1000))

        def target():
            return self.folder / f"to{next(fresh)}"

        def new_wal():  # a file that the archive does not hold yet
            path = self.cluster.data / "pg_wal" / f"{next(fresh) + 2:08X}.history"
            path.write_text("1\t0/1000000\tno recovery target specified\n")
            harness.give_to_server(path)
            return path.relative_to(self.cluster.data)

        # verb: (words, exit code of owner, writer, reader, keeper)
        table = {
            "backup": (lambda: ["backup", "db"], (DONE, DONE, REFUSED, REFUSED)),
            "backup --full": (lambda: ["backup", "db", "--full"], (DONE, DONE, REFUSED, REFUSED)),
            "wal push": (lambda: ["wal", "push", "--resource", "db", new_wal()], (DONE, DONE, REFUSED, REFUSED)),
            "snapshots": (lambda: ["snapshots", "db"], (DONE, DONE, DONE, DONE)),
            "show": (lambda: ["show", snapshot], (DONE, DONE, DONE, DONE)),
            "wal show": (lambda: ["wal", "show", "db"], (DONE, DONE, DONE, DONE)),
            "vault show": (lambda: ["vault", "show", "here"], (DONE, DONE, DONE, DONE)),
            "vault key list": (lambda: ["vault", "key", "list", "here"], (DONE, DONE, DONE, DONE)),
            "window": (lambda: ["window", "db"], (DONE, REFUSED, DONE, REFUSED)),
            "restore": (lambda: ["restore", "db", "--latest", "--to", target()], (DONE, REFUSED, DONE, REFUSED)),
            "restore one": (lambda: ["restore", f"db@{snapshot}", "--to", target()], (DONE, REFUSED, DONE, REFUSED)),
            "wal get": (lambda: ["wal", "get", "--resource", "db", segment, target()], (DONE, 200, DONE, 200)),
            "drill": (lambda: ["drill", "db"], (DONE, REFUSED, DONE, REFUSED)),
            "scrub": (lambda: ["vault", "scrub", "here"], (DONE, REFUSED, DONE, DONE)),
            "prune --dry-run": (lambda: ["prune", "--dry-run"], (DONE, DONE, DONE, DONE)),
            "prune": (lambda: ["prune"], (DONE, REFUSED, REFUSED, DONE)),
            "collect": (lambda: ["vault", "collect", "here"], (DONE, REFUSED, REFUSED, DONE)),
            "hold add": (lambda: ["hold", "add", snapshot, "--name", f"h{next(fresh)}"], (DONE, DONE, REFUSED, DONE)),
            "extend": (lambda: ["extend", snapshot, "--keep", "60d"], (DONE, REFUSED, REFUSED, DONE)),
            "disown": (lambda: ["vault", "disown", "here", "commits/none"], (1, REFUSED, REFUSED, REFUSED)),
            "key new": (lambda: ["vault", "key", "new", "here", "--role", "reader", "--name", f"k{next(fresh)}", "--to", target()],
                        (DONE, REFUSED, REFUSED, REFUSED)),
            "key revoke": (lambda: ["vault", "key", "revoke", "here", "spare"], (DONE, REFUSED, REFUSED, REFUSED)),
        }
        self.make_key("writer", "spare")
        wrong = []
        for verb, (words, expected) in table.items():
            # The owner last: what it does must not make the others' refusals easy.
            for role, status in sorted(zip(ROLES, expected), key=lambda pair: pair[0] == "owner"):
                outcome = self.run_as(role, *words(), status=None, cwd=self.cluster.data)
                if outcome.status != status:
                    wrong.append(f"{verb} as {role}: expected {status}\n{outcome}")
                elif status == REFUSED:
                    self.three_lines(outcome)
                    self.assertIn(role, outcome.err, outcome)
        self.assertEqual(wrong, [], "\n".join(wrong))

    def archived(self):
        """Names of segments in the vault."""
        done = (self.cluster.data / "pg_wal" / "archive_status").glob("0*.done")
        return sorted(path.name.removesuffix(".done") for path in done if "." not in path.name.removesuffix(".done"))

    def test_a_writer_backs_up_what_changed_and_only_a_reader_brings_it_back(self):
        first = self.backup_as("writer")
        self.cluster.sql("update entry set t = 'changed' where id % 10 = 0", "checkpoint")
        second = self.backup_as("writer")
        self.assertTrue(second["base"], second)  # built on the one before: structure was enough
        self.assertLess(second["added_bytes"], first["added_bytes"] / 2)
        wanted = self.cluster.sql("select count(*), sum(hashtext(t)::bigint) from entry")
        self.cluster.switch_wal()
        self.cluster.stop()
        target = self.folder / "restored"
        self.run_as("writer", "restore", "db", "--latest", "--to", target, status=REFUSED)
        self.assertFalse(target.exists())
        self.run_as("reader", "restore", "db", "--latest", "--to", target)
        restored = self.adopt(target)
        self.assertEqual(restored.sql("select count(*), sum(hashtext(t)::bigint) from entry"), wanted)
        restored.stop()
        # Proven by the reader, and so shown to everybody.
        self.run_as("reader", "drill", "db")
        self.assertTrue(self.snapshots()[-1]["proof"]["passed"], self.snapshots()[-1])

    def test_the_second_reader_believes_whom_the_owner_granted_it_to_and_nobody_else(self):
        self.backup_as("writer")
        self.cluster.stop()
        snapshot = self.snapshots()[-1]["id"]
        ours, theirs = self.folder / "ours", self.folder / "theirs"
        self.run_as("reader", "restore", f"db@{snapshot}", "--to", ours)
        command = ["/usr/bin/python3", harness.ROOT / "tests" / "format" / "reader.py", self.vault, self.keys["reader"], "restore", snapshot]
        done = subprocess.run([*command, theirs], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        one, other = harness.relation_files(ours), harness.relation_files(theirs)
        self.assertGreater(len(one), 500)
        self.assertEqual(harness.differing(one, other), [])
        shutil.rmtree(self.vault / "signers")
        done = subprocess.run([*command, self.folder / "never"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 4, done.stderr)

    def test_what_a_writer_and_a_keeper_see_names_no_file_and_no_table(self):
        self.cluster.sql("create table secretish_name (secretish_column int)", "insert into secretish_name values (1)", "checkpoint")
        self.backup_as("writer")
        relation = self.cluster.sql("select pg_relation_filepath('secretish_name')")
        for who in ("writer", "keeper"):
            seen = ""
            for words in (["snapshots", "db"], ["show", self.snapshots()[0]["id"]], ["wal", "show", "db"], ["vault", "show", "here"]):
                for form in ([], ["--json"]):
                    outcome = self.run_as(who, *words, *form)
                    seen += outcome.out + outcome.err
            for name in ("secretish", relation, "pg_control"):
                self.assertNotIn(name, seen)

    def test_another_writers_snapshot_is_never_built_on_V16(self):
        """A stolen writer's key could commit a snapshot of anything that claims pages are what they are not."""
        self.make_key("writer", "stolen")
        self.backup_as("writer")
        self.backup_as("stolen")
        after = self.backup_as("writer")
        mine = [snapshot["id"] for snapshot in self.snapshots()][0]
        self.assertEqual(after["base"], mine, after)
        # A new key has no snapshot of its own to build on: everything is read, and that is said.
        self.make_key("writer", "newcomer")
        outcome = self.run_as("newcomer", "backup", "db")
        self.assertIn("another writer", outcome.err, outcome)


class Keys(WithRoles):
    def test_a_key_file_is_private_and_never_overwritten(self):
        for role in ROLES[1:]:
            self.assertEqual(self.keys[role].stat().st_mode & 0o777, 0o600)
        before = self.keys["writer"].read_bytes()
        outcome = self.kuramori("vault", "key", "new", "here", "--role", "writer", "--to", self.keys["writer"], status=REFUSED)
        self.three_lines(outcome)
        self.assertEqual(self.keys["writer"].read_bytes(), before)
        # Nothing was granted for it either.
        listed = self.kuramori("vault", "key", "list", "here", "--json").json()["keys"]
        self.assertEqual(sorted(key["role"] for key in listed), sorted(ROLES))
        self.assertEqual([key["role"] for key in listed if key["in_use"]], ["owner"])

    def test_another_passphrase_touches_no_data_and_the_issue_2_key_still_opens(self):
        right, other = self.folder / "right", self.folder / "other"
        for path, text in ((right, "right horse\n"), (other, "other horse\n")):
            path.write_text(text)
            harness.give_to_server(path)
        objects = {path: path.read_bytes() for path in self.vault.rglob("*") if path.is_file()}
        wrapped, again = self.folder / "wrapped.key", self.folder / "again.key"
        self.run_as("writer", "vault", "key", "rewrap", "here", "--to", wrapped, "--new-passphrase-file", right)
        self.keys["wrapped"] = wrapped
        given = {"env": {"KURAMORI_PASSPHRASE_FILE": right}}
        self.run_as("wrapped", "vault", "key", "rewrap", "here", "--to", again, "--new-passphrase-file", other, **given)
        self.keys["again"] = again
        now = {path: path.read_bytes() for path in self.vault.rglob("*") if path.is_file()}
        self.assertEqual({path: body for path, body in now.items() if path in objects}, objects)
        self.assertEqual([path.parts[-3] for path in now.keys() - objects.keys()], ["audit"] * 2)  # a record of each
        self.run_as("again", "backup", "db", env={"KURAMORI_PASSPHRASE_FILE": other})
        self.run_as("again", "snapshots", env=given["env"], status=2)
        self.run_as("wrapped", "snapshots", **given)  # the old file works until it is removed
        self.run_as("owner", "snapshots")

    def test_a_revoked_writers_past_counts_and_its_future_does_not(self):
        self.backup_as("writer")
        self.cluster.switch_wal()
        before = [snapshot["id"] for snapshot in self.snapshots()]
        self.kuramori("vault", "key", "revoke", "here", "writer", "--reason", "the host was broken into")
        # It is told, by the program; a thief's program would go on, and is told by everybody else.
        outcome = self.run_as("writer", "backup", "db", status=REFUSED)
        self.three_lines(outcome)
        self.assertIn("the host was broken into", outcome.err)
        self.run_as("writer", "wal", "push", "--resource", "db", "x", status=REFUSED, cwd=self.cluster.data)
        self.assertEqual([snapshot["id"] for snapshot in self.snapshots()], before)
        self.kuramori("vault", "scrub", "here")
        target = self.folder / "restored"
        self.run_as("reader", "restore", "db", "--latest", "--to", target)
        self.assertTrue((target / "global" / "pg_control").exists())
        listed = {key["name"]: key for key in self.kuramori("vault", "key", "list", "here", "--json").json()["keys"]}
        self.assertTrue(listed["writer"]["revoked"])
        self.assertEqual(listed["writer"]["reason"], "the host was broken into")
        self.kuramori("vault", "key", "revoke", "here", "writer", status=REFUSED)  # once is enough
        self.kuramori("vault", "key", "revoke", "here", self.owner_id(), status=REFUSED)
        self.kuramori("vault", "key", "revoke", "here", "nobody", status=2)
        # A new key for the host, and life goes on.
        self.make_key("writer", "second")
        self.backup_as("second")
        self.assertEqual(len(self.snapshots()), len(before) + 1)
        self.kuramori("vault", "scrub", "here")

    def owner_id(self):
        return self.kuramori("vault", "key", "list", "here", "--json").json()["keys"][0]["id"]

    def test_a_key_the_vault_does_not_know_is_refused_in_words(self):
        shutil.rmtree(self.vault / "signers")
        for who, words in (("writer", ["backup", "db"]), ("reader", ["restore", "db", "--to", self.folder / "r"]), ("keeper", ["prune"])):
            outcome = self.run_as(who, *words, status=REFUSED)
            self.three_lines(outcome)
            self.assertIn("does not know", outcome.err)

    def test_a_removed_revocation_is_named_by_one_scrub(self):
        self.backup_as("writer")
        self.kuramori("vault", "key", "revoke", "here", "writer")
        for path in (self.vault / "signers").rglob("revoked*"):
            path.unlink()
        outcome = self.kuramori("vault", "scrub", "here", status=4)
        self.assertIn("revoked", outcome.out + outcome.err)


@unittest.skipUnless(shutil.which("gpg"), "gnupg is not installed")
class HandedOver(WithRoles):
    def test_a_key_goes_to_a_gpg_recipient_and_never_lies_in_clear_O1_S33(self):
        home = pathlib.Path(self.folder / "gnupg")
        home.mkdir(mode=0o700)
        harness.give_to_server(home)
        environment = {"GNUPGHOME": str(home)}

        def gpg(*words, **options):
            return subprocess.run(harness.as_server(["gpg", "--batch", "--no-tty", *words]), env=harness.environment(**environment),
                                  capture_output=True, check=True, cwd="/", **options).stdout

        try:
            gpg("--pinentry-mode", "loopback", "--passphrase", "", "--quick-generate-key", "backup@example.jp", "default", "default", "never")
            listing = gpg("--list-keys", "--with-colons").decode()
            fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:"))
            sealed = self.folder / "reader.key.asc"
            words = ["vault", "key", "new", "here", "--role", "reader", "--name", "colleague", "--to", sealed, "--to-gpg"]
            self.three_lines(self.kuramori(*words, "0" * 40, status=2, env=environment))
            self.three_lines(self.kuramori(*words, fingerprint[-16:], status=2, env=environment))
            self.assertFalse(sealed.exists())
            self.kuramori(*words, fingerprint, env=environment)
            self.assertTrue(sealed.read_bytes().startswith(b"-----BEGIN PGP MESSAGE-----"))
            self.assertNotIn(b"kuramori key bundle", sealed.read_bytes())
            opened = self.folder / "colleague.key"
            opened.touch(mode=0o600)
            harness.give_to_server(opened)
            opened.write_bytes(gpg("--pinentry-mode", "loopback", "--passphrase", "", "--decrypt", str(sealed)))
            self.keys["colleague"] = opened
            self.backup_as("owner")
            self.run_as("colleague", "restore", "db", "--to", self.folder / "restored")
        finally:
            subprocess.run(harness.as_server(["gpgconf", "--kill", "all"]), env=harness.environment(**environment), cwd="/", check=False)


if __name__ == "__main__":
    harness.main()
