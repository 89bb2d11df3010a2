"""The recovery kit and its escrow drill: with the page alone, and nothing of the lost machine, everything comes back (O1)."""

import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import unittest

import harness

QUIET, SCALE = 4, 3  # modules around a QR code; pixels a module


class Kit(harness.Case):
    in_memory = True

    def setUp(self):
        super().setUp()
        self.cluster = self.server(initdb=["--wal-segsize=1"])
        self.cluster.sql("create table entry as select i id, md5(i::text) t from generate_series(1, 2000) i")
        self.kuramori("backup", "db")
        self.passphrase = self.write("pass", "correct horse battery\n")

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        harness.give_to_server(path)
        return path

    def make_kit(self, *more, status=0):
        path = self.folder / "kit.txt"
        outcome = self.kuramori("vault", "kit", "here", "--to", path, *more, status=status)
        return path, outcome

    def commands(self, page):
        """What the page says to type."""
        return [line.strip() for line in page.read_text().splitlines() if line.startswith("    ") and ("kuramori " in line or "sed " in line)]

    def test_the_escrow_drill_page_and_passphrase_alone_bring_it_back(self):
        page, _ = self.make_kit("--passphrase-file", self.passphrase)
        self.assertEqual(page.stat().st_mode & 0o777, 0o600)
        self.cluster.sql("insert into entry select i, 'later' from generate_series(2001, 3000) i")
        self.cluster.switch_wal()
        self.cluster.kill()
        # The machine is gone: its data, its configuration, its key file.
        shutil.rmtree(self.cluster.data)
        self.config.unlink()
        self.key.unlink()
        home = pathlib.Path(self.folder / "elsewhere")
        home.mkdir()
        harness.give_to_server(home)
        shutil.copy(page, home / "page")
        (home / "page").chmod(0o644)
        environment = harness.environment(KURAMORI_PASSPHRASE_FILE=self.passphrase)
        environment["PATH"] = f"{self.programs}:{environment['PATH']}"
        typed = self.commands(page)
        self.assertTrue(typed[0].startswith("(umask"), typed)
        self.assertTrue(any(" restore db --latest " in line for line in typed), typed)
        for line in typed:
            line = line.replace("THIS-PAGE", "page").replace("/new/", f"{home}/")
            done = subprocess.run(harness.as_server(["sh", "-c", line]), cwd=home, env=environment, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, f"{line}\n{done.stdout}{done.stderr}")
        self.assertEqual((home / "kuramori.key").stat().st_mode & 0o777, 0o600)
        restored = self.adopt(home / "db")
        self.assertEqual(restored.sql("select count(*) from entry"), "3000")

    def test_the_page_holds_the_key_wrapped_and_not_the_passphrase(self):
        page, _ = self.make_kit("--passphrase-file", self.passphrase)
        text = page.read_text()
        self.assertIn("wrap: argon2id", text)
        self.assertNotIn("correct horse", text)
        plain = self.key.read_text()
        body = plain[plain.index("body:\n") + 6:plain.rindex("check:")].split()[0]
        self.assertNotIn(body, text)

    def test_without_a_passphrase_the_key_files_own_wrapping_stands_there_and_it_says_so(self):
        page, _ = self.make_kit()
        text = page.read_text()
        self.assertIn(self.key.read_text(), text)
        self.assertIn("UNDER\nNO PASSPHRASE", text.upper())

    def test_making_one_is_audited_and_a_missing_audit_record_is_named(self):
        numbered = "[0-9]" * 10
        self.assertEqual(list((self.vault / "audit").glob(numbered)) if (self.vault / "audit").exists() else [], [])
        self.make_kit()
        self.assertEqual(len(list((self.vault / "audit").glob(numbered))), 1)
        self.kuramori("vault", "key", "new", "here", "--role", "reader", "--to", self.folder / "r.key")
        self.kuramori("vault", "scrub", "here")
        first = sorted((self.vault / "audit").glob(numbered))[0]
        first.unlink()
        outcome = self.kuramori("vault", "scrub", "here", status=4)
        self.assertIn(first.name, outcome.out + outcome.err)

    def test_only_the_owner_makes_one_and_nothing_is_overwritten(self):
        for role in ("writer", "reader", "keeper"):
            key = self.folder / f"{role}.key"
            self.kuramori("vault", "key", "new", "here", "--role", role, "--to", key)
            self.kuramori("--key-file", key, "vault", "kit", "here", "--to", self.folder / "never", status=5)
        self.assertFalse((self.folder / "never").exists())
        page, _ = self.make_kit()
        before = page.read_bytes()
        self.make_kit(status=5)
        self.assertEqual(page.read_bytes(), before)

    def test_all_copies_are_on_it(self):
        copy = self.folder / "copy"
        text = self.config.read_text().replace("resources:", f'  far: {{ at: "file://{copy}", site: osaka, copy_of: here, key_file: "{self.key}" }}\n'
                                               f'  other: {{ at: "file:///nowhere", site: x, key_file: "{self.key}" }}\nresources:', 1)
        self.config.write_text(text)
        page, _ = self.make_kit()
        self.assertIn(str(copy), page.read_text())
        self.assertIn("osaka", page.read_text())
        self.assertNotIn("/nowhere", page.read_text())
        self.assertEqual(sum(f"--vault {copy}" in line for line in self.commands(page)), 2)

    def on_terminal(self, answer):
        """What a person sees who types `answer`."""
        parent, child = pty.openpty()
        command = harness.as_server([self.programs / "kuramori", "--config", self.config, "vault", "kit", "here", "--to", "-"])
        process = subprocess.Popen([str(word) for word in command], stdin=child, stdout=child, stderr=child, env=harness.environment(), cwd="/")
        os.close(child)
        os.write(parent, answer.encode() + b"\n")
        seen = b""
        while True:
            readable, _, _ = select.select([parent], [], [], 60)
            try:
                more = os.read(parent, 65536) if readable else b""
            except OSError:
                more = b""
            if not more:
                break
            seen += more
        os.close(parent)
        return process.wait(60), seen.decode()

    def test_on_a_terminal_only_after_the_vaults_name_was_typed(self):
        status, seen = self.on_terminal("wrong")
        self.assertEqual(status, 5, seen)
        self.assertNotIn("key bundle", seen)
        status, seen = self.on_terminal("here")
        self.assertEqual(status, 0, seen)
        self.assertIn("kuramori key bundle 1", seen)
        # Not into a pipe, where nobody sees where it goes.
        outcome = self.kuramori("vault", "kit", "here", "--to", "-", status=5)
        self.assertNotIn("key bundle", outcome.out)

    @unittest.skipUnless(shutil.which("zbarimg"), "zbar-tools is not installed")
    def test_the_square_on_paper_reads_back_as_the_key_file(self):
        page, _ = self.make_kit("--passphrase-file", self.passphrase)
        text = page.read_text()
        key = text[text.index("kuramori key bundle 1\n"):text.index("--- the same lines")]
        square = text[text.index("as a square ---\n\n") + len("as a square ---\n\n"):].rstrip("\n").split("\n")
        rows = []
        for line in square:
            rows.append([c in "█▀" for c in line])
            rows.append([c in "█▄" for c in line])
        width = max(len(row) for row in rows)
        image = b"P5 %d %d 255\n" % (width * SCALE, len(rows) * SCALE)
        for row in rows:
            row = row + [False] * (width - len(row))
            image += b"".join((b"\0" if dark else b"\xff") * SCALE for dark in row) * SCALE
        picture = self.folder / "square.pgm"
        picture.write_bytes(image)
        done = subprocess.run(["zbarimg", "--quiet", "--raw", str(picture)], capture_output=True, check=True)
        self.assertEqual(done.stdout.decode().rstrip("\n"), key.rstrip("\n"))
        self.assertTrue(re.search(r"check: [0-9a-f]{16}", key))


if __name__ == "__main__":
    harness.main()
