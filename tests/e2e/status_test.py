"""`status`: what is protected now beside what is promised, and it says so when it is not (A1, B5, M1)."""

import datetime
import shutil
import time

import harness


def moment(text):
    return datetime.datetime.fromisoformat(text.rstrip("Z")[:26])


class Status(harness.Case):
    in_memory = True

    def setUp(self):
        super().setUp()
        self.database = self.server(initdb=["--wal-segsize=1"])
        data = self.folder / "uploads"
        data.mkdir()
        (data / "one").write_text("one")
        away = f'  away: {{ at: "{self.folder / "away"}", site: far, key_file: "{self.key}", copy_of: here }}\n'
        text = self.config.read_text().replace("vaults:\n", "vaults:\n" + away, 1)
        text = text.replace("resources:\n", f"""resources:
  notes: {{ kind: files, paths: [{data}] }}
  uploads: {{ kind: files, paths: [{data}], criticality: high, objectives: {{ rpo: 10s, rto: 1h }} }}
""", 1)
        text = text.replace("    kind: postgres\n", "    kind: postgres\n    criticality: critical\n    objectives: { rpo: 1h }\n", 1)
        text = text.replace("plans:\n", "plans:\n  files: { resources: [uploads], vault: here, keep: { all: 14d }, copies: [ { to: away } ] }\n", 1)
        self.config.write_text(text)
        self.kuramori("vault", "init", "away")

    def looked(self, *words, code=0):
        return {one["resource"]: one for one in self.kuramori("status", *words, "--json", status=code).json()["resources"]}

    def test_promises_kept_and_broken(self):
        self.assertEqual([self.looked()[name]["state"] for name in ("db", "uploads", "notes")], ["unprotected"] * 3)
        self.assertEqual(list(self.looked()), ["db", "uploads", "notes"])  # the most critical first (A1)
        listed = self.kuramori("resources", "--json").json()["resources"]
        self.assertEqual([one["name"] for one in listed], ["db", "uploads", "notes"])
        self.assertEqual(self.looked()["notes"]["broken"], ["no plan protects it"])
        self.assertIn("no plan protects it", self.kuramori("status").out)
        self.kuramori("status", "--check", status=4)  # M1

        self.kuramori("backup", "db")
        self.kuramori("backup", "uploads")
        at = self.looked()["uploads"]
        self.assertEqual(at["broken"], ["away has no snapshot of it"])
        self.kuramori("copy", "--to", "away")
        at = self.looked()["uploads"]
        self.assertEqual((at["state"], [place["snapshots"] for place in at["places"]]), ("protected", [1, 1]), at)
        self.kuramori("status", "uploads", "--check")

        # WAL brings it forward, and without any it falls behind.
        before = self.looked()["db"]
        time.sleep(1.1)
        self.database.sql("create table entry as select 1 as one")
        self.database.switch_wal()
        after = self.looked()["db"]
        self.assertGreater(moment(after["restorable_to"]), moment(before["restorable_to"]))
        self.assertEqual((after["state"], after["rpo"]), ("protected", "1h"))
        time.sleep(10 - min(9, at["rpo_achieved_seconds"]))
        late = self.looked("uploads", "--check", code=4)["uploads"]
        self.assertEqual(late["state"], "at risk")
        self.assertGreater(late["rpo_achieved_seconds"], 10)
        self.assertRegex(late["broken"][0], r"what is newer than 1\d s cannot be restored, promised: 10s")

        # A proof counts, and a vault that is away is said to be.
        self.kuramori("drill", "uploads")
        proven = self.looked()["uploads"]
        self.assertTrue(proven["last_passed"]["passed"])
        self.assertGreater(proven["rto_achieved_seconds"], 0)
        shutil.move(self.folder / "away", self.folder / "gone")
        gone = self.looked()["uploads"]
        self.assertTrue(any(sentence.startswith("away cannot be looked at: ") for sentence in gone["broken"]), gone["broken"])

        # With a vault and a key alone: what is there, and no promises.
        alone = self.kuramori("status", "--vault", self.vault, "--key-file", self.key, "--json", config=False).json()["resources"]
        self.assertEqual({one["resource"]: one["broken"] for one in alone}, {"db": [], "uploads": []})
        refused = self.kuramori("status", "nobody", status=2)
        self.assertIn('nobody knows a resource "nobody"', refused.err)


class Ages(harness.Case):
    in_memory = True

    def test_S18_M3_the_age_is_that_of_the_newest_by_time_whatever_its_name_and_whoever_looks(self):
        data = self.folder / "uploads"
        data.mkdir()
        self.config.write_text(f"""vaults:
  here: {{ at: "file://{self.vault}", site: here, key_file: "{self.key}" }}
resources:
  uploads: {{ kind: files, paths: [{data}], objectives: {{ rpo: 1h }} }}
plans:
  files: {{ resources: [uploads], vault: here, every: 1h, keep: {{ all: 14d }} }}
""")
        self.kuramori("vault", "init", "here")
        made = []
        # Its name comes before those of the first ones, as in a list of names; some are made until that is so.
        while len(made) < 4 or made[-1]["id"] > min(one["id"] for one in made[:3]):
            self.assertLess(len(made), 200)
            (data / "one").write_text(str(len(made)))
            made.append(self.kuramori("backup", "uploads", "--json").json()["snapshot"])
        newest = max(self.kuramori("snapshots", "uploads", "--json").json()["snapshots"], key=lambda one: moment(one["time"]))
        self.assertEqual(newest["id"], made[-1]["id"])
        for zone in ("UTC", "Asia/Tokyo", "America/New_York"):
            begun = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
            [at] = self.kuramori("status", "--json", env={"TZ": zone}).json()["resources"]
            self.assertEqual((at["restorable_to"], at["broken"]), (newest["time"], []), zone)
            age = (begun - moment(newest["time"])).total_seconds()
            self.assertLess(abs(at["rpo_achieved_seconds"] - age), 30, zone)
            self.kuramori("status", "--check", env={"TZ": zone})


if __name__ == "__main__":
    harness.main()
