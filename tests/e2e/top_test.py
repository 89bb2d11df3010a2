"""`top` on a real terminal (tmux): what it shows, at every size, and that it leaves the terminal as it was."""

import re
import shutil
import subprocess
import time
import unittest

import harness
import web
from daemon import SECONDS_MAX

TMUX = shutil.which("tmux")


@unittest.skipUnless(TMUX, "needs tmux")
class Top(web.Case):
    def tmux(self, *words):
        done = subprocess.run([TMUX, "-S", self.folder / "tmux", "-f", "/dev/null", *map(str, words)], capture_output=True, text=True,
                              env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TERM": "screen", "HOME": harness.NO_HOME})
        return done.stdout

    def tearDown(self):
        self.tmux("kill-server")
        super().tearDown()

    def screen(self, text, gone=False):
        deadline = time.monotonic() + SECONDS_MAX
        while (text in (shown := self.tmux("capture-pane", "-p", "-t", "t"))) == gone:
            self.assertLess(time.monotonic(), deadline, f"{text!r}, gone: {gone}\n{shown}")
            time.sleep(0.05)
        return shown

    def open(self, *words, columns=120, rows=36):
        """A shell in a terminal, which runs the program."""
        self.tmux("new-session", "-d", "-s", "t", "-x", columns, "-y", rows, "/bin/sh")
        self.tmux("set", "-g", "window-size", "manual")
        self.tmux("send-keys", "-t", "t", "PS1='shell> '; stty -a > " + str(self.folder / "before"), "Enter")
        line = " ".join(map(str, [f"KURAMORI_STATE={self.state}", self.programs / "kuramori", "--config", self.config, "top", *words]))
        self.tmux("send-keys", "-t", "t", line, "Enter")

    def assert_terminal_is_as_it_was(self):
        self.screen("shell> ")
        self.tmux("send-keys", "-t", "t", "stty -a > " + str(self.folder / "after") + "; echo 'do''ne'", "Enter")
        shown = self.screen("done")
        self.assertIn("top", shown)  # the command line of before: the first screen is back
        before, after = (re.sub(r"rows \d+; columns \d+", "", (self.folder / name).read_text()) for name in ("before", "after"))
        self.assertEqual(before, after)
        self.assertEqual(self.tmux("display-message", "-p", "-t", "t", "#{cursor_flag} #{alternate_on}").strip(), "1 0")

    def test_it_is_live_fits_and_leaves_no_trace(self):
        self.listen('  p: { resources: [files, endless], vault: here, schedule: "0 3 * * *" }\n'
                    '  q: { resources: [flaky], vault: here, schedule: "0 3 * * *" }\n')
        self.serve_web()
        self.open()
        shown = self.screen("unprotected")
        self.assertIn("no plan protects it", self.screen("no plan protects it"))
        self.mine("jobs", "--start", "backup p/files")
        self.mine("jobs", "--start", "backup p/endless")
        shown = self.screen("backup p/endless")
        shown = self.screen("1 running")
        shown = self.screen("protected  ")
        self.assertIn("next run", shown)
        first = self.screen("looked at")
        self.until("it moves", lambda: self.tmux("capture-pane", "-p", "-t", "t") != first)
        # Any size: every line fits, and the head stays.
        for columns, rows in ((60, 20), (30, 12), (12, 5), (200, 50)):
            self.tmux("resize-window", "-t", "t", "-x", columns, "-y", rows)
            time.sleep(0.5)
            shown = self.tmux("capture-pane", "-p", "-t", "t")
            self.assertTrue(shown.startswith("kuramori"), shown)
        self.tmux("send-keys", "-t", "t", "q")
        self.assert_terminal_is_as_it_was()

    def test_asked_to_end_it_leaves_no_trace_either(self):
        self.listen('  p: { resources: [files], vault: here, schedule: "0 3 * * *" }\n')
        for how in ("C-c", "TERM", "ABRT"):
            self.open()
            self.screen("unprotected")
            if how == "C-c":
                self.tmux("send-keys", "-t", "t", "C-c")
            else:
                pid = self.tmux("display-message", "-p", "-t", "t", "#{pane_pid}").strip()
                child = subprocess.run(["pgrep", "-P", pid], capture_output=True, text=True).stdout.strip()
                subprocess.run(["kill", f"-{how}", child], check=True)
            self.assert_terminal_is_as_it_was()
            self.tmux("kill-server")
            time.sleep(0.2)

    def test_one_frame_without_a_terminal_here_and_of_a_daemon_elsewhere(self):
        self.certificate()
        self.listen('  p: { resources: [files], vault: here, every: 1h }\n')
        once = self.mine("top", "--once").out
        self.assertIn("no daemon has run plans here", once)
        self.assertIn("unprotected", once)
        self.assertNotIn("\033", once)
        self.serve_web()
        self.mine("jobs", "--start", "backup p/files")
        self.await_runs(1, "backup p/files", "COMPLETED")
        (self.folder / "token").write_text(self.tokens["viewer"])
        there = ["top", "--once", "--from", f"https://127.0.0.1:{self.port}", "--ca-file", self.tls, "--token-file", self.folder / "token"]
        self.until("it is seen", lambda: "  1 protected" in self.mine(*there).out)
        self.assertIn(f"https://127.0.0.1:{self.port}, looked at", self.mine(*there).out)
        (self.folder / "token").write_text("kuramori-0000000000000000000000000000")
        wrong = self.mine(*there, status=1)
        self.assertIn("nobody has that token", wrong.out + wrong.err)
        self.assertIn("--once", self.mine("top", status=2).err)
        self.assertIn("status --json", self.mine("top", "--once", "--json", status=2).out)


if __name__ == "__main__":
    web.main()
