"""Every role at work in a real S3 store, with an access key that may do no more than the printed policy lets it."""

import harness
import role_users


class UnderPolicies(harness.Case):
    place_kind = "rgw"
    in_memory = True

    def setUp(self):
        super().setUp()
        self.cluster = self.server(initdb=["--wal-segsize=1"])
        self.cluster.sql("create table entry as select i id, md5(i::text) t from generate_series(1, 2000) i")
        self.roles = role_users.RoleUsers(self)
        for role in ("writer", "reader", "keeper"):
            self.roles.make(role)

    def test_each_role_does_its_work_and_no_other_O2(self):
        run = self.roles.run
        run("writer", "backup", "db")
        self.cluster.sql("update entry set t = 'changed' where id % 10 = 0", "checkpoint")
        second = run("writer", "backup", "db", "--json").json()["snapshot"]
        self.assertTrue(second["base"], second)
        self.cluster.switch_wal()
        run("writer", "snapshots")
        run("writer", "wal", "show", "db")
        run("keeper", "vault", "scrub", "here")
        run("keeper", "extend", second["id"], "--keep", "60d")
        run("keeper", "hold", "add", second["id"], "--name", "audit")
        run("keeper", "hold", "remove", second["id"], "--name", "audit")
        run("keeper", "prune")
        run("keeper", "vault", "collect", "here")
        run("reader", "drill", "db")
        run("reader", "vault", "scrub", "here")
        target = self.folder / "restored"
        run("reader", "restore", "db", "--latest", "--to", target)
        self.assertTrue((target / "global" / "pg_control").exists())
        for name, words in {"writer": ["restore", "db", "--to", self.folder / "no"], "reader": ["backup", "db"],
                            "keeper": ["restore", "db", "--to", self.folder / "no"]}.items():
            run(name, *words, status=5)


class UnderPoliciesLocked(UnderPolicies):
    """The same where everything is locked for a day, and a ledger stands beside."""

    place_kind = "locked"


if __name__ == "__main__":
    harness.main()
