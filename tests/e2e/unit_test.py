"""The unit file (packaging/kuramori.service), by systemd's own judgement."""

import re
import subprocess

import harness

UNIT = harness.ROOT / "packaging" / "kuramori.service"
EXPOSURE_MAX = 3.0  # of 10; what reads everything and starts servers in namespaces is not at 1


class Unit(harness.Case):
    def analyze(self, *words):
        return subprocess.run(["systemd-analyze", *map(str, words)], capture_output=True, text=True, timeout=harness.COMMAND_SECONDS_MAX,
                              stdin=subprocess.DEVNULL, env=harness.environment())

    def test_the_unit_is_understood_and_its_command_is_one(self):
        text = UNIT.read_text()
        line = re.search(r"^ExecStart=(.*)$", text, re.M)[1]
        self.assertEqual(line.split()[0], "/usr/bin/kuramori")
        # As installed: with the program where this build has it.
        unit = self.folder / "kuramori.service"
        unit.write_text(text.replace("/usr/bin/kuramori", str(self.programs / "kuramori")))
        done = self.analyze("verify", "--man=no", unit)
        told = [line for line in (done.stdout + done.stderr).splitlines() if "kuramori" in line]
        self.assertEqual((done.returncode, told), (0, []), done.stderr)
        helped = self.kuramori("serve", "--help", config=False)
        self.assertIn("--stop-within", helped.out)

    def test_what_it_may_is_little(self):
        done = self.analyze("security", "--offline=true", f"--threshold={int(EXPOSURE_MAX * 10)}", UNIT)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    harness.main()
